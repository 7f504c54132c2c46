"""The settings of a run and what it was made with: as lists, and of several runs only what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smae.viz.report.markup import facts, table


def flat(settings: Mapping[str, Any], *, under: str = "") -> dict[str, str]:
    """Return settings with dotted names, as text."""
    told: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{under}{key}"
        told |= flat(value, under=f"{name}.") if isinstance(value, Mapping) else {name: _word(value)}
    return told


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_word, value)) or "–" if isinstance(value, list | tuple) else str(value)


def draw_settings(about: Mapping[str, Any]) -> str:
    """Return a run's settings, a card a section."""
    sections, single = [], []
    for key, value in about["config"].items():
        if isinstance(value, Mapping):
            sections.append(facts(key, flat(value).items()))
        else:
            single.append((key, _word(value)))
    first = facts("run", [("recipe", str(about.get("recipe", "–"))), *single])
    return f'<div class="cards settings">{first}{"".join(sections)}</div>'


def draw_versions(about: Mapping[str, Any]) -> str:
    """Return software, machine and store of a run."""
    store, device = about["store"], about["device"]
    data = [
        ("name", Path(str(store.get("path", "–"))).name),
        ("data set", _word(store.get("dataset"))),
        ("mode", f"{_word(store.get('mode'))} mode"),
        ("layout", _word(store.get("layout"))),
        ("clips", f"{int(store.get('clips', 0)):,}"),
        ("fingerprint", str(store.get("fingerprint", "–"))),
    ]
    cards = (
        facts("store", data),
        facts("versions", flat(about["versions"]).items()),
        facts("device", flat(device).items()),
    )
    return f'<div class="cards">{"".join(cards)}</div>'


def draw_differences(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the settings in which runs differ, a column a run; ``-`` where a run has no such setting."""
    told = [
        flat(
            {
                "recipe": about.get("recipe", ""),
                **about["config"],
                "versions": about["versions"],
                "store": about["store"],
            }
        )
        for _, about in runs
    ]
    rows = []
    for key in dict.fromkeys(key for one in told for key in one):
        values = [one.get(key, "-") for one in told]
        if key != "store.path" and len(set(values)) > 1:
            rows.append((key, *(value if len(value) <= 40 else f"{value[:16]}…" for value in values)))
    if not rows:
        return '<p class="note">The runs have the same settings, store and versions.</p>'
    return table(("setting", *(name for name, _ in runs)), rows, kind="differences")
