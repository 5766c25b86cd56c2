"""The studio's page and version 1 of its API, as an ASGI application; described in docs/studio.md."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import dermprompt
from dermprompt.config.schema import Config
from dermprompt.prompts.template import TEMPLATES
from dermprompt.studio.asked import (
    MAX_BODY_BYTES,
    MAX_IMAGE_BYTES,
    MAX_PIXELS,
    Drawing,
    MaskSource,
    Named,
    PictureSet,
    Roll,
    check_image,
    read,
    read_mask,
)
from dermprompt.studio.desk import Desk, Unknown
from dermprompt.studio.guard import Guard
from dermprompt.studio.keep import write_set
from dermprompt.studio.line import Full, Job, Line
from dermprompt.studio.offers import BOX_SIZE, Offer, find_offers, find_segmenters, prompt_of

STATIC = Path(__file__).parent / "static"
ENDINGS = ("jpg", "png", "json", "nearest.png")
VERSION = 1

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Server:
    """The request handlers, and the objects that they use."""

    config: Config
    desk: Desk
    line: Line

    async def page(self, request: Request) -> Response:
        """The page, or one of its files, which are read at the start so that no path comes from a request."""
        name = request.path_params.get("name", "index.html")
        if name not in _FILES:
            raise HTTPException(404, "there is no such page")
        return Response(_FILES[name], media_type=mimetypes.guess_type(name)[0])

    async def about(self, request: Request) -> Response:
        """The available generators, segmenters, mask sources and templates, and the limits."""
        offers = await run_in_threadpool(find_offers, self.config)
        segmenters = await run_in_threadpool(find_segmenters, self.config)
        templates = {
            name: {"diagnoses": one.diagnoses, "attributes": one.attributes} for name, one in TEMPLATES.items()
        }
        return JSONResponse(
            {
                "version": VERSION,
                "dermprompt": dermprompt.__version__,
                "generators": [one.public() for one in offers.values()],
                "segmenters": list(segmenters),
                "masks": get_args(MaskSource),
                "templates": templates,
                "limits": {"image_bytes": MAX_IMAGE_BYTES, "body_bytes": MAX_BODY_BYTES, "pixels": MAX_PIXELS},
                "waiting": len(self.line),
                "ready": self.line.ready,
            }
        )

    async def add_mask(self, request: Request) -> Response:
        """Import a mask from an image."""
        size = _size(request)
        mask, notes = await run_in_threadpool(read_mask, await request.body(), size)
        id = await run_in_threadpool(self.desk.save_mask, mask)
        return JSONResponse({"mask": id, "size": size, "area": round(float(mask.mean()), 4), "notes": notes})

    async def mask(self, request: Request) -> Response:
        """A mask as PNG."""
        return Response(self.desk.mask_file(request.path_params["id"]).read_bytes(), media_type="image/png")

    async def roll(self, request: Request) -> Response:
        """Draw a mask."""
        asked = read(Roll, await _json(request))
        return Events(self.line, self.line.join({"kind": "roll", **asked.model_dump()}))

    async def draw(self, request: Request) -> Response:
        """Generate an image; events are sent as lines, and closing the connection gives up the place in the queue."""
        asked = read(Drawing, await _json(request))
        offer = await self._offer(asked.generator)
        self.desk.mask_file(asked.mask)
        job = {"kind": "draw", "offer": asdict(offer), "drawing": asked.model_dump(exclude_none=True)}
        return Events(self.line, self.line.join(job))

    async def prompt(self, request: Request) -> Response:
        """The prompt that a generator's template composes from labels."""
        asked = read(Named, await _json(request))
        return JSONResponse({"prompt": prompt_of(asked, await self._offer(asked.generator))})

    async def _offer(self, id: str) -> Offer:
        offers = await run_in_threadpool(find_offers, self.config)
        if id not in offers:
            raise HTTPException(404, f"generator {id!r} is not here; there are {', '.join(offers)}")
        if offers[id].unavailable:
            raise HTTPException(409, f"{offers[id].title} cannot be used: {offers[id].unavailable}")
        return offers[id]

    async def picture(self, request: Request) -> Response:
        """An image's file: the JPEG that synthesize writes, a PNG, its record, or the nearest training image."""
        path = self.desk.picture_file(request.path_params["id"], "." + request.url.path.partition(".")[2])
        return Response(path.read_bytes(), media_type=mimetypes.guess_type(path.name)[0])

    async def segment(self, request: Request) -> Response:
        """Segment a photograph."""
        segmenter, size = request.query_params.get("segmenter", "box"), _size(request)
        data = await request.body()
        await run_in_threadpool(check_image, data)
        photograph = await run_in_threadpool(self.desk.save_photograph, data)
        job = {"kind": "segment", "photograph": photograph, "segmenter": segmenter[:120], "size": size}
        return Events(self.line, self.line.join(job))

    async def settings(self, request: Request) -> Response:
        """The page's settings."""
        return JSONResponse(self.desk.settings())

    async def remember(self, request: Request) -> Response:
        """Save the page's settings, any JSON object."""
        try:
            said = json.loads(await _json(request))
        except (ValueError, RecursionError):
            raise ValueError("the settings are no JSON") from None
        if not isinstance(said, dict):
            raise ValueError("the settings are no JSON object")
        await run_in_threadpool(self.desk.remember, said)
        return JSONResponse({"remembered": len(said)})

    async def download(self, request: Request) -> Response:
        """Download images as a labelled set."""
        asked = read(PictureSet, await _json(request))
        data = await run_in_threadpool(write_set, self.desk, asked.pictures)
        return Response(
            data,
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="studio_set.zip"'},
        )


