"""Registries: members by name, hints for wrong names, outside members loaded only when asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smae.errors import ConfigError, UnknownNameError
from smae.registry import Registry, describe, nearest, plugin_at_fault, plugins


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs a one-module package with entry points of the family ``thing``."""

    def install(module: str, source: str, *, entries: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        about = tmp_path / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[smae.things]\n{entries}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def test_members_are_found_by_name_and_listed_sorted():
    things: Registry[int] = Registry("thing")
    assert things.register("two")(2) == 2
    things.register("one")(1)
    assert things.get("two") == 2
    assert things.names() == ["one", "two"]


def test_an_unknown_name_lists_what_there_is_and_the_nearest():
    things: Registry[int] = Registry("thing")
    things.register("spatial-temporal")(1)
    things.register("random")(2)
    message = "unknown thing 'spacial-temporal': expected one of random, spatial-temporal; did you mean"
    with pytest.raises(UnknownNameError, match=message):
        things.get("spacial-temporal")
    assert nearest("zzz", ["random"]) == ""


def test_a_name_is_taken_once():
    things: Registry[object] = Registry("thing")
    member = object()
    things.register("one")(member)
    things.register("one")(member)
    with pytest.raises(ConfigError, match="thing 'one' is registered twice"):
        things.register("one")(object())


def test_an_outside_member_is_named_at_once_and_imported_when_asked_for(installed):
    installed("late_thing", "member = 42\n", entries="late = late_thing:member")
    things: Registry[int] = Registry("thing")
    assert things.names() == ["late"]
    assert "late_thing" not in sys.modules
    assert things.get("late") == 42
    assert things.get("late") == 42


def test_an_outside_member_may_not_take_a_built_in_name(installed):
    installed("rude_thing", "member = 42\n", entries="one = rude_thing:member")
    things: Registry[int] = Registry("thing")
    things.register("one")(1)
    with pytest.raises(ConfigError, match="registered twice"):
        things.get("one")


@pytest.mark.parametrize(
    ("source", "entry"),
    [("import nowhere_to_be_found\n", "late = broken_thing:member"), ("", "late = broken_thing:member")],
)
def test_a_package_that_cannot_be_imported_is_named(installed, source, entry):
    installed("broken_thing", source, entries=entry)
    things: Registry[int] = Registry("thing")
    with pytest.raises(ConfigError, match="thing 'late' cannot be loaded from broken_thing:member"):
        things.get("late")


def test_every_family_has_the_group_that_the_page_of_plug_ins_names():
    text = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
    for family in ("masking", "encoder", "decoder", "objective", "probe"):
        assert f"`{Registry(family).group}`" in text


def raised(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_error_is_of_the_plug_in_in_whose_code_it_arose(installed, tmp_path):
    source = "def broken():\n    return {}['key']\n\n\nclass Odd(ValueError):\n    pass\n"
    installed("faulty_thing", source, entries="faulty = faulty_thing:broken\nother = other_thing:x")
    things: Registry[object] = Registry("thing")
    error = raised(things.get("faulty"))
    assert plugin_at_fault(error) == f"thing 'faulty' of faulty_thing 1.0: {tmp_path / 'faulty_thing.py'}:2"
    assert plugin_at_fault(raised(lambda: [][1])) == ""
    assert [describe(entry) for entry in plugins() if entry.group == "smae.things"] == [
        "thing 'faulty' of faulty_thing 1.0", "thing 'other' of faulty_thing 1.0"
    ]  # fmt: skip
    # A process pool sends the worker's traceback as the text of the cause.
    error = ValueError("far away")
    error.__cause__ = RuntimeError(f'Traceback\n  File "{tmp_path / "faulty_thing.py"}", line 7, in x\nValueError')
    assert plugin_at_fault(error).endswith("faulty_thing.py:7")


def test_a_plug_in_that_is_no_python_is_at_fault(installed, tmp_path):
    installed("wrong_thing", "x = 1\ndef :\n", entries="wrong = wrong_thing:x")
    error = raised(lambda: Registry("thing").get("wrong"))
    assert plugin_at_fault(error) == f"thing 'wrong' of wrong_thing 1.0: {tmp_path / 'wrong_thing.py'}:2"
