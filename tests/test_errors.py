"""Errors: one exit code a kind, caught by built-in classes too, and intact after crossing processes."""

from __future__ import annotations

import pickle

import pytest

from smae import errors
from smae.errors import BadRecording, Interrupted, SmaeError


@pytest.mark.parametrize(
    ("name", "code", "builtin"),
    [
        ("ConfigError", 2, ValueError),
        ("UnknownNameError", 2, LookupError),
        ("DataError", 4, ValueError),
        ("EnvironmentFault", 5, OSError),
        ("LockedError", 6, OSError),
        ("NonFiniteError", 7, ArithmeticError),
        ("NoBody", 4, ValueError),
    ],
)
def test_each_kind_has_its_exit_code_and_is_a_built_in_error_too(name, code, builtin):
    error = getattr(errors, name)("what happened")
    assert error.exit_code == code
    assert isinstance(error, SmaeError)
    assert isinstance(error, builtin)
    assert str(error) == "what happened"


def test_every_class_is_of_the_family():
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(found) >= 10
    assert all(issubclass(kind, SmaeError) and kind.__doc__ for kind in found)


@pytest.mark.parametrize(("signal", "code"), [(2, 130), (15, 143)])
def test_an_interruption_exits_as_shells_expect(signal, code):
    assert Interrupted("stopped", signal).exit_code == code


def test_a_bad_recording_says_where_and_crosses_processes():
    error = BadRecording("fields", "expected 12 numbers, found 11", line=7, column=3, excerpt="0.1 0.2")
    assert str(error) == "7:3: fields: expected 12 numbers, found 11"
    # Workers send it to the parent; only our own processes ever read this.
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, BadRecording)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_every_kind_crosses_processes(kind):
    arguments = ("fields", "what happened") if kind is BadRecording else ("what happened",)
    again = pickle.loads(pickle.dumps(kind(*arguments)))
    assert type(again) is kind
    assert str(again) == str(kind(*arguments))
    assert again.exit_code == kind(*arguments).exit_code


def test_a_bad_recording_without_a_line_names_its_code_alone():
    assert str(BadRecording("empty", "0 bytes")) == "empty: 0 bytes"
