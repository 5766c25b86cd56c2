"""How every command of this package ends: with a one-line message, whatever a user, a file or the machine did wrong."""

from __future__ import annotations

import errno
import functools
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from dermprompt.files import printable

INTERRUPTED = 128 + signal.SIGINT
_INTERRUPTED_IN_WORDS = "interrupted; the same command continues"


def in_words(main: Callable[[], None]) -> Callable[[], None]:
    """The same command; a user's mistake ends in one line and exit code 1, Ctrl-C in one line and 130.

    ``| head`` ends it in silence. Faults of the program itself keep their stack.
    """

    @functools.wraps(main)
    def command() -> None:
        try:
            with interruptible():
                main()
                sys.stdout.flush()
        except SystemExit as error:
            if not isinstance(error.code, str):
                raise
            _end(error.code)
        except BrokenPipeError as error:
            if _is_read(sys.stdout.fileno()):
                _end(f"error: {error}")
            _drop_stdout()
            sys.exit(1)
        except (ValueError, OSError) as error:
            _end(f"error: {_said(error)}")

    return command


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C in here, and afterwards while something is imported, ends in one line."""
    # A job started in the background ignores SIGINT, and must continue to.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        # An impatient second Ctrl-C must not print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _end(_INTERRUPTED_IN_WORDS, INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; amid an import end at once, as a library may catch it there and the command go on."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            with suppress(OSError, RuntimeError):  # RuntimeError: it was being written to
                sys.stdout.flush()
            os.write(2, f"{_INTERRUPTED_IN_WORDS}\n".encode())
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _end(sentence: str, code: int = 1) -> None:
    """Print one sentence, which no file name can turn into more, and exit."""
    _drop_stdout()
    print(printable(sentence), file=sys.stderr, flush=True)
    sys.exit(code)


def _said(error: Exception) -> str:
    """Its message; for a full disk, names standard output if that is what is full."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not takes_all(sys.stdout):
        return f"standard output: {error.strerror}"
    return str(error) or type(error).__name__


def takes_all(stream: TextIO) -> bool:
    """Whether more could be printed there; tried with an empty line, once a disk is full."""
    try:
        stream.flush()
        os.write(stream.fileno(), b"\n")
    except io.UnsupportedOperation:
        return True  # it is in memory
    except OSError:
        return False
    return True


def _drop_stdout() -> None:
    """What is left in a buffer that nobody takes would be complained of at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_read(descriptor: int) -> bool:
    """Whether somebody still reads what is written there."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))
