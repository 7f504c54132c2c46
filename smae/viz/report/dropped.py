"""What became of every raw file when the store was prepared: kept, left out by rule, set aside as bad, ignored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from smae.data.prepare.summary import decode_refused
from smae.data.raw.source import Refused
from smae.data.store.manifest import QUARANTINE, read_checked
from smae.data.store.store import Store
from smae.viz.report.markup import facts, note, table

SHOWN = 20
"""Bad files that the page names."""

WHY = {
    "missing-list": "on the published list of samples with missing skeletons",
    "no-body": "nobody was seen, or cleaning left nobody",
}
NOTED = {
    "bom": "a byte order mark before the text",
    "many-bodies": "many bodies in one frame",
    "nan": "a joint whose place was not a number",
    "nan-unused": "a number that was none, where no joint is",
    "duplicate": "a second copy with the same bytes",
    "empty-frames": "frames in which nobody was seen, cut out",
    "dropped-frames": "frames that show no actor, cut out",
    "removed-short": "a body that was seen too briefly, removed",
    "removed-spread": "a body wider than a person, removed",
    "kept-despite-length": "only brief bodies: the one that moves most was kept",
    "merged-bodies": "several ids of one person, joined",
    "dropped-bodies": "a third body, left out",
    "moved-bodies": "a body that left and came back, packed together",
    "held-joints": "missing joints, given a neighbouring place",
    "empty-actor": "a second actor of zeros, as the reference writes it",
}
"""What is counted in clips, by kind of note; a kind that is not here goes by its name."""


def draw_dropped(store: Store) -> str:
    """Return the counts of a store's preparation, in words, and the bad files."""
    counts = store.attributes.counts
    if not counts:
        return note("This store does not say what it was made of.")
    excluded = _numbers(counts.get("excluded"))
    parts = [
        ("kept", int(counts.get("ok", len(store))), "own"),
        ("left out by rule", sum(excluded.values()), "rule"),
        ("bad, in quarantine", int(counts.get("quarantined", 0)), "bad"),
        ("no samples, or copies", int(counts.get("ignored", 0)), "ignored"),
    ]
    found = sum(number for _, number, _ in parts)
    strip = "".join(
        f'<i class="{kind}" style="flex-grow:{number}" title="{escape(name)}: {number:,}"></i>'
        for name, number, kind in parts
        if number
    )
    keys = "".join(
        f'<span class="part {kind}">{escape(name)} <b>{number:,}</b></span>' for name, number, kind in parts if number
    )
    why = [(WHY.get(reason, reason), f"{number:,}") for reason, number in excluded.items()]
    noted = [(NOTED.get(kind, kind), f"{number:,}") for kind, number in _numbers(counts.get("noted")).items()]
    cards = [
        facts(title, rows) for title, rows in (("Left out, because", why), ("Kept, but noted (clips)", noted)) if rows
    ]
    return (
        f'<p class="note">{found:,} files were found.</p><div class="strip" role="img" aria-label="shares of the files '
        f'found">{strip}</div><p class="parts">{keys}</p><div class="cards">{"".join(cards)}</div>{_bad(store)}'
    )


def _numbers(value: Any) -> dict[str, int]:
    return {str(key): int(number) for key, number in value.items()} if isinstance(value, Mapping) else {}


def _bad(store: Store) -> str:
    refused = decode_refused(read_checked(store.root, store.files[QUARANTINE])) if QUARANTINE in store.files else ()
    if not refused:
        return ""
    kinds = Counter(one.code for one in refused)
    rows = [(_place(one), one.code, one.message) for one in refused[:SHOWN]]
    more = f"and {len(refused) - SHOWN:,} more, in the store's {QUARANTINE}" if len(refused) > SHOWN else ""
    told = ", ".join(f"{code} {number:,}" for code, number in kinds.most_common())
    return f"<h3>In quarantine: {escape(told)}</h3>{table(('file', 'kind', 'what is wrong'), rows)}{note(more)}"


def _place(one: Refused) -> str:
    return f"{one.path}:{one.line}:{one.column}" if one.line else one.path
