"""Labels with probabilities for recordings of one's own: read as prepare reads them, classified by a kept head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softmax

from smae.data.clean.cleaning import clean, resample
from smae.data.loader.loader import Loader
from smae.data.raw.recording import Clip
from smae.data.raw.source import SOURCES, Refused, Sample
from smae.errors import EXIT_DATA, EXIT_DONE, EXIT_QUARANTINED, BadRecording, ConfigError, DataError, NoBody
from smae.eval.export import Prepared, Travelled
from smae.skeleton import Layout
from smae.train.run_folder import Run

_BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What one recording is taken for.

    Attributes:
        path: the file.
        label: the most probable class.
        probability: its probability, as the head says; heads are not calibrated.
        first: the most probable classes and their probabilities, at most five.
        bodies, frames: of the clip that was made of it.
    """

    path: str
    label: str
    probability: float
    first: tuple[tuple[str, float], ...]
    bodies: int
    frames: int


@dataclass(frozen=True)
class Predictions:
    """What became of all recordings.

    Attributes:
        head: whose classes these are, for people.
        found: one a good recording, in the order given.
        quarantined: the bad ones, as prepare lists them.
        nobody: recordings in which nobody was seen.
        names: the head's classes as people read them, by id.
    """

    head: str
    found: tuple[Prediction, ...]
    quarantined: tuple[Refused, ...]
    nobody: tuple[str, ...]
    names: Mapping[str, str]

    @property
    def exit_code(self) -> int:
        """0; 3 where a recording was set aside; 4 where all were."""
        if not self.found:
            return EXIT_DATA
        return EXIT_QUARANTINED if self.quarantined or self.nobody else EXIT_DONE


@dataclass(frozen=True)
class _Columns:
    """The columns of a clip table that loading needs."""

    offset: NDArray[np.int64]
    frames: NDArray[np.int64]
    bodies: NDArray[np.int64]
    label: NDArray[np.int64]


