"""Two hundred requests that mean harm or are mistaken: each is answered by a sentence, and the studio goes on."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the studio's extra is not installed")

from serving import Served, serve
from talking import add_mask, ask, disc, drawing, events, png, raw

API = "/api/v1"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder) / "studio", FAKE_BODY_SECONDS="1") as one:
        yield one


def resident(pid: int) -> float:
    """Memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be so large."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def saved(mode: str, format: str, size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format)
    return buffer.getvalue()


GOOD = png(disc() * 255)
HOSTS = (
    "evil.example",
    "127.0.0.1",
    "127.0.0.1:1",
    "localhost.evil:{port}",
    "[::1",
    "127.0.0.1:{port}.evil",
    "0.0.0.0:{port}",
    "",
)
ORIGINS = (
    "http://evil.example",
    "null",
    "https://127.0.0.1:{port}",
    "http://127.0.0.1",
    "http://localhost:1",
    "file://",
    "<script>",
)
PATHS = (
    "/static/../server.py",
    "/static/..%2fserver.py",
    "/static/%2e%2e/%2e%2e/config.yaml",
    "/static/....//server.py",
    "/static//etc/passwd",
    "/static/%00",
    "/static/index.html%00.png",
    "/..%2f..%2fetc%2fpasswd",
    "/%2e%2e/",
    "//etc/passwd",
    f"{API}/masks/../../../etc/passwd.png",
    f"{API}/masks/..%2f..%2fsettings.png",
    f"{API}/masks/%2e%2e%2fsettings.png",
    f"{API}/masks/0000000000000000.png",
    f"{API}/masks/000000000000000g.png",
    f"{API}/masks/0.png",
    f"{API}/masks/.png",
    f"{API}/masks/" + "a" * 5000 + ".png",
    f"{API}/masks/~root.png",
    f"{API}/masks/C:%5Cboot.png",
    f"{API}/pictures/../settings.json",
    f"{API}/pictures/..%2fsettings.json",
    f"{API}/pictures/0000000000000000.json",
    f"{API}/pictures/*.json",
    f"{API}/pictures/%3Cscript%3E.json",
    f"{API}/pictures/'%20or%201=1.json",
    f"{API}/pictures/0.exe",
    f"{API}/../../etc/passwd",
    "/api/v2",
    "/api",
    "/admin",
    "/.git/config",
    "/static/",
    "/static",
    "/favicon.ico",
    "/server.py",
)
UPLOADS = {
    "empty": b"",
    "text": b"no image",
    "html": b"<html><script>alert(1)</script>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "gif": saved("L", "GIF"),
    "webp": b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 40,
    "pdf": b"%PDF-1.7",
    "zip": b"PK\3\4" + b"\0" * 40,
    "wide bomb": bomb(2**31 - 1, 1),
    "square bomb": bomb(60000, 60000),
    "bomb under Pillow's limit": bomb(9000, 9000),
    "nothing": bomb(0, 0),
    "cut": GOOD[:60],
    "header alone": GOOD[:33],
    "flipped": GOOD[:-20] + b"\xff" * 20,
    "wrong checksum": GOOD.replace(b"IDAT", b"IDAX"),
    "noise": bytes(np.random.default_rng(0).integers(0, 256, 4096, np.uint8)),
    "broken jpeg": b"\xff\xd8\xff\xe0" + b"\0" * 100,
    "broken tiff": b"II*\0" + b"\xff" * 100,
    "broken bmp": b"BM" + b"\xff" * 100,
    "pickle": b"\x80\x04\x95\x0e\0\0\0\0\0\0\0\x8c\x05posix\x94.",
}
MASKS = {
    "black": png(np.zeros((64, 64), np.uint8)),
    "one pixel of many": png(np.eye(1, 2**20, dtype=np.uint8).reshape(1024, 1024) * 255),
    "colours": png(np.dstack([disc() * 255, disc() * 0, disc() * 9])),
    "floats": saved("F", "TIFF"),
}
SIZES = ("0", "-128", "127", "1e9", "99999", "128;rm", "12８", "%00", "NaN", "")
VALUES = ({}, [], "x", -1, 2**63, 1e308, True, "A" * 100_000, None)
BODIES = (
    "",
    "null",
    "[]",
    "{",
    "{}",
    '"x"',
    "[" * 100_000,
    '{"a":' * 5_000,
    "\ud800".encode("utf-8", "surrogatepass"),
    b"\xff\xfe",
    b"\0",
    "NaN",
)
KEYS = ("generator", "mask", "seed", "sampler", "num_steps", "guidance_scale", "conditioning_scale", "attributes")
SCRIPTS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}",
    "${7*7}",
    "%s%s%n",
    "'; DROP TABLE x; --",
    "\u202eevil",
    "a\0b",
    "A" * 1999,
    "../../etc/passwd",
    "$(touch /tmp/hacked)",
)
RAW = {
    "100 MB announced": b"POST /api/v1/masks {http}Content-Length: 100000000\r\n\r\n",
    "length below nothing": b"POST /api/v1/masks {http}Content-Length: -1\r\n\r\n",
    "two lengths": b"POST /api/v1/masks {http}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length in words": b"POST /api/v1/masks {http}Content-Length: many\r\n\r\n",
    "length and chunks": b"POST /api/v1/settings {http}Content-Length: 5\r\n{chunked}0\r\n\r\n",
    "endless header": b"GET / {http}X: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET / {http}" + b"X: y\r\n" * 20_000 + b"\r\n",
    "two hosts": b"GET / {http}Host: evil\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "old protocol": b"GET / HTTP/1.0\r\n\r\n",
    "no protocol": b"hello\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    "proxy": b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    "websocket": b"GET /api/v1 HTTP/1.1\r\nHost: evil\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "chunks without end": b"POST /api/v1/masks {http}{chunked}5\r\nhello\r\n",
    "a chunk that lies": b"POST /api/v1/masks {http}{chunked}FFFFFFFFFF\r\nhello",
    "half a body": b"POST /api/v1/masks {http}Content-Length: 1000\r\n\r\nhalf",
    "half a header": b"GET / HTTP/1.1\r\nHos",
    "many chunks": b"POST /api/v1/sets {http}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"10000\r\n"
    + b"x" * 65536
    + b"\r\n"
    + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 8
    + b"0\r\n\r\n",
}
ENDPOINTS = ("prompts", "pictures", "rolls", "sets")
NUMBER = (
    len(HOSTS) * 2
    + len(ORIGINS) * 3
    + len(PATHS)
    + len(UPLOADS) * 2
    + len(MASKS)
    + len(SIZES)
    + len(VALUES) * len(KEYS)
    + len(BODIES) * len(ENDPOINTS)
    + len(SCRIPTS)
    + len(RAW) * 2
)


