from __future__ import annotations

import threading

import pytest

from smae.interrupts import interrupt, sheltered


def test_an_interrupt_waits_for_the_end_of_the_outermost_shelter() -> None:
    done = []

    def work() -> None:
        with sheltered():
            with sheltered():
                interrupt(KeyboardInterrupt("now"))
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
        interrupt(KeyboardInterrupt())


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
        interrupt(KeyboardInterrupt())
    leave.set()
    thread.join()
