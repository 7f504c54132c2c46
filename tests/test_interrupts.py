"""Interrupts: a signal sets a flag that safe points read; a second one ends at once; nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from smae import interrupts, progress
from smae.errors import Interrupted


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """Signal handlers as a fresh Python process has them."""
    on_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    on_terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, on_terminate)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_at_the_next_check(number: signal.Signals) -> None:
    with interrupts.deferred("run it again"):
        signal.raise_signal(number)
        with pytest.raises(Interrupted, match="interrupted; run it again") as raised:
            interrupts.check()
    assert raised.value.exit_code == 128 + number


def test_without_a_signal_a_check_does_nothing() -> None:
    with interrupts.deferred():
        interrupts.check()
        assert interrupts.pending() == 0
    interrupts.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number: signal.Signals) -> None:
    with interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(interrupts.SecondInterrupt) as raised:
            signal.raise_signal(number)
    assert raised.value.signal == number


def test_handlers_and_flag_are_as_before_after_the_outermost_block() -> None:
    with interrupts.deferred("outer"):
        with interrupts.deferred():
            signal.raise_signal(signal.SIGINT)
        assert interrupts.pending() == signal.SIGINT, "the outer block has not answered it yet"
        with pytest.raises(Interrupted, match="outer"):
            interrupts.check()
    assert interrupts.pending() == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_program_that_handles_a_signal_itself_keeps_it() -> None:
    received = []
    signal.signal(signal.SIGTERM, lambda *_: received.append("own"))
    with interrupts.deferred():
        signal.raise_signal(signal.SIGTERM)
        interrupts.check()
    assert received == ["own"]


def test_the_innermost_remedy_is_given() -> None:
    with interrupts.deferred("outer"), interrupts.deferred("inner"), interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted, match="interrupted; inner"):
            interrupts.check()


def test_other_threads_install_no_handlers() -> None:
    found = []

    def work() -> None:
        with interrupts.deferred():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_tracked_work_stops_between_two_items() -> None:
    with interrupts.deferred():
        items = progress.track(range(5), "count")
        assert next(items) == 0
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            next(items)


PROGRAM = """
import time
from smae import interrupts
from smae.errors import Interrupted
with interrupts.deferred():
    print("ready", flush=True)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(0.01)
        try:
            interrupts.check()
        except Interrupted as error:
            raise SystemExit(error.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_ends_with_the_exit_code_of_the_signal(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=15) == 128 + number
