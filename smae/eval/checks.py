"""Checks before an evaluation: data that make figures flatter."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import progress
from smae.data.store.chunks import SHARD_ROWS
from smae.data.store.splits import Split
from smae.data.store.store import Store
from smae.train.run_folder import stores_of


def data_warnings(store: Store, split: Split) -> list[str]:
    """Return what makes any accuracy of a split say less than it seems, one line each."""
    label = np.asarray(store.clips.label)
    train, test = np.unique(label[split.train]), label[split.test]
    warnings, unseen = [], ~np.isin(test, train)
    if unseen.any():
        names = [store.classes[kind] for kind in np.unique(test[unseen])]
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        warnings.append(
            f"{unseen.sum():,} of the {len(test):,} test clips are of classes that the train part "
            f"never shows, and no probe can learn: {listed}"
        )
    for part, kinds in (("train", train), ("test", np.unique(test))):
        if len(kinds) == 1:
            warnings.append(
                f"the {part} part has clips of one class only ({store.classes[kinds[0]]}): no accuracy says anything"
            )
    copies = duplicates(store, split)
    if copies:
        warnings.append(f"{copies:,} of the {len(test):,} test clips have the same joints as a train clip")
    return warnings


def duplicates(store: Store, split: Split) -> int:
    """Return how many test clips have the same joints, bit for bit, as a train clip."""
    clips = store.clips
    size = np.asarray(clips.frames, np.int64) * clips.bodies
    both = np.union1d(split.train, split.test)
    hashes: dict[int, bytes] = {}
    # Many clips at once: a store is read in whole chunks.
    blocks = np.array_split(both, int(size[both].sum()) // SHARD_ROWS + 1)
    for block in progress.track(blocks, "copies among the clips", unit="blocks"):
        if not len(block):
            continue
        first = int(clips.offset[block[0]])
        rows = store.rows(first, int(clips.offset[block[-1]] + size[block[-1]]))
        for clip in block.tolist():
            start = int(clips.offset[clip]) - first
            own = rows[start : start + int(size[clip])].tobytes()
            hashes[clip] = hashlib.blake2b(own, digest_size=16, person=bytes([clips.bodies[clip]])).digest()
    train = {hashes[clip] for clip in split.train.tolist()}
    return sum(hashes[clip] in train for clip in split.test.tolist())


def seen_in_training(trained: Mapping[str, Any], protocol: str, store: Store, *, test: NDArray[np.int64]) -> int:
    """Return how many test clips pre-training saw; 0 if it used other stores."""
    own = stores_of(trained).get(store.fingerprint)
    if own is None:
        return 0
    protocol = own.get("protocol", protocol)
    return len(np.intersect1d(store.training_split(protocol).train, test))
