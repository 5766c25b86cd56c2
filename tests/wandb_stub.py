"""A W&B server on loopback: what a run asks of one to start and to send its metrics, until it dies or hangs."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

VIEWER = {"id": "v", "entity": "e", "username": "e", "email": "", "flags": "{}", "teams": {"edges": []}}
PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
# As if it had each artifact already, so that it needs to take no files.
ARTIFACT = {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
WHOLE = {
    **ARTIFACT,
    "__typename": "Artifact",
    "artifactSequence": {"__typename": "ArtifactSequence", "name": "n", "project": {**PROJECT, "internalId": "p"}},
    "versionIndex": 0,
    "artifactType": {"name": "t"},
    "metadata": "{}",
    "ttlDurationSeconds": -2,
    "ttlIsInherited": True,
    "tags": [],
    "aliases": [],
    "size": 0,
    "digest": "d",
    "fileCount": 0,
    "createdAt": "2026-01-01T00:00:00",
    **dict.fromkeys(("description", "historyStep", "commitHash", "updatedAt")),
}


class Stub(ThreadingHTTPServer):
    """Answers at ``url``, and knows what it was sent: metrics, and artifacts with the run that made each.

    ``answers``: cleared, it takes requests and answers none. ``refuses``: what it gives to each request instead, a
    status and a body.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.artifacts: dict[str, str | None] = {}
        self.refuses: tuple[int, bytes] | None = None
        self.answers = Event()
        self.answers.set()
        self._connections: list[socket.socket] = []
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Remember each connection."""
        self._connections.append(request)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke."""

    def hang(self) -> None:
        """Take connections and requests from now on, and answer none."""
        self.answers.clear()

    def die(self) -> None:
        """Close the port and every connection."""
        self.shutdown()
        self.server_close()
        for connection in self._connections:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.answers.wait()
        if self.server.refuses is not None:
            self._send(self.server.refuses[1], self.server.refuses[0])
            return
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            answer = {"data": self._answer(json.loads(body))}
        elif self.path.endswith("/file_stream"):
            lines = json.loads(body).get("files", {}).get("wandb-history.jsonl", {"content": []})["content"]
            self.server.rows += [json.loads(line) for line in lines]
        self._send(json.dumps(answer).encode())

    do_PUT = do_POST

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        operation, given = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1], asked.get("variables") or {}
        self.server.asked.append(operation)
        if operation == "Viewer":
            return {"viewer": VIEWER}
        if operation == "UpsertBucket":
            bucket = {"id": "r", "name": given["name"], "displayName": given["name"], "project": PROJECT}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.server.url}/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if operation == "ArtifactType":
            return {"project": None}
        if operation == "ArtifactByID":
            return {"artifact": WHOLE}
        if operation == "CreateArtifact":
            self.server.artifacts[given["input"]["artifactCollectionName"]] = given["input"]["runName"]
            return {"createArtifact": {"artifact": ARTIFACT}}
        return {}

    def _send(self, answer: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
