"""Classes of raw recordings: prepared like the training data, classified by a head of a run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softmax

from smae import interrupts, progress
from smae.data.clean.cleaning import clean, resample
from smae.data.loader.loader import Loader
from smae.data.prepare import UNITS
from smae.data.raw.recording import Clip
from smae.data.raw.source import SOURCES, Refused, Sample, parse_sample
from smae.errors import EXIT_DATA, EXIT_DONE, EXIT_QUARANTINED, BadRecording, ConfigError, DataError, NoBody
from smae.eval.export import LoadedEncoder, PreparationConfig, read_weights
from smae.eval.probes import ENCODE_BATCH
from smae.eval.results import read_results
from smae.skeleton import Layout
from smae.train.build import pick_device
from smae.train.run_folder import Run, find_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """Predicted classes of one recording.

    Attributes:
        path: the file.
        label: the most probable class.
        probability: its softmax probability, not calibrated.
        first: the most probable classes with their probabilities, at most five.
        bodies, frames: of the clip.
    """

    path: str
    label: str
    probability: float
    first: tuple[tuple[str, float], ...]
    bodies: int
    frames: int


@dataclass(frozen=True)
class Predictions:
    """Predictions for several recordings.

    Attributes:
        head: name of the head, for people.
        found: one for each good recording, in the order given.
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


