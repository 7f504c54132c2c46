"""The card of a store: what it holds, what it was made of and how, what was left out, what may be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from smae.data.raw.labels import NTU_DATASETS, count_classes
from smae.data.store.info import StoreInfo, info
from smae.data.store.store import Store

_MODES = {
    "reference": "as published results were computed, frames without anybody cut out",
    "exact": "every body at its true frames, what nobody saw marked as missing",
}
_NTU_TERMS = (
    "The recordings are named as NTU RGB+D's. If they are that data set's, its owners (ROSE Lab, Nanyang Technological "
    "University) give them for academic research under terms of their own, which hold for this store too: do not pass "
    "it on to people who have not accepted them, and cite the data set as they ask."
)
_OTHER_TERMS = (
    "What may be done with this store depends on the terms of the recordings that it was made of, which are their "
    "owners' to tell."
)


def dataset_card(store: Store) -> str:
    """Return a dataset card in Markdown, made of what the store says of itself; reads no rows."""
    about = info(store)
    classes = count_classes(store)
    terms = _NTU_TERMS if store.dataset in NTU_DATASETS else _OTHER_TERMS
    sections = {
        "What it holds": _table(_facts(about)),
        "Protocols": _table(
            [("protocol", "train / test clips")]
            + [(name, f"{train:,} / {test:,}") for name, (train, test) in about.protocols.items()]
        ),
        "How it was made": _bullets(_making(about, store.attributes.origin)),
        "What was left out": _bullets(_left_out(about.counts)),
        "Classes": _table(
            [("label", "class", "clips")] + [(str(one.label), one.name, f"{one.clips:,}") for one in classes]
        ),
        "Licence and people": [
            terms,
            "",
            "Skeletons are recordings of people: gait and build can identify a person without a picture.",
        ],
    }
    lines = [f"# {PurePath(str(about.path)).name}", "", f"3D skeletons of `{about.dataset}`, prepared with smae.", ""]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""]
    return "\n".join(lines)


def _facts(about: StoreInfo) -> list[tuple[str, ...]]:
    bodies = ", ".join(f"{clips:,} with {count}" for count, clips in about.bodies.items())
    return [
        ("", ""),
        ("clips", f"{about.clips:,} (bodies: {bodies})"),
        (
            "frames",
            f"{about.frames:,}; a clip {about.frames_min} to {about.frames_max}, median {about.frames_median:g}",
        ),
        ("joints", f"layout `{about.layout}`, float32 metres when read, kept as {about.codec}"),
        ("subjects, cameras, setups", f"{about.subjects}, {about.cameras}, {about.setups} (0: not known)"),
        ("size", f"{about.bytes / 1e6:,.1f} MB"),
        ("fingerprint", f"`{about.fingerprint}`"),
    ]


def _making(about: StoreInfo, origin: Mapping[str, Any]) -> list[str]:
    settings = {key: value for key, value in origin.items() if key not in ("source", "mode", "inputs", "names")}
    return [
        f"source `{origin.get('source', 'not told')}`",
        f"mode `{about.mode}`: {_MODES[about.mode]}",
        *[f"{key.replace('_', ' ')}: {_word(value)}" for key, value in settings.items()],
        *([f"SHA-256 of the names and sizes of its recordings: `{origin['inputs']}`"] if "inputs" in origin else []),
    ]


def _left_out(counts: Mapping[str, Any]) -> list[str]:
    if not counts:
        return ["not told: the clips were written directly"]
    kept, noted = counts["ok"], counts["noted"]
    return [
        f"of {counts['found']:,} files found, {kept:,} became clips",
        *[f"{number:,} left out by rule: {reason}" for reason, number in counts["excluded"].items()],
        f"{counts['quarantined']:,} bad files, listed in `quarantine.jsonl`",
        f"{counts['ignored']:,} other files and second copies",
        *([f"noted of clips: {', '.join(f'{kind} {number:,}' for kind, number in noted.items())}"] if noted else []),
    ]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "as recorded" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _bullets(lines: list[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *rest]
