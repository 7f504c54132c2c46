"""Names of classes as people read them: those that a store was told, else NTU RGB+D's where the ids are NTU's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from smae.data.store.store import Store

NTU_DATASETS = ("ntu60", "ntu120")


@cache
def ntu_actions() -> tuple[str, ...]:
    """Return NTU RGB+D 120's 120 actions in the owners' words, A001 first; the first 60 are NTU RGB+D's."""
    return tuple(files("smae.data.raw.lists").joinpath("ntu_actions.txt").read_text(encoding="ascii").splitlines())


def class_name(dataset: str, label: str, told: Mapping[str, str] | None = None) -> str:
    """Return a class as people read it: ``A013 tear up paper``, or ``label`` itself where nobody named it.

    Args:
        dataset: the store's; ids of ``ntu60`` and ``ntu120`` get NTU's names where none were told.
        label: the id.
        told: names by id, as ``smae prepare --classes`` or a ``classes.txt`` among the recordings told them.
    """
    if told:
        return f"{label} {told[label]}" if label in told else label
    number = int(label[1:]) if dataset in NTU_DATASETS and label[1:].isdecimal() else 0
    return f"{label} {ntu_actions()[number - 1]}" if 0 < number <= len(ntu_actions()) else label


def class_names(store: Store, labels: tuple[str, ...] | None = None) -> list[str]:
    """Return a store's classes, or those of ``labels``, as people read them, by label."""
    labels = store.classes if labels is None else labels
    return [class_name(store.dataset, label, store.names) for label in labels]


def names_note(store: Store) -> str:
    """Return what people should know of a store's class names; nothing where they were told, or there are none."""
    if store.names or class_names(store) == list(store.classes):
        return ""
    return (
        "Class names are NTU RGB+D's, by number: recordings of other people that are named like NTU's get them too. "
        "smae prepare --classes FILE, or a classes.txt among the recordings, names other actions."
    )


@dataclass(frozen=True)
class ClassCount:
    """One class of a store: its label (the index into ``Store.classes``), its id, how people read it, and its clips."""

    label: int
    id: str
    name: str
    clips: int


def count_classes(store: Store) -> list[ClassCount]:
    """Return a store's classes by label, with the number of their clips; reads no rows."""
    clips = np.bincount(store.clips.label, minlength=len(store.classes)).tolist()
    named = zip(store.classes, class_names(store), clips, strict=True)
    return [ClassCount(label, id_, name, n) for label, (id_, name, n) in enumerate(named)]
