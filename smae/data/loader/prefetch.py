"""Run an iterator in a background thread, a few items ahead of whoever takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T, None, None], *, depth: int) -> Generator[T, None, None]:
    """Yield what ``items`` yields, made by one thread that runs at most ``depth`` items ahead.

    An exception in ``items`` is raised here, as it is. However this generator ends (used up, closed, thrown away, an
    error), ``items`` is closed by its own thread and the thread has ended.
    """
    room = threading.Semaphore(depth)
    made: queue.SimpleQueue[tuple[str, T | BaseException | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not stop.is_set():
                made.put(("item", next(items)))
        except StopIteration:
            made.put(("end", None))
        except BaseException as error:
            made.put(("error", error))
        finally:
            items.close()

    # A daemon, so that an iterator still held at the interpreter's end does not keep it from ending.
    thread = threading.Thread(target=work, name="smae-loader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if isinstance(value, BaseException):
                raise value
            room.release()
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        room.release()
        thread.join()
