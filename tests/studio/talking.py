"""What clients say to a studio, well or badly, over sockets of their own."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

JSON = {"Content-Type": "application/json"}


def disc(size: int = 128, radius: float = 40) -> np.ndarray:
    """A mask uint8 SS in {0, 1}."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    return ((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < radius**2).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; a body that is no bytes goes as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    named = {**(JSON if not isinstance(body, bytes | None) else {}), **(headers or {})}
    connection.request(method, path, sent, named)
    answer = connection.getresponse()
    found = answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def raw(port: int, data: bytes, shut: bool = False) -> bytes:
    """Whatever comes back for these bytes; ``shut``: nothing more is said after them."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            client.sendall(data)
            if shut:
                client.shutdown(socket.SHUT_WR)
        except OSError:  # the studio has shut it already
            pass
        found = b""
        try:
            while part := client.recv(65536):
                found += part
                client.settimeout(0.2)  # an answer has come: what else there is comes at once
        except (ConnectionResetError, TimeoutError):
            pass
        return found


def add_mask(port: int, mask: np.ndarray | None = None) -> str:
    status, _, body = ask(port, "POST", "/api/v1/masks", png((disc() if mask is None else mask) * 255))
    assert status == 200, body
    return json.loads(body)["mask"]


def events(port: int, path: str, body: Any, headers: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """The events of a job as they come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, sent, {**({} if isinstance(body, bytes) else JSON), **(headers or {})})
    answer = connection.getresponse()
    while line := answer.readline():
        yield json.loads(line)
    connection.close()


def drawing(mask: str, **more: Any) -> dict[str, Any]:
    return {"generator": "box-controlnet", "mask": mask, **more}