class ClipsInMemory:
    """Clips that no store holds, in the form that a ``Loader`` reads; their labels are unknown and read 0."""

    fingerprint = "in memory"

    def __init__(self, clips: Sequence[Clip], *, layout: Layout, mode: str) -> None:
        self.layout, self.mode = layout, mode
        bodies, frames = np.array([clip.joints.shape[:2] for clip in clips], np.int64).T
        self.clips = _Columns(np.cumsum(bodies * frames) - bodies * frames, frames, bodies, np.zeros_like(bodies))
        self._rows = np.concatenate([clip.joints.reshape(-1, *clip.joints.shape[2:]) for clip in clips])

    def __len__(self) -> int:
        return len(self.clips.offset)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres."""
        return self._rows[start:stop]


def find_head(run: Run, *, protocol: str | None, mode: str | None) -> Path:
    """Return the folder of a run's classifier; of several, the run's own protocol and the fine-tuned one come first.

    Raises:
        DataError: there is none such; the message says which command makes one.
    """
    own = run.describe()["config"].get("protocol", "")
    found = [(folder.name.rpartition("-"), folder) for folder in sorted(run.heads.glob("*-*")) if folder.name[0] != "."]
    fitting = [
        (not _is(name, own), kind == "linear", folder)
        for (name, _, kind), folder in found
        if mode in (None, kind) and (protocol is None or _is(name, protocol))
    ]
    if not fitting:
        there = f" (there: {', '.join(folder.name for _, folder in found)})" if found else ""
        raise DataError(
            f"{run.path} keeps no trained head{f' of {mode}' if mode else ''}{f' on {protocol}' if protocol else ''}"
            f"{there}: make one with `smae eval --checkpoint {run.path} --mode {mode or 'linear'}"
            f"{f' --protocol {protocol}' if protocol else ''}`"
        )
    return min(fitting)[2]


def _is(name: str, protocol: str) -> bool:
    return name == protocol or name.endswith(f"-{protocol}")


def predict(
    paths: Sequence[Path],
    model: Travelled,
    *,
    name: str,
    source: str | None = None,
    device: torch.device,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """Return what a classifier takes recordings for.

    Args:
        paths: raw files, one recording each.
        model: a classifier with its head.
        name: what it is called, for people.
        source: registered source of the files; the one that the classifier was trained on when left out.
        device: where to compute.
        tell: takes progress: files read, in all.

    Raises:
        ConfigError: no such file, or a source of clips that cannot be read singly.
        BadRecording, NoBody: the only recording given is bad, or shows nobody; several are listed instead.
        DataError: the weights have no head, or know other joints than the source has.
    """
    head, good, clips = model.stated.head, list[Path](), list[Clip]()
    if head is None:
        raise DataError(f"{name}: an encoder without a head knows no classes: give a run that smae eval judged")
    refused, nobody = list[Refused](), list[str]()
    for number, path in enumerate(paths, 1):
        tell(number, len(paths))
        try:
            clips.append(read_clip(path, prepared=model.stated.prepared, layout=model.layout, source=source))
            good.append(path)
        except BadRecording as error:
            if len(paths) == 1:
                raise
            refused.append(_refused(path, error))
        except NoBody:
            if len(paths) == 1:
                raise
            nobody.append(str(path))
    found = [
        _prediction(path, clip, row, head.classes)
        for path, clip, row in zip(good, clips, _probabilities(clips, model, device), strict=True)
    ]
    names = dict(zip(head.classes, head.names or head.classes, strict=True))
    return Predictions(name, tuple(found), tuple(refused), tuple(nobody), names)


def read_clip(path: Path, *, prepared: Prepared, layout: Layout, source: str | None = None) -> Clip:
    """Return the clip of one raw file, as prepare would have made it for the training store.

    Raises:
        ConfigError: no such file, or a source that reads no single files.
        BadRecording: the file breaks the format.
        NoBody: nobody was seen in it.
        DataError: the source's joints are laid out otherwise than the encoder's.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file: give raw recordings, one file each")
    chosen = source or prepared.source
    maker = SOURCES.get(chosen)()
    if maker.cleaned is not None:
        raise ConfigError(f"source '{chosen}' holds many clips a file: prepare it for smae embed, or name --source")
    if maker.layout.name != layout.name:
        raise DataError(f"source '{chosen}' has layout {maker.layout.name}, the encoder was trained on {layout.name}")
    reader = maker.reader(path)
    try:
        data = bytes(reader.read(Sample(path.name.partition(".")[0], path.name, "", path.stat().st_size)))
    finally:
        reader.close()
    parsed = maker.parse(data, strict=prepared.strict, max_range=prepared.max_range)
    clip = parsed if isinstance(parsed, Clip) else clean(parsed, mode=prepared.mode, layout=layout)
    if prepared.frames is not None:
        clip = replace(clip, joints=resample(clip.joints, prepared.frames))
    return clip


@torch.no_grad()
def _probabilities(clips: Sequence[Clip], model: Travelled, device: torch.device) -> NDArray[np.float64]:
    """Return float64 [n, K], a softmax over classes."""
    if not clips:
        return np.zeros((0, 0))
    store = ClipsInMemory(clips, layout=model.layout, mode=model.stated.prepared.mode)
    loader = Loader(
        store, np.arange(len(clips)), augment=model.stated.augment, batch=_BATCH, seed=0, train=False, device=device,
        workers=0,
    )  # fmt: skip
    classify = model.model.to(device)
    rows = [softmax(classify(batch).double(), 1).cpu() for batch in loader.epoch(0)]
    return torch.cat(rows).numpy()


def _prediction(path: Path, clip: Clip, row: NDArray[np.float64], classes: Sequence[str]) -> Prediction:
    order = np.argsort(-row, kind="stable")[:5]
    first = tuple((classes[number], float(row[number])) for number in order)
    bodies, frames = clip.joints.shape[:2]
    return Prediction(str(path), *first[0], first, bodies, frames)


def _refused(path: Path, error: BadRecording) -> Refused:
    data = path.read_bytes() if path.is_file() else b""
    return Refused(
        path=str(path), code=error.code, message=error.message, size=len(data), line=error.line, column=error.column,
        sha256=hashlib.sha256(data).hexdigest(), excerpt=error.excerpt,
    )  # fmt: skip
