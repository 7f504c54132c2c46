"""Values of options: completed in a shell, and checked before a command imports torch, which takes seconds."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

import smae
from smae_cli import console

if TYPE_CHECKING:
    from smae.train.run_folder import Need

    _Type = click.ParamType[Any]
else:
    # Before click 8.4 it has no parameters.
    _Type = click.ParamType

Names = Callable[[click.Context], Iterable[str]]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Name(_Type):
    """One of names that are known; the message lists them all.

    Args:
        what: singular, for the message.
        names: looks the names up.
        other: pattern of other values that are accepted too.
        called: name of the type in help.
    """

    def __init__(self, what: str, names: Names, *, other: str = "", called: str = "name") -> None:
        self.name, self._what, self._names, self._other = called, what, names, other

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, or fail with all names and the nearest one."""
        from smae.registry import nearest

        known = list(self._names(ctx or click.Context(click.Command(""))))
        if value not in known and not (self._other and re.fullmatch(self._other, value)):
            listed = f"expected one of {', '.join(known)}{nearest(value, known)}"
            self.fail(f"unknown {self._what} '{value}': {listed}", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return completions(self._names, ctx, incomplete)


class Completed(_Type):
    """Text, or a path, that is completed from names but may be anything.

    Args:
        names: looks the names up.
        path: whether the value is a path.
        called: name of the type in help.
        check: raises if nothing is there.
    """

    def __init__(
        self, names: Names, *, path: bool = False, called: str = "text", check: Callable[[str], object] = str
    ) -> None:
        self.name, self._names, self._path, self._check = called, names, path, check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, as a path if it is one; ``console.json_option`` checks it later."""
        if ctx is not None:
            ctx.meta.setdefault(console.CHECKS, []).append(lambda: self._check(str(value)))
        return Path(value) if self._path else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin with what is typed; for a path else those of files."""
        found = completions(self._names, ctx, incomplete)
        return found or [CompletionItem(incomplete, type="file")] * self._path


def completions(names: Names, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the names that begin with what is typed; none where looking them up fails."""
    try:
        found = [name for name in names(ctx) if name.startswith(incomplete)]
        # Values of a setting are offered when its name is there.
        return [CompletionItem(name) for name in found if "=" in incomplete or not name.partition("=")[2]]
    except Exception:
        # A shell that completes has no place for a message.
        return []


def _from(module: str, names: Callable[[Any], Iterable[str]]) -> Names:
    """Return names that are in a module, which is imported when they are asked for."""
    return lambda ctx: names(importlib.import_module(module))


def _lazily(module: str, function: str) -> Callable[[str], object]:
    return lambda value: getattr(importlib.import_module(module), function)(value)


def _check_store(where: str) -> None:
    # What is there needs no module of recordings to say so.
    if not Path(where).exists():
        _lazily("smae.data.raw.recordings", "check_there")(where)


def _recipes(ctx: click.Context) -> Iterable[str]:
    from smae.config import recipe_names

    return ["auto", *recipe_names(), *sorted(path.name for path in Path().glob("*.toml"))]


def _settings(ctx: click.Context) -> Iterable[str]:
    from smae.config import setting_names, setting_values

    return dict.fromkeys([*(f"{name}=" for name in setting_names()), *setting_values()])


def _runs(ctx: click.Context) -> Iterable[str]:
    return sorted(str(path.parent) for path in (*Path().glob("runs/*/run.json"), *Path().glob("*/run.json")))


def _stores(ctx: click.Context) -> Iterable[str]:
    return sorted(map(str, Path().glob("*.zarr")))


def _store(ctx: click.Context) -> Any:
    named = [ctx.params.get(key) for key in ("first", "second", "data", "where", "path")]
    given = next(filter(None, named), None)
    # Of several stores the first completes the rest of the line.
    return smae.open_store(given[0] if isinstance(given, tuple) else given)


def _check_run(path: str) -> None:
    from smae.train.run_folder import find_checkpoint, is_packaged

    # Weights are looked at where they are read.
    if not is_packaged(path) and not (Path(path) / "config.json").is_file():
        find_checkpoint(path)


def _clips(ctx: click.Context) -> Iterable[str]:
    return map(str, _store(ctx).clips.name)


def _protocols(ctx: click.Context) -> Iterable[str]:
    known = list(_store(ctx).protocols())
    return [*known, *(name.partition("-")[2] for name in known if "-" in name)]


PATH = click.Path(path_type=Path)
RECIPE = Name("recipe", _recipes, other=r".*\.toml")
PROBE = Name("probe", _from("smae.config", lambda of: of.probe_names()))
ONE_PROBE = Name(
    "probe", _from("smae.config", lambda of: [one for one in of.probe_names() if one not in of.MODE_GROUPS])
)
HEAD = Name("probe with a head", _from("smae.config", lambda of: of.HEADS))
SOURCE = Name("source", _from("smae.data.raw.source", lambda of: of.SOURCES.names()))
FORMAT = Name("format", _from("smae.data.export", lambda of: of.EXPORTS.names()))
LAYOUT = Name("layout", _from("smae.skeleton", lambda of: of.LAYOUTS.names()), other=r".*\.toml")
DEVICE = Name("device", lambda ctx: ("auto", "cpu", "cuda", "cuda:N"), other=r"cuda:\d+", called="device")
RUN = Completed(_runs, path=True, called="path", check=_check_run)
WEIGHTS = Completed(_runs, called="path", check=_lazily("smae.train.run_folder", "weights_folder"))
STORE = Completed(_stores, called="store", check=_check_store)
SETTING = Completed(_settings)
CLIP = Completed(_clips)
PROTOCOL = Completed(_protocols)


def newest(run: Path | None, *, needs: Need = "checkpoint", packaged: bool = False) -> Path | None:
    """Return the run, by default the newest that has what is needed; None if packaged weights stand in for it."""
    from smae.train.run_folder import find_run, weights_without_run

    if run is not None or (packaged and weights_without_run()):
        return run
    return find_run(needs=needs).path


def check_protocol(*, data: str | None, run: Path | None, protocol: str | None, layout: str | None) -> None:
    """Raise unless the store ``data``, by default the run's, can be opened and has the protocol."""
    from smae.train.run_folder import find_checkpoint

    where: Any = smae if run is None or layout else find_checkpoint(run)[0]
    opened = where.open_store(data)
    if protocol:
        opened.split(protocol)


def store(key: str = "store", *, several: bool = False) -> Decorator:
    """Return a decorator that adds the store of a command, or several, as arguments or as ``--data``."""
    return argument_or_option("STORE", "--data", key, STORE, several=several)


def run(key: str = "run", *, several: bool = False) -> Decorator:
    """Return a decorator that adds the run of a command, or several, as ``store`` does."""
    return argument_or_option("RUN", "--run", key, RUN, several=several)


def settings(help_text: str) -> Decorator:
    """Return a decorator that adds ``--set``."""
    shown, value = f"{help_text} Repeatable.", "SECTION.KEY=VALUE"
    return click.option("--set", "sets", multiple=True, type=SETTING, metavar=value, help=shown)


def argument_or_option(
    shown: str, option: str, key: str, kind: _Type, *, several: bool = False, required: bool = False
) -> Decorator:
    """Return a decorator that adds what may be an argument or an option."""
    nargs, after, help_text = 1, "", f"The same as {shown}."
    if several:
        nargs, after, help_text = -1, "...", f"{help_text} Repeatable."

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*args: Any, first: Any, second: Any, **options: Any) -> Any:
            if first and second:
                one, other = (value[0] if several else value for value in (first, second))
                raise click.UsageError(f"{one} and {option} {other}: name one")
            if required and not (first or second):
                raise click.UsageError(f"Missing argument '{shown}'.")
            return command(*args, **{key: first or second or None}, **options)

        called = click.option(option, "second", type=kind, multiple=several, help=help_text)(called)
        more: dict[str, Any] = {"metavar": f"[{shown}]{after}", "nargs": nargs, "type": kind}
        return click.argument("first", required=False, **more)(called)

    return decorate
