"""The worker process: jobs are lines of JSON on its standard input, events are lines on its output.

    {"job": 3, "kind": "draw", …}  →  {"job": 3, "step": 4, "of": 10} {"job": 3, "picture": …} {"job": 3, "done": true}

It ends when its input closes. A cancelled job ends at its next step.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from dermprompt.config import compose
from dermprompt.studio.desk import Desk

Event = dict[str, Any]


class GivenUp(Exception):
    """The job was cancelled."""


class Jobs:
    """The incoming jobs, read in a separate thread so that the current job can be cancelled."""

    def __init__(self, lines: TextIO) -> None:
        self._lines, self._given_up = lines, set[int]()
        self._came: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._lines:
            message = json.loads(line)
            if "cancel" in message:
                self._given_up.add(message["cancel"])
            else:
                self._came.put(message)
        self._came.put(None)
        os._exit(0)  # the server is gone; end even in the middle of a job

    def next(self) -> Event | None:
        """The next job; None at the end."""
        return self._came.get()

    def check(self, number: int) -> None:
        """Raise GivenUp for a cancelled job."""
        if number in self._given_up:
            self._given_up.discard(number)
            raise GivenUp


def work(studio: Any, jobs: Jobs, say: Callable[[Event], None]) -> None:
    """Process jobs until there are no more; a job's kind is the name of a method of ``studio``."""
    say({"ready": True})
    while (ask := jobs.next()) is not None:
        _do(studio, ask, jobs, say)


def _do(studio: Any, ask: Event, jobs: Jobs, say: Callable[[Event], None]) -> None:
    number = ask.pop("job")

    def tell(event: Event) -> None:
        jobs.check(number)
        say({"job": number, **event})

    try:
        getattr(studio, ask.pop("kind"))(tell, **ask)
        say({"job": number, "done": True})
    except GivenUp:
        say({"job": number, "error": "given up"})
    except (ValueError, OSError) as error:
        say({"job": number, "error": str(error)})
    except Exception as error:
        traceback.print_exc()
        say({"job": number, "error": _unforeseen(error)})


def _unforeseen(error: Exception) -> str:
    """A sentence for the client, without a traceback."""
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return "the memory is too small for this; nothing was lost"
    return f"this failed in a way that was not foreseen ({type(error).__name__}); the terminal of the studio says more"


def run(open_studio: Callable[[], Any]) -> None:
    """Work for the server that started this process."""
    # Output of libraries must not mix with the events, so it goes to standard error.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(event: Event) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    jobs = Jobs(sys.stdin)
    work(open_studio(), jobs, say)


def main(path: str) -> None:
    """Run the worker with the configuration that the server wrote."""

    def open_studio() -> Any:
        from dermprompt.studio.drawing import Studio  # imports torch and diffusers, which takes seconds

        config = compose.thaw(Path(path))
        studio = Studio(config, Desk(Path(config.paths.runs).resolve() / "studio"))
        studio.warm_up()
        return studio

    run(open_studio)


if __name__ == "__main__":
    main(sys.argv[1])
