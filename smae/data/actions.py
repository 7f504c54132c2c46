"""Names of classes: NTU RGB+D's ids such as ``A013`` with the action in words; other data sets' as they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from smae.data.storage.store import Store

NTU_DATASETS = ("ntu60", "ntu120")


@cache
def ntu_actions() -> tuple[str, ...]:
    """Return NTU RGB+D 120's 120 actions in the owners' words, A001 first; the first 60 are NTU RGB+D's."""
    return tuple(files("smae.data.lists").joinpath("ntu_actions.txt").read_text(encoding="ascii").splitlines())


def class_name(dataset: str, label: str) -> str:
    """Return a class as people read it: ``A013 tear up paper`` where the data set is NTU's, else ``label`` itself.

    Recordings of others that are named like NTU's count as NTU's, since nothing in them tells the difference.
    """
    number = int(label[1:]) if dataset in NTU_DATASETS and label[1:].isdecimal() else 0
    return f"{label} {ntu_actions()[number - 1]}" if 0 < number <= len(ntu_actions()) else label


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
    pairs = zip(store.classes, clips, strict=True)
    return [ClassCount(label, id_, class_name(store.dataset, id_), n) for label, (id_, n) in enumerate(pairs)]
