"""The order of clips in an epoch: a pure function of (seed, epoch, store fingerprint)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smae.data.store.clips import ClipTable
from smae.errors import ConfigError
from smae.rng import Noise

BLOCK_ROWS = 65_536
"""Rows of a block: the store's shard, the unit that streaming reads whole."""

Ints = NDArray[np.int64]
SEGMENT = 32
"""Batches whose clips are sorted by subject together; more keep more blocks open in streaming."""

RowMode = Literal["auto", "device", "resident", "streaming"]
"""Where a loader keeps the rows it samples from; see ``row_cache``."""


@dataclass(frozen=True)
class EpochDraws:
    """Random numbers for the order of an epoch: a function of these, of a stream, and of a number.

    Attributes:
        seed: the run's.
        epoch: 0-based.
        fingerprint: the store's, so that two stores do not share an order by their clip numbers.
    """

    seed: int
    epoch: int
    fingerprint: str

    def of(self, number: Ints, *, stream: str) -> NDArray[np.float64]:
        """Return float64 [n], uniform on [0, 1) in steps of 2**-48: ties do not matter."""
        digest = hashlib.sha256(f"{self.seed} {self.fingerprint}".encode()).digest()
        noise = Noise(int.from_bytes(digest[:8], "little"), self.epoch, np.asarray(number, np.int64))
        pair = noise.uniform(stream, 2).astype(np.float64)
        drawn: NDArray[np.float64] = pair[:, 0] + pair[:, 1] * 2.0**-24
        return drawn


def block_of(offset: Ints, *, block_rows: int = BLOCK_ROWS) -> Ints:
    """Return int64 [n], the block of each clip: the one that holds its first row."""
    return np.asarray(offset, np.int64) // block_rows


def shuffled(index: Ints, block: Ints, *, window: int, draws: EpochDraws) -> Ints:
    """Return the positions 0..n-1 in an epoch's order, shuffled over ``window`` blocks.

    The permuted blocks stand along a line, block j at [j, j + 1). A clip of block j is drawn
    uniformly onto [j, j + window), and the clips are taken from left to right: at any time at most
    ``window`` blocks are open, and one opens whenever one closes, so reading never comes in bursts.
    The first ``window`` blocks are open from the start and none stays open past the end, so both
    ends are as well mixed as the middle. Of no more than ``window`` blocks it is a full shuffle.

    Args:
        index: int64 [n], clip numbers in the store; they key the draws.
        block: int64 [n], each clip's block (see ``block_of``).
        window: how many blocks are shuffled together, at least 1.
        draws: the epoch's random numbers.
    """
    blocks, ordinal = np.unique(block, return_inverse=True)
    position = np.empty(len(blocks), np.int64)
    shuffled_blocks = np.argsort(draws.of(blocks, stream="order of blocks"), kind="stable")
    position[shuffled_blocks] = np.arange(len(blocks))
    opens = position[ordinal]
    closes = np.minimum(opens + window, len(blocks))
    opens = np.where(opens < window, 0, opens)
    drawn = opens + (closes - opens) * draws.of(index, stream="order of clips")
    return np.argsort(drawn, kind="stable").astype(np.int64)


def clips_by_share(count: Ints, shares: Sequence[float]) -> Ints:
    """Return int64 [S], how many clips of each source an epoch takes: as many as ``shares`` allow.

    No clip is taken twice, so the source that is scarcest for its share is used up, and of the
    others a part is drawn anew in each epoch.

    Args:
        count: int64 [S], clips of each source, at least 1.
        shares: of the clips of an epoch; they sum to 1.
    """
    share = np.asarray(shares, np.float64)
    whole = np.min(count / share)
    return np.clip(np.round(whole * share).astype(np.int64), 1, count)


