"""A queue of jobs, processed one at a time in a separate worker process.

The worker (:mod:`dermprompt.studio.worker`) reads jobs as lines of JSON and answers with events as lines of JSON. It
is started before the first job, so that its imports are done by then, and restarted whenever it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

# The most jobs that may wait, and the seconds without an event after which the current job fails.
MOST_WAITING, PATIENCE = 64, 300.0
_LINE_BYTES = 2**20

Event = dict[str, Any]


class Full(ValueError):
    """Too many jobs are waiting."""


class Job:
    """A request to the worker, and the events about it so far."""

    def __init__(self, ask: Event) -> None:
        self.ask = ask
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._place: int | None = None

    def stand(self, place: int) -> None:
        """Report how many jobs are ahead, if that has changed."""
        if place != self._place:
            self._place = place
            self.tell({"waiting": place})

    def tell(self, event: Event) -> None:
        """Add an event."""
        self.events.put_nowait(event)

    async def lines(self) -> AsyncIterator[str]:
        """The events as lines of JSON, up to the last one, ``done`` or ``error``."""
        event: Event = {}
        while not event.keys() & {"done", "error"}:
            event = await self.events.get()
            yield json.dumps(event) + "\n"


class Line:
    """The waiting jobs and the worker process; ``command`` starts the worker."""

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
        """The number of jobs that are waiting or being processed."""
        return len(self._waiting) + (self._now is not None)

    def join(self, ask: Event) -> Job:
        """Append a job. Raises Full."""
        if len(self._waiting) >= MOST_WAITING:
            raise Full(f"{len(self)} jobs wait already; try again in a minute")
        job = Job(ask)
        self._waiting.append(job)
        self._say_places()
        self._came.set()
        return job

    def leave(self, job: Job) -> None:
        """Cancel a job: a waiting one is removed, a running one stops at its next step."""
        if job in self._waiting:
            self._waiting.remove(job)
            self._say_places()
        elif self._now is not None and self._now[1] is job:
            self._send({"cancel": self._now[0]})

    async def run(self) -> None:
        """Process jobs until cancelled, then end the worker."""
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
        """Pass on the events of a job as they arrive."""
        while True:
            try:
                event = await asyncio.wait_for(self._told.get(), self.patience)
            except TimeoutError:
                await self._stop()
                job.tell({"error": f"nothing moved for {self.patience:.0f} seconds; the worker was started again"})
                return
            if event is None:
                assert self._process is not None
                memory = ": perhaps the memory was too small" if await self._process.wait() == -9 else ""
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
        """Start the worker if none is running."""
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
        """Put the worker's events into the queue, and None when it has ended."""
        while line := await lines.readline():
            event = json.loads(line)
            self.ready = self.ready or "ready" in event
            told.put_nowait(event)
        told.put_nowait(None)

    async def _stop(self) -> None:
        """Kill the worker, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def worker_command(config: str) -> list[str]:
    """The command that starts a worker with the configuration in a file."""
    return [sys.executable, "-m", "dermprompt.studio.worker", config]
