"""Who may ask: hosts, tokens, and the page's own colours, which are to be read by everyone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from dermprompt.studio import server
from dermprompt.studio.command import address, configuration, hosts, listen
from dermprompt.studio.guard import Guard

TOKEN = "abcdefgh"


def client(hosts: frozenset[str] | None, token: str | None = None) -> TestClient:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("inside")(scope, receive, send)

    return TestClient(Guard(app, hosts, token), base_url="http://studio:80", follow_redirects=False)


def test_with_a_token_nothing_is_answered_without_it():
    guarded = client(None, TOKEN)
    for path, headers in (
        ("/", {}),
        ("/?token=wrong", {}),
        ("/api/v1", {}),
        ("/api/v1?token=" + TOKEN, {}),
        ("/api/v1", {"Authorization": "Bearer "}),
        ("/api/v1", {"Authorization": f"Basic {TOKEN}"}),
        ("/api/v1", {"Cookie": "dermprompt-studio="}),
        ("/api/v1", {"Cookie": "dermprompt-studio=\u00fc"}),
    ):
        answer = guarded.get(path, headers={key: value.encode("latin-1") for key, value in headers.items()})
        assert answer.status_code == 401
        assert "token is missing" in answer.json()["error"]


def test_the_token_in_the_address_becomes_a_cookie_that_no_script_reads():
    guarded = client(None, TOKEN)
    answer = guarded.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "samesite=strict" in answer.headers["set-cookie"].lower()
    assert guarded.get("/api/v1").text == "inside"
    guarded.cookies.clear()
    assert guarded.get("/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}).text == "inside"


def test_another_site_is_refused_though_it_has_the_cookie():
    guarded = client(None, TOKEN)
    guarded.get(f"/?token={TOKEN}")
    for headers in ({"Origin": "http://evil"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        assert guarded.get("/api/v1", headers=headers).status_code == 403
    assert guarded.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link to the page


def test_too_many_headers_are_refused():
    assert client(frozenset({"studio"})).get("/", headers={f"x-{k}": "y" for k in range(120)}).status_code == 431


def test_hosts_and_addresses():
    assert hosts("127.0.0.1", 8321) == {"127.0.0.1:8321", "localhost:8321", "[::1]:8321"}
    assert hosts("192.168.0.7", 80) == {"192.168.0.7:80", "192.168.0.7"}
    assert hosts("0.0.0.0", 8321) is None
    assert address("127.0.0.1", 8321, None) == "http://127.0.0.1:8321/"
    assert address("10.0.0.1", 8321, TOKEN) == f"http://10.0.0.1:8321/?token={TOKEN}"


def test_a_port_that_is_taken_is_said():
    with listen("127.0.0.1", 0) as taken, pytest.raises(ValueError, match="choose another port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_a_generator_that_is_named_is_refused():
    with pytest.raises(ValueError, match="generator=warp: the studio offers every generator"):
        configuration(["generator=warp"])


def test_the_page_names_nothing_from_elsewhere():
    for path in server.STATIC.iterdir():
        text = path.read_text()
        assert not re.search(
            r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|outerHTML|insertAdjacent|eval\(|document\.write", text
        ), path
        assert not re.search(r"\son\w+=|style=|<script(?! type=\"module\" src)", text) or path.suffix == ".js", path


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 2], ids=["light", "dark"])
def test_contrast(theme):
    style = Path(server.STATIC / "style.css").read_text()
    block = re.findall(r":root[^{]*\{([^}]*)\}", style)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
    for text, ground, least in (
        ("ink", "paper", 7),
        ("ink", "panel", 7),
        ("ink", "raised", 7),
        ("muted", "paper", 4.5),
        ("muted", "panel", 4.5),
        ("muted", "raised", 4.5),
        ("accent", "panel", 4.5),
        ("accent", "soft", 4.5),
        ("on-accent", "accent", 4.5),
        ("good", "panel", 4.5),
        ("fair", "panel", 4.5),
        ("poor", "panel", 4.5),
        ("edge", "panel", 3),
    ):
        dark, light = sorted((luminance(colours[text]), luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= least, (text, ground)