def drawn_by_share(index: Ints, member: Ints, taken: Ints, draws: EpochDraws) -> NDArray[np.bool_]:
    """Return bool [n], the clips that an epoch takes: ``taken`` [S] of each source, at random.

    Args:
        index: int64 [n], clip numbers in the store; they key the draws.
        member: int64 [n], the source of each.
        taken: int64 [S], see ``clips_by_share``.
        draws: the epoch's random numbers.
    """
    drawn = draws.of(index, stream="clips by share")
    chosen = np.zeros(len(index), np.bool_)
    for source, count in enumerate(taken.tolist()):
        own = np.flatnonzero(member == source)
        chosen[own[np.argsort(drawn[own], kind="stable")[:count]]] = True
    return chosen


def by_subject(order: Ints, subject: Ints, *, batch: int, draws: EpochDraws) -> Ints:
    """Return ``order`` with clips exchanged so that a batch has clips of few subjects.

    Differences between subjects then separate few clips of a batch ("Subject-aware contrastive
    learning for biosignals", Cheng et al. 2020). Of ``SEGMENT`` batches at a time the clips are
    sorted by subject, subjects in random order, and cut anew; the full batches are then shuffled.

    Args:
        order: int64 [n], positions of clips, at least one.
        subject: int64 [n], at least 0, the subject of each.
        batch: clips in a batch.
        draws: the epoch's random numbers.
    """
    place = np.arange(len(order))
    segment, number = place // (batch * SEGMENT), place // batch
    group = segment * (subject.max() + 1) + subject
    grouped = np.lexsort([draws.of(group, stream="order of subjects"), segment])
    drawn = draws.of(number, stream="order of batches")
    # A last batch that is not full stays the last.
    drawn[len(order) // batch * batch :] = 1
    return order[grouped][np.lexsort([drawn, segment])]


def other_cameras(clips: ClipTable, index: Ints, *, views: int) -> Ints:
    """Return int64 [V, n], the positions among ``index`` that each view of its clips shows.

    View 0 shows the clip itself; view v the v-th of the other cameras' recordings of the same act
    (equal setup, subject, action and repetition), in the order of cameras, round and round. A clip
    without such a recording shows itself.

    Args:
        clips: the store's clips.
        index: int64 [n], clip numbers.
        views: V.

    Raises:
        ConfigError: one view only, cameras unknown, two clips of one act by one camera, or no act
            that two cameras recorded.
    """
    if views < 2:
        raise ConfigError("train.positives=cameras: expected an objective that compares views, found one view a clip")
    camera = clips.camera[index]
    columns = [getattr(clips, name)[index] for name in ("setup", "subject", "label", "replication")]
    # Sorted by act, then camera: the recordings of an act stand side by side.
    order = np.lexsort([camera, *columns[::-1]])
    _, act, size = np.unique(np.stack(columns, 1)[order], axis=0, return_inverse=True, return_counts=True)
    act = act.ravel()
    same = (act[1:] == act[:-1]) & (camera[order][1:] == camera[order][:-1])
    if same.any() or (camera < 0).any() or size.max() < 2:
        found = "no act that two cameras recorded"
        if (camera < 0).any():
            found = f"{clips.name[index[camera.argmin()]]} without a camera"
        elif same.any():
            first, second = clips.name[index[order[np.flatnonzero(same)[0] + np.arange(2)]]]
            found = f"{first} and {second} of the same act and camera"
        raise ConfigError(f"train.positives=cameras: expected clips that name act and camera, found {found}")
    begin = (np.cumsum(size) - size)[act]
    rank = np.arange(len(order)) - begin
    shown = np.empty((views, len(order)), np.int64)
    for view in range(views):
        shown[view, order] = order[begin + (rank + view) % size[act]]
    return shown


def batches_of(
    order: Ints, *, batch: int, skip: int = 0, drop_last: bool = False, rank: int = 0, world: int = 1
) -> list[Ints]:
    """Cut an order into batches, leaving out its first ``skip`` clips (those of finished steps).

    With ``world`` processes, each takes every ``world``-th clip of a batch: together they take what
    one process would take alone.
    """
    rest = order[skip:]
    stop = len(rest)
    if drop_last:
        stop = stop // batch * batch
    return [rest[start : min(start + batch, stop)][rank::world] for start in range(0, stop, batch)]
