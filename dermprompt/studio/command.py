"""``dermprompt studio``: the configuration, the worker, the server, and the address to open."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import socket
from pathlib import Path

from dermprompt.config import compose
from dermprompt.config.generators import Sampler
from dermprompt.config.schema import Config
from dermprompt.studio.desk import Desk
from dermprompt.studio.line import Line, worker_command

PORT = 8321
# Addresses that only this machine itself can reach.
LOCAL = ("127.0.0.1", "localhost", "[::1]")
# All addresses of this machine.
ANY = ("0.0.0.0", "::", "")


def main(arguments: list[str]) -> None:
    """Serve until interrupted.

    Raises:
        ValueError: an override is wrong, the address is in use, or the studio's extra is not installed.
    """
    parser = argparse.ArgumentParser("dermprompt studio", description="Paint a mask, name it, see it, in the browser.")
    parser.add_argument("--host", default=LOCAL[0], help="with any other than this machine's own, a token is asked for")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("overrides", nargs="*", help="of the configuration, for example paths.store=/data/store")
    asked = parser.parse_args(arguments)
    config = configuration(asked.overrides)
    prepare(config)
    listening = listen(asked.host, asked.port)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(config, asked.host, listening))


async def serve(config: Config, host: str, listening: socket.socket) -> None:
    """Start the worker, then the server, because the worker's imports take longest."""
    desk = Desk(Path(config.paths.runs).resolve() / "studio")
    compose.dump(config, desk.root / "config.yaml")
    line = Line(worker_command(str(desk.root / "config.yaml")))
    await line.start()
    try:
        import uvicorn

        from dermprompt.studio.server import build
    except ModuleNotFoundError as error:
        raise ValueError(f"the studio needs {error.name}: pip install 'dermprompt[studio]'") from None

    port = listening.getsockname()[1]
    token = None if host in LOCAL else secrets.token_urlsafe(24)
    app = build(config, desk, line, hosts(host, port), token)
    print(f"studio: {address(host, port, token)}\nstop it with Ctrl+C", flush=True)
    settings = uvicorn.Config(app, log_level="warning", server_header=False, timeout_keep_alive=5, ws="none")
    await uvicorn.Server(settings).serve(sockets=[listening])


def configuration(overrides: list[str]) -> Config:
    """The studio's configuration: the weights in the package, unless overrides say otherwise."""
    config = compose.compose(["+experiment=studio", *overrides])
    if not isinstance(config.generator, Sampler):
        raise ValueError(f"generator={config.generator.name}: the studio offers every generator there is; leave it out")
    return config


def prepare(config: Config) -> None:
    """Index and decode a user's data set now; the package's images take no time and are read when needed."""
    if config.data.name == "sample":
        return
    from dermprompt.pipeline import Pipeline
    from dermprompt.store.artifacts import Store

    pipeline = Pipeline(config, Store(Path(config.paths.store).expanduser().resolve()))
    _ = pipeline.generator_set, pipeline.images


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError if the address cannot be used."""
    try:
        return socket.create_server((host.strip("[]"), port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ValueError(f"--host {host} --port {port}: {error.strerror or error}; choose another port") from None


def hosts(host: str, port: int) -> frozenset[str] | None:
    """The ``Host`` values of this server; None, for any, if it listens on all addresses."""
    if host in ANY:
        return None
    names = LOCAL if host in LOCAL else (host.lower(),)
    return frozenset({f"{name}:{port}" for name in names} | (set(names) if port == 80 else set()))


def address(host: str, port: int, token: str | None) -> str:
    """The URL to open in a browser."""
    named = socket.gethostname() if host in ANY else host
    return f"http://{named}:{port}/" + (f"?token={token}" if token else "")
