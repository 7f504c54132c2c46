"""Classes of raw recordings: prepared like the training data, classified by a head of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softmax

from smae import interrupts, progress
from smae.config import HEADS, renamed
from smae.data.loader.loader import Loader
from smae.data.raw.keypoints import Keypoints
from smae.data.raw.recording import RATE, Clip
from smae.data.raw.source import Refused
from smae.errors import EXIT_DATA, EXIT_DONE, EXIT_QUARANTINED, ConfigError, DataError, UnknownNameError
from smae.eval.export import HeadConfig, LoadedEncoder, read_weights
from smae.eval.probes import ENCODE_BATCH
from smae.eval.raw_clips import ClipsInMemory, RawRecording, Windows, read_recordings, windows_of
from smae.eval.results import read_results
from smae.registry import nearest
from smae.tables import Grid, Table, percent
from smae.train.distributed import pick_device
from smae.train.run_folder import Run, find_run, is_packaged, stores_of, weights_without_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Second:
    """Predicted class of one second of a long recording.

    Attributes:
        second: its number, from 0.
        label: the most probable class; None where no body was recorded.
        probability: its softmax probability, the mean over windows; 0 without a label.
    """

    second: int
    label: str | None
    probability: float


@dataclass(frozen=True)
class Prediction:
    """Predicted classes of one recording.

    Attributes:
        path: the file; for a member of a zip, the zip and the member.
        label: the most probable class.
        probability: its softmax probability, not calibrated.
        first: the most probable classes with their probabilities, at most five.
        bodies, frames: of the clip; of a long recording, the most bodies at once, and all frames.
        track: of a long recording, the class of each second, whose mean the others are.
    """

    path: str
    label: str
    probability: float
    first: tuple[tuple[str, float], ...]
    bodies: int
    frames: int
    track: tuple[Second, ...] = ()


@dataclass(frozen=True)
class Predictions(Table):
    """Predictions for several recordings.

    Attributes:
        head: name of the head, for people.
        found: one for each good recording, in the order given; in a folder or zip by name.
        quarantined: the bad recordings, as ``prepare`` lists them.
        no_body: recordings without a body.
        names: readable names of the head's classes, by id.
    """

    head: str
    found: tuple[Prediction, ...]
    quarantined: tuple[Refused, ...]
    no_body: tuple[str, ...]
    names: Mapping[str, str]

    @property
    def exit_code(self) -> int:
        """0 if all recordings are good, 3 if some are not, 4 if none is."""
        if not self.found:
            return EXIT_DATA
        return EXIT_QUARANTINED if self.quarantined or self.no_body else EXIT_DONE

    def tables(self) -> list[Grid]:
        rows = []
        for one in self.found:
            others = [f"{self.names[label]} {percent(share)}" for label, share in one.first[1:3]]
            rows.append((one.path, self.names[one.label], percent(one.probability), ", ".join(others)))
        return [Grid(("recording", "class", "probability %", "then"), rows, self.head)]


@renamed(mode="probe")
@interrupts.deferred("run it again")
def predict(
    files: Sequence[Path | str | Keypoints],
    *,
    run: Path | str | None = None,
    head: Path | str | None = None,
    probe: str | None = None,
    protocol: str | None = None,
    source: str | None = None,
    layout: str | None = None,
    stride: float | None = None,
    device: str = "auto",
) -> Predictions:
    """Classify raw recordings with a head that ``evaluate`` trained.

    A recording longer than every clip of the training data is classified second by second, in
    windows of the median length of these clips.

    Args:
        files: recordings, folders and zips of recordings, and what ``from_keypoints`` returned.
        run: a run folder. Default the newest run with a head; where there is no run, the packaged
            ``open-small``.
        head: folder of a head instead, one of ``runs/x/heads``, or the name of packaged weights.
        probe: the one that trained the head; default by the rule of ``find_head``.
        protocol: split of the head; default the one of the run.
        source: registered source of the files; default the one of the training data.
        layout: whose joints the files hold, where they do not say: a name or a ``.toml`` file.
        stride: seconds between two windows of a long recording; default 1.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.

    Raises:
        ConfigError: no such file, a wrong stride, or options that exclude each other.
        UnknownNameError: a probe that keeps no head.
        BadRecording, NoBody: the only recording is bad or has no body; of several it is listed.
        DataError: no run or head, or weights without a head or of another joint layout.
    """
    head, model, config = load_head(head, run=run, protocol=protocol, probe=probe)
    target, prepared = pick_device(device), model.config.prepared
    windows = windows_of(prepared, frames=model.config.augment.frames, stride=stride)
    read = read_recordings(files, prepared=prepared, layout=model.layout, own=layout, source=source, windows=windows)
    rows, at = probabilities(read.clips, model, target), 0
    found = []
    for one in read.found:
        count = sum(clip is not None for clip in one.clips)
        found.append(_prediction(one, rows[at : at + count], config.classes, windows))
        at += count
    names = dict(zip(config.classes, config.names or config.classes, strict=True))
    return Predictions(str(head), tuple(found), read.quarantined, read.no_body, names)


def load_head(
    head: Path | str | None, *, run: Path | str | None, protocol: str | None, probe: str | None
) -> tuple[Path, LoadedEncoder, HeadConfig]:
    """Return the folder of a head, its classifier and its classes; see ``predict``.

    Raises:
        ConfigError: options that exclude each other.
        DataError: no run or head, or weights without a head.
        UnknownNameError: a probe that keeps no head.
    """
    if probe is not None and probe not in HEADS:
        listed = f"expected one of {', '.join(HEADS)}{nearest(probe, HEADS)}"
        raise UnknownNameError(f"no head is kept of probe '{probe}': {listed}")
    options = (run, probe, protocol)
    if head is None and not any(options) and (head := weights_without_run()):
        logger.info(f"no run here: using the packaged classifier {head}")
    if head is None:
        head = find_head(find_run(run, needs="head"), protocol=protocol, probe=probe)
    elif any(options):
        raise ConfigError("--head excludes --run, --probe and --protocol: leave them out")
    model = read_weights(head)
    classes = model.config.head
    if classes is None:
        raise DataError(f"{head}: an encoder without a head has no classes: give a run that smae eval evaluated")
    if is_packaged(head):
        known = ", ".join(classes.classes)
        logger.info(f"{head} knows {len(classes.classes)} classes and no others: {known}")
    return Path(head), model, classes


def find_head(run: Run, *, protocol: str | None = None, probe: str | None = None) -> Path:
    """Return the folder of a head, and say which one it is.

    The run's own protocol comes first, then its own store, ``finetune`` before ``linear`` before
    others, the newest checkpoint, the latest evaluation.

    Raises:
        DataError: there is none; the message has the command that makes one.
    """

    def matches(name: str, wanted: str) -> bool:
        return name == wanted or name.endswith(f"-{wanted}")

    about = run.describe()
    own, store, order = about["config"].get("protocol", ""), stores_of(about["store"]), ("finetune", "linear")
    heads = [
        (result, record)
        for result in read_results(run, strict=False)
        for record in result.records
        if (run.heads / record.name / "config.json").is_file()
    ]
    fitting = [
        (not matches(one.protocol, own), one.first["store"] not in store, (*order, one.mode).index(one.mode), number)
        for number, (one, _) in enumerate(heads)
        if probe in (None, one.mode) and (protocol is None or matches(one.protocol, protocol))
    ]
    if not fitting:
        wanted, options = "", f"--probe {probe or 'linear'}"
        if probe:
            wanted = f" of {probe}"
        if protocol:
            wanted += f" on {protocol}"
            options += f" --protocol {protocol}"
        names = sorted(folder.name for folder in run.heads.glob("*") if folder.name[0] != ".")
        if names:
            wanted += f" (there: {', '.join(names)}; --head takes any of them)"
        raise DataError(f"{run.path} has no trained head{wanted}: make one with `smae eval --run {run.path} {options}`")
    result, record = heads[min(fitting)[-1]]
    content, folder = record.content, run.heads / record.name
    notes = "".join(f"; {note}" for note in result.notes)
    logger.info(
        f"using the head {folder}: {result.mode} on {result.protocol}, "
        f"store {content['store'][:8]}, step {content['checkpoint']['step']:,}, "
        f"seed {content['seed']}, top-1 {record.rows[0].top1:.1%}{notes} "
        f"({len(fitting)} fit; --head names another)"
    )
    return folder


@torch.no_grad()
def probabilities(clips: Sequence[Clip], model: LoadedEncoder, device: torch.device) -> NDArray[np.float64]:
    """Return float64 [n, K], a softmax over the classes of a classifier, of n clips."""
    if not clips:
        return np.zeros((0, 0))
    store = ClipsInMemory(clips, layout=model.layout, mode=model.config.prepared.mode)
    loader = Loader(
        store,
        np.arange(len(clips)),
        augment=model.config.augment,
        batch=ENCODE_BATCH,
        seed=0,
        train=False,
        device=device,
        workers=0,
    )
    classify = model.model.to(device)
    batches = progress.track(loader.epoch(0), "classify", total=len(loader), unit="batches")
    return torch.cat([softmax(classify(batch).double(), 1).cpu() for batch in batches]).numpy()


def first_five(row: NDArray[np.float64], classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Return the most probable classes and their probabilities, of probabilities [K]."""
    order = np.argsort(-row, kind="stable")[:5]
    return tuple((classes[number], float(row[number])) for number in order)