def _raw(name: str, port: int) -> bytes:
    """The bytes with the head that is in order."""
    return (
        RAW[name]
        .replace(b"{chunked}", b"Transfer-Encoding: chunked\r\n\r\n")
        .replace(b"{http}", f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())
    )


def check(status: int, headers: dict[str, str], body: bytes) -> str:
    """Refused by a sentence, and nothing of the inside in it; returns the sentence."""
    assert 400 <= status < 500, (status, body[:300])
    assert headers["content-type"] == "application/json"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    sentence = json.loads(body)["error"]
    assert sentence
    assert len(sentence) < 1001
    assert not any(word in sentence for word in ("Traceback", ".py", "/work", "/tmp", "site-packages"))
    return sentence


def test_there_are_200_of_them():
    assert NUMBER >= 200


@pytest.mark.parametrize("path", ["/", f"{API}/settings"])
@pytest.mark.parametrize("host", HOSTS)
def test_another_host(served, host, path):
    check(*ask(served.port, "GET", path, headers={"Host": host.format(port=served.port)}))


@pytest.mark.parametrize(("method", "path"), [("GET", API), ("POST", f"{API}/masks"), ("PUT", f"{API}/settings")])
@pytest.mark.parametrize("origin", ORIGINS)
def test_another_origin(served, origin, method, path):
    body = GOOD if method == "POST" else {"a": 1} if method == "PUT" else None
    check(*ask(served.port, method, path, body, {"Origin": origin.format(port=served.port)}))


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_elsewhere(served, path):
    check(*ask(served.port, "GET", path))


