from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from smae import interrupts
from smae.interrupts import sheltered


def interrupt(told: str = "") -> None:
    interrupts.interrupt(signal.SIGINT, KeyboardInterrupt(told), None)


def test_an_interrupt_waits_for_the_end_of_the_outermost_shelter() -> None:
    done = []

    def work() -> None:
        with sheltered():
            with sheltered():
                interrupt("now")
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt, match="now"):
        work()
    assert done == ["inner", "outer"]
    with sheltered():
        done.append("raised once, and no more")
    assert len(done) == 3


def test_without_a_shelter_it_comes_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_another_thread_shelters_nobody() -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with sheltered():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    leave.set()
    thread.join()


LOADING = """
import signal, sys
from smae.api import sigterm_interrupts
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