class Events(StreamingResponse):
    """A job's events as lines of JSON while it runs; a client that disconnects leaves the queue."""

    def __init__(self, line: Line, job: Job) -> None:
        super().__init__(job.lines(), media_type="application/x-ndjson")
        self.leave = partial(line.leave, job)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the last event, or until the client disconnects."""
        # For later versions Starlette would notice only at the next event, which a waiting client may not get for long.
        try:
            await super().__call__({**scope, "asgi": {"version": "3.0", "spec_version": "2.3"}}, receive, send)
        finally:
            self.leave()


async def _json(request: Request) -> bytes:
    """The JSON body of a request; requiring its content type keeps out forms of other sites."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the body has to be JSON, with Content-Type: application/json")
    return await request.body()


def _size(request: Request) -> int:
    given = request.query_params.get("size", str(BOX_SIZE))
    if not re.fullmatch(r"[0-9]{2,4}", given) or int(given) % 16 or not 32 <= int(given) <= 1024:
        raise ValueError(f"size={given[:20]}: pixels a side, from 32 to 1024, a multiple of 16")
    return int(given)


def _sentence(status: int, text: str) -> Response:
    return JSONResponse({"error": text[:1000]}, status)


async def _refused(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, Unknown) else 503 if isinstance(error, Full) else 400
    return _sentence(status, str(error))


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), error
    words = {404: "there is nothing at this address", 405: "this address takes no such request"}
    named = error.detail if error.detail not in ("Not Found", "Method Not Allowed") else words[error.status_code]
    return _sentence(error.status_code, named)


async def _left(request: Request, error: Exception) -> Response:
    return _sentence(400, "the request was interrupted")


async def _disk(request: Request, error: Exception) -> Response:
    return _sentence(507, f"the studio's folder cannot be written to ({getattr(error, 'strerror', None)})")


async def _unforeseen(request: Request, error: Exception) -> Response:
    return _sentence(500, "this failed in a way that was not foreseen; the terminal of the studio says more")


def build(config: Config, desk: Desk, line: Line, hosts: frozenset[str] | None, token: str | None = None) -> ASGIApp:
    """The application; ``hosts`` and ``token``: see :class:`~dermprompt.studio.guard.Guard`."""
    server = Server(config, desk, line)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        working = asyncio.create_task(server.line.run())
        try:
            yield
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working

    api = f"/api/v{VERSION}"
    routes = [
        Route("/", server.page),
        Route("/static/{name}", server.page),
        Route(api, server.about),
        Route(f"{api}/masks", server.add_mask, methods=["POST"]),
        Route(f"{api}/masks/{{id}}.png", server.mask),
        Route(f"{api}/rolls", server.roll, methods=["POST"]),
        Route(f"{api}/prompts", server.prompt, methods=["POST"]),
        Route(f"{api}/pictures", server.draw, methods=["POST"]),
        *(Route(f"{api}/pictures/{{id}}.{ending}", server.picture) for ending in ENDINGS),
        Route(f"{api}/segments", server.segment, methods=["POST"]),
        Route(f"{api}/settings", server.settings),
        Route(f"{api}/settings", server.remember, methods=["PUT"]),
        Route(f"{api}/sets", server.download, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        ValueError: _refused,
        HTTPException: _failed,
        ClientDisconnect: _left,
        OSError: _disk,
        Exception: _unforeseen,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), hosts, token)


_FILES = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.is_file()}