@pytest.mark.parametrize("name", UPLOADS)
def test_uploads_that_are_no_image(served, name):
    check(*ask(served.port, "POST", f"{API}/masks", UPLOADS[name]))
    # Of a photograph the server reads the header alone; its pixels are the worker's affair.
    if name not in ("cut", "flipped", "wrong checksum", "header alone"):
        check(*ask(served.port, "POST", f"{API}/segments", UPLOADS[name]))


@pytest.mark.parametrize("name", MASKS)
def test_images_that_are_no_mask(served, name):
    check(*ask(served.port, "POST", f"{API}/masks", MASKS[name]))


@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_are_none(served, size):
    check(*ask(served.port, "POST", f"{API}/masks?size={quote(size, safe='%')}", GOOD))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
def test_values_of_a_wrong_type(served, key, value):
    if value is None and key not in ("generator", "mask", "seed"):
        return  # as if it were not said
    if (key, value) in (("attributes", []), ("seed", 0)):
        return
    mask = add_mask(served.port)
    check(*ask(served.port, "POST", f"{API}/pictures", {**drawing(mask), key: value}))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body)[:12])
def test_bodies_that_are_no_request(served, endpoint, body):
    sent = body if isinstance(body, bytes) else body.encode()
    check(*ask(served.port, "POST", f"{API}/{endpoint}", sent, {"Content-Type": "application/json"}))
    check(*ask(served.port, "POST", f"{API}/{endpoint}", sent, {"Content-Type": "text/plain"}))


@pytest.mark.parametrize("text", SCRIPTS)
def test_scripts_in_a_prompt_stay_words(served, text):
    found = list(events(served.port, f"{API}/pictures", drawing(add_mask(served.port), text=text)))
    assert found[-1] == {"done": True}
    (picture,) = [one["picture"] for one in found if "picture" in one]
    assert picture["prompt"] == text
    status, headers, body = ask(served.port, "GET", f"{API}/pictures/{picture['id']}.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["drawing"]["text"] == text


@pytest.mark.parametrize("shut", [False, True], ids=["open", "half-closed"])
@pytest.mark.parametrize("name", RAW)
def test_requests_that_break_the_protocol(served, name, shut):
    # A socket that stays open for a second is given up by then, or by uvicorn's own time for an idle one.
    answer = raw(served.port, _raw(name, served.port), shut or name == "half a header")
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer[:300]
    assert b"Traceback" not in answer


def test_afterwards_the_studio_goes_on_as_before(served):
    """What stands above leaves no trace: memory, files, the log."""
    before = resident(served.process.pid)
    for _ in range(3):
        for data in UPLOADS.values():
            ask(served.port, "POST", f"{API}/masks", data)
        for path in PATHS:
            ask(served.port, "GET", path)
    assert resident(served.process.pid) - before < 10
    assert ask(served.port, "GET", API)[0] == 200
    assert list(events(served.port, f"{API}/pictures", drawing(add_mask(served.port))))[-1] == {"done": True}
    assert "Traceback" not in served.said, served.said
    assert {path.name for path in served.folder.iterdir()} <= {"log.txt", "runs", "store"}
    assert {path.name for path in (served.folder / "runs").iterdir()} == {"studio"}
    assert not Path("/tmp/hacked").exists()