def _prediction(one: RawRecording, rows: NDArray[np.float64], classes: Sequence[str], windows: Windows) -> Prediction:
    """Return the prediction of a recording from the probabilities [n, K] of its n clips with a body."""
    first = first_five(rows[0] if len(rows) == 1 else rows.mean(0), classes)
    clips = [clip for clip in one.clips if clip is not None]
    bodies, frames = max(len(clip.joints) for clip in clips), one.frames
    if one.whole:
        return Prediction(one.where, *first[0], first, bodies, clips[0].joints.shape[1])
    return Prediction(one.where, *first[0], first, bodies, frames, _track(one, rows, classes, windows))


def _track(
    one: RawRecording, rows: NDArray[np.float64], classes: Sequence[str], windows: Windows
) -> tuple[Second, ...]:
    """Return the label of each second: the mean over the windows around its centre."""
    starts = np.array([start for start, clip in zip(one.starts, one.clips, strict=True) if clip is not None])
    track = []
    for second in range(-(-one.frames // RATE)):
        centre = min(second * RATE + RATE // 2, one.frames - 1)
        around = (starts <= centre) & (centre < starts + windows.frames)
        if not around.any():
            track.append(Second(second, None, 0.0))
            continue
        row = rows[around].mean(0)
        best = int(row.argmax())
        track.append(Second(second, classes[best], float(row[best])))
    return tuple(track)
