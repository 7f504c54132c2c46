"""A signal means a stop wherever it falls: late if need be, never lost, never told as a bug."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from smae.errors import DataError
from smae.interrupts import Terminated, sheltered, signal_of, sigterm_interrupts


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Handlers as a program of its own has them, whatever runs the tests."""
    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminates = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupts)
    signal.signal(signal.SIGTERM, terminates)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as raised, sigterm_interrupts():
        signal.raise_signal(number)
    assert signal_of(raised.value) == number


def test_a_program_that_handles_a_signal_itself_keeps_it() -> None:
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append("own"))
    with sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert came == ["own"]


def test_an_interrupt_waits_for_the_end_of_the_outermost_shelter() -> None:
    done = []

    def work() -> None:
        with sheltered():
            with sheltered():
                interrupt()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        work()
    assert done == ["inner", "outer"]
    with sigterm_interrupts(), sheltered():
        done.append("raised once, and no more")
    assert len(done) == 3


def test_another_thread_shelters_nobody() -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with sheltered():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        interrupt()
    leave.set()
    thread.join()


def test_an_interrupt_that_falls_into_a_destructor_is_not_lost() -> None:
    """Python drops what a destructor raises."""

    class Short:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work() -> None:
        one = Short()
        del one
        time.sleep(10)

    with pytest.raises(Terminated), sigterm_interrupts():
        work()


def test_an_error_that_an_interrupt_led_to_is_the_interrupt() -> None:
    lock = threading.Lock()

    def work() -> None:
        with lock:
            lock.release()
            interrupt()

    with pytest.raises(KeyboardInterrupt) as raised, sigterm_interrupts():
        work()
    assert str(raised.value.__cause__) == "release unlocked lock"


@pytest.mark.parametrize("error", [DataError("told on purpose"), OSError("disk full"), ValueError("a bug")])
def test_other_errors_stay(error: Exception) -> None:
    """A bug also where the caller was handling an interrupt before."""

    def work() -> None:
        with sigterm_interrupts():
            raise error

    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(type(error), match=str(error)):
            work()


def test_errors_that_are_each_others_causes_are_told() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    with pytest.raises(ValueError, match="one"), sigterm_interrupts():
        raise one


LOADING = """
import signal, sys
from smae.interrupts import sigterm_interrupts
calls = []

def send(frame, event, arg):
    # The module's own code asks NumPy for the text of an array.
    if event == "call" and frame.f_code.co_name == "_array_repr_implementation":
        calls.append(frame.f_code.co_name)
        sys.setprofile(None)
        signal.raise_signal(signal.NUMBER)

import matplotlib.transforms
with sigterm_interrupts():
    sys.setprofile(send)
    try:
        import matplotlib.backends._backend_agg
        assert calls, "the module does not call what the test waits for"
        while True:
            pass
    except KeyboardInterrupt as error:
        print(type(error).__name__, "matplotlib.backends._backend_agg" in sys.modules)
"""


@pytest.mark.parametrize(("number", "error"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "Terminated")])
def test_a_signal_waits_until_a_compiled_module_is_loaded(number: str, error: str) -> None:
    """Raised in Python code that the module calls, it made the import fail as if by a bug."""
    program = [sys.executable, "-c", LOADING.replace("NUMBER", number)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (f"{error} True\n", "")