class ClipsInMemory:
    """Clips without a store, in the form that a ``Loader`` reads; their labels are 0."""

    fingerprint = "in memory"

    def __init__(self, clips: Sequence[Clip], *, layout: Layout, mode: str) -> None:
        self.layout, self.mode = layout, mode
        bodies, frames = np.array([clip.joints.shape[:2] for clip in clips], np.int64).T
        rows = bodies * frames
        self.clips: Any = SimpleNamespace(
            offset=np.cumsum(rows) - rows, frames=frames, bodies=bodies, label=np.zeros_like(rows)
        )
        self._rows = np.concatenate([clip.joints.reshape(-1, len(layout), 3) for clip in clips])

    def __len__(self) -> int:
        return len(self.clips.offset)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres."""
        return self._rows[start:stop]


@interrupts.deferred("run it again")
def predict(
    files: Sequence[Path | str],
    *,
    run: Path | str | None = None,
    head: Path | str | None = None,
    mode: str | None = None,
    protocol: str | None = None,
    source: str | None = None,
    device: str = "auto",
) -> Predictions:
    """Classify raw recordings with a head that ``evaluate`` trained.

    Args:
        files: raw files, one recording each.
        run: a run folder; default the newest run with a head.
        head: folder of a head instead, one of ``runs/x/heads``.
        mode: probe that trained the head; default by the rule of ``find_head``.
        protocol: split of the head; default the one of the run.
        source: registered source of the files; default the one of the training data.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.

    Raises:
        ConfigError: no such file, a source without single files, or options that exclude each other.
        BadRecording, NoBody: the only recording is bad or has no body; of several it is listed.
        DataError: no run or head, or weights without a head or of another joint layout.
    """
    if head is None:
        head = find_head(find_run(run, needs="head"), protocol=protocol, mode=mode)
    elif run is not None or mode is not None or protocol is not None:
        raise ConfigError("--head excludes --run, --probe and --protocol: leave them out")
    model, target = read_weights(Path(head)), pick_device(device)
    config = model.config.head
    if config is None:
        raise DataError(f"{head}: an encoder without a head has no classes: give a run that smae eval evaluated")
    good, clips = list[Path](), list[Clip]()
    refused, no_body = list[Refused](), list[str]()
    for path in progress.track([Path(file) for file in files], "predict", unit="files"):
        try:
            clips.append(read_clip(path, prepared=model.config.prepared, layout=model.layout, source=source))
            good.append(path)
        except BadRecording as error:
            if len(files) == 1:
                error.path = str(path)
                raise
            refused.append(_refused(path, error))
        except NoBody as error:
            if len(files) == 1:
                raise NoBody(f"{path}: {error}") from None
            no_body.append(str(path))
    rows = _probabilities(clips, model, target)
    found = [_prediction(path, clip, row, config.classes) for path, clip, row in zip(good, clips, rows, strict=True)]
    names = dict(zip(config.classes, config.names or config.classes, strict=True))
    return Predictions(str(head), tuple(found), tuple(refused), tuple(no_body), names)


def find_head(run: Run, *, protocol: str | None = None, mode: str | None = None) -> Path:
    """Return the folder of a head, and say which one it is.

    The run's own protocol comes first, then its own store, ``finetune`` before ``linear`` before
    others, the newest checkpoint, the latest evaluation.

    Raises:
        DataError: there is none; the message has the command that makes one.
    """

    def matches(name: str, wanted: str) -> bool:
        return name == wanted or name.endswith(f"-{wanted}")

    about = run.describe()
    own, store, order = about["config"].get("protocol", ""), about["store"].get("fingerprint"), ("finetune", "linear")
    heads = [
        (result, record)
        for result in read_results(run, strict=False)
        for record in result.records
        if (run.heads / record.name / "config.json").is_file()
    ]
    fitting = [
        (not matches(one.protocol, own), one.first["store"] != store, (*order, one.mode).index(one.mode), number)
        for number, (one, _) in enumerate(heads)
        if mode in (None, one.mode) and (protocol is None or matches(one.protocol, protocol))
    ]
    if not fitting:
        wanted, options = "", f"--probe {mode or 'linear'}"
        if mode:
            wanted = f" of {mode}"
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


def read_clip(path: Path, *, prepared: PreparationConfig, layout: Layout, source: str | None = None) -> Clip:
    """Return the clip of one raw file, prepared like the training data.

    Raises:
        ConfigError: no such file, or a source that has no single files.
        BadRecording: the file breaks the format.
        NoBody: it has no body.
        DataError: the source has another joint layout than the encoder.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file: give raw recordings, one file each")
    chosen = source or prepared.source
    maker = SOURCES.get(chosen)()
    if maker.cleaned is not None:
        raise ConfigError(f"source '{chosen}' holds many clips in a file: prepare it for smae embed, or name --source")
    if maker.layout.name != layout.name:
        raise DataError(f"source '{chosen}' has layout {maker.layout.name}, the encoder was trained on {layout.name}")
    reader = maker.reader(path)
    try:
        sample = Sample(path.name.partition(".")[0], path.name, "", path.stat().st_size)
        data = bytes(reader.read(sample))
    finally:
        reader.close()
    options = {"max_range": prepared.max_range, "scale": UNITS[prepared.unit or "m"]}
    clip = parse_sample(maker, data, strict=prepared.strict, **options)
    if not isinstance(clip, Clip):
        clip = clean(clip, mode=prepared.mode, layout=layout)
    if prepared.frames is not None:
        clip = replace(clip, joints=resample(clip.joints, prepared.frames))
    return clip


@torch.no_grad()
def _probabilities(clips: Sequence[Clip], model: LoadedEncoder, device: torch.device) -> NDArray[np.float64]:
    """Return float64 [n, K], a softmax over classes."""
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


def _prediction(path: Path, clip: Clip, row: NDArray[np.float64], classes: Sequence[str]) -> Prediction:
    order = np.argsort(-row, kind="stable")[:5]
    first = tuple((classes[number], float(row[number])) for number in order)
    bodies, frames = clip.joints.shape[:2]
    return Prediction(str(path), *first[0], first, bodies, frames)


def _refused(path: Path, error: BadRecording) -> Refused:
    data = path.read_bytes()
    digest, place = hashlib.sha256(data).hexdigest(), (error.line, error.column)
    return Refused(str(path), error.code, error.message, len(data), digest, *place, error.excerpt)
