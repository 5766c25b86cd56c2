"""Jobs in the order in which they came, one at a time, in a process beside the server.

The process (:mod:`dermprompt.studio.worker`) reads jobs as lines of JSON and answers with events as lines of JSON. It
is started before the first job, so that its imports are over by then, and again whenever it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

# Jobs that wait at once, and seconds without any sign of a job that is worked on.
MOST_WAITING, PATIENCE = 64, 300.0
_LINE_BYTES = 2**20

Event = dict[str, Any]


class Full(ValueError):
    """Too many wait already."""


class Job:
    """Something to do, and what came of it so far."""

    def __init__(self, ask: Event) -> None:
        self.ask = ask
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._place: int | None = None

    def stand(self, place: int) -> None:
        """Tell how many jobs are before it, where that is news."""
        if place != self._place:
            self._place = place
            self.tell({"waiting": place})

    def tell(self, event: Event) -> None:
        """Add an event."""
        self.events.put_nowait(event)


class Line:
    """The jobs that wait, and the process that works; ``command`` starts it."""

    def __init__(self, command: list[str], patience: float = PATIENCE) -> None:
        self.command, self.patience = command, patience
        self.ready = False
        self._waiting: deque[Job] = deque()
        self._now: tuple[int, Job] | None = None
        self._number = 0
        self._came = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._told: asyncio.Queue[Event | None] = asyncio.Queue()
        self._hearing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many jobs wait or are worked on."""
        return len(self._waiting) + (self._now is not None)

    def join(self, ask: Event) -> Job:
        """Put a job at the end. Raises Full."""
        if len(self._waiting) >= MOST_WAITING:
            raise Full(f"{len(self)} jobs wait already; try again in a minute")
        job = Job(ask)
        self._waiting.append(job)
        self._say_places()
        self._came.set()
        return job

    def leave(self, job: Job) -> None:
        """Give up a job: it frees its place, or stops at its next step."""
        if job in self._waiting:
            self._waiting.remove(job)
            self._say_places()
        elif self._now is not None and self._now[1] is job:
            self._send({"cancel": self._now[0]})

    async def follow(self, job: Job) -> AsyncIterator[Event]:
        """The events of a job up to its last, ``done`` or ``error``; who stops listening has left."""
        try:
            while True:
                event = await job.events.get()
                yield event
                if "done" in event or "error" in event:
                    return
        finally:
            self.leave(job)

    async def run(self) -> None:
        """Work, until cancelled; then the process is ended."""
        try:
            while True:
                await self.start()
                while not self._waiting:
                    self._came.clear()
                    await self._came.wait()
                await self._work(self._waiting.popleft())
        finally:
            await self._stop()

    def _say_places(self) -> None:
        worked_on = [] if self._now is None else [self._now[1]]
        for place, job in enumerate([*worked_on, *self._waiting]):
            job.stand(place)

    async def _work(self, job: Job) -> None:
        self._number += 1
        self._now = (self._number, job)
        self._say_places()
        try:
            await self.start()
            self._send({"job": self._number, **job.ask})
            await self._pass_on(self._number, job)
        finally:
            self._now = None

    async def _pass_on(self, number: int, job: Job) -> None:
        """Events of a job as they come."""
        while True:
            try:
                event = await asyncio.wait_for(self._told.get(), self.patience)
            except TimeoutError:
                await self._stop()
                job.tell({"error": f"nothing moved for {self.patience:.0f} seconds; the worker was started again"})
                return
            if event is None:
                code = await self._ended()
                memory = ": perhaps the memory was too small" if code == -9 else ""
                job.tell({"error": f"the worker ended unexpectedly{memory}; it is started again, please try again"})
                return
            if event.pop("job", None) == number:
                job.tell(event)
                if "done" in event or "error" in event:
                    return

    def _send(self, message: Event) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(message).encode() + b"\n")

    async def start(self) -> None:
        """Start the process, where none runs."""
        if self._process is not None and self._process.returncode is None:
            return
        self.ready, self._told = False, asyncio.Queue()
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self.command, stdin=pipe, stdout=pipe, limit=_LINE_BYTES, start_new_session=True
        )
        assert self._process.stdout is not None, "no pipe"
        self._hearing = asyncio.create_task(self._hear(self._process.stdout, self._told))

    async def _hear(self, lines: asyncio.StreamReader, told: asyncio.Queue[Event | None]) -> None:
        """Put the process's events where the job finds them, and None at their end."""
        while line := await lines.readline():
            event = json.loads(line)
            self.ready = self.ready or "ready" in event
            told.put_nowait(event)
        told.put_nowait(None)

    async def _ended(self) -> int | None:
        return None if self._process is None else await self._process.wait()

    async def _stop(self) -> None:
        """End the process: it ends by itself when nobody can ask anything more."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def worker_command(config: str) -> list[str]:
    """What starts a worker for a configuration that was written to a file."""
    return [sys.executable, "-m", "dermprompt.studio.worker", config]
