"""Probes: they train on the train part of a split and are scored once on its test part.

A probe plug-in is a function ``probe(encoder, context) -> Scores``. ``select`` decides which epoch
of a trained classifier counts.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smae.data.loader.loader import Loader
from smae.data.store import Store
from smae.data.store.splits import Split
from smae.errors import ConfigError, DataError
from smae.eval.features import (
    FeatureExtractor,
    Features,
    extract,
    feature_key,
    keep_features,
    read_features,
)
from smae.eval.records import BEST_TEST, BEST_VAL
from smae.models.encoders import Encoder
from smae.registry import Registry
from smae.rng import Noise
from smae.train.config import RunConfig

Precision = Literal["float32", "bf16"]
"""Arithmetic of an encoder that is evaluated."""

FeatureKey = tuple[FeatureExtractor, str, int | None]
"""Features are of an extractor, a part of a split, and an augmented view or none."""

ENCODE_BATCH = 64
"""Clips in a batch of feature extraction."""


@dataclass(frozen=True)
class ProbeContext:
    """Data and settings of a probe.

    Attributes:
        store: the clips.
        split: numbers of the train and test clips.
        config: settings of the run, those of the probes included.
        device: where to compute.
        precision: ``float32``, or ``bf16`` for the encoder's products.
        reuse: take features that earlier commands kept on disk.
        cache: features computed so far, by extractor, part and view; see ``features``.

    Raises:
        ConfigError: an unknown precision.
    """

    store: Store
    split: Split
    config: RunConfig
    device: torch.device
    precision: Precision = "float32"
    reuse: bool = True
    cache: dict[FeatureKey, Features] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            known = " or ".join(get_args(Precision))
            raise ConfigError(f"--precision {self.precision}: expected {known}")

    @property
    def autocast(self) -> torch.autocast:
        """The context in which an encoder runs, in ``precision``."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def num_classes(self) -> int:
        """Number of classes in the store, K."""
        return len(self.store.classes)

    def loader(self, part: str, *, augmented: bool = False, batch: int, strength: float = 1.0) -> Loader:
        """Return a loader of the train or test part; only augmented train is shuffled."""
        return Loader(
            self.store,
            getattr(self.split, part),
            augment=self.config.augment.scaled(strength),
            batch=batch,
            seed=self.config.seed,
            train=augmented and part == "train",
            augmented=augmented,
            device=self.device,
            workers=self.config.train.workers,
        )

    def features(self, extractor: FeatureExtractor, part: str, *, view: int | None = None) -> Features:
        """Return the features of a part, plain or of one augmented view; kept in memory."""
        key = (extractor, part, view)
        if key not in self.cache:
            loader = partial(self.encoding_loader, part, view)
            self.cache[key] = self.encode(extractor, part, loader, view=view)
        return self.cache[key]

    def encoding_loader(self, part: str, view: int | None) -> Loader:
        """Return the loader of a part to encode, plain or augmented as for the linear probe."""
        strength = 1.0 if view is None else self.config.linear.strength
        return self.loader(part, augmented=view is not None, batch=ENCODE_BATCH, strength=strength)

    def encode(
        self,
        extractor: FeatureExtractor,
        part: str,
        loader: Callable[[], Loader],
        *,
        view: int | None = None,
        views: int = 1,
    ) -> Features:
        """Return the features of a part as ``features`` does; from disk if they are there.

        Args:
            extractor: computes the features.
            part: ``"train"`` or ``"test"``.
            loader: returns ``encoding_loader`` of the part and view, if it is needed.
            view: number of the augmented view; None for none.
            views: how many of them the caller asks for.
        """
        index = np.sort(getattr(self.split, part))
        conditions = self._conditions(part, view)
        key = feature_key(extractor, store=self.store, index=index, settings=conditions)
        kept = None
        if key is not None and self.reuse:
            kept = read_features(key, clips=len(index))
        if kept is not None:
            label = np.asarray(self.store.clips.label)[index].astype(np.int64)
            return Features(kept, torch.from_numpy(label), torch.from_numpy(index))
        name = f"features, {part}" if view is None else f"features, {part}, view {view + 1}"
        with self.autocast:
            features = extract(extractor, loader(), epoch=view or 0, name=name)
        if key is not None:
            keep_features(key, features.x, parts=views)
        return features

    def _conditions(self, part: str, view: int | None) -> dict[str, Any]:
        """Return what decides the bits of features beside encoder, clips and code."""
        config = self.config
        found: dict[str, Any] = {
            "encoder": config.encoder.model_dump(mode="json"),
            "augment": config.augment.model_dump(mode="json"),
            "device": self.device.type,
            "precision": self.precision,
        }
        if self.device.type == "cuda":
            found["device"] = torch.cuda.get_device_name(self.device)
        if view is not None:
            found["view"] = [part, view, config.seed, config.linear.strength]
        return found

    def with_clips(self, *, train: NDArray[np.int64], test: NDArray[np.int64] | None = None) -> ProbeContext:
        """Return the context with other train clips and, if given, other test clips."""
        if test is None:
            test = self.split.test
        return replace(self, split=Split(self.split.name, train=train, test=test), cache={})


@dataclass(frozen=True)
class Scores:
    """Result of a probe.

    Attributes:
        predicted: int64 [n], predicted class of each test clip.
        label: int64 [n], true class.
        top1: accuracy in [0, 1].
        top5: top-5 accuracy; None if the probe does not rank classes.
        logits: float32 [n, K]; None if the probe does not rank classes.
        model: the trained classifier, from a ``Batch`` to logits; None if there is none.
        alternatives: scores of other epochs, by selection, and of the last one with one plain view
            where ``top1`` is of several augmented ones.
    """

    predicted: NDArray[np.int64]
    label: NDArray[np.int64]
    top1: float
    top5: float | None
    logits: NDArray[np.float32] | None = field(default=None, repr=False)
    model: nn.Module | None = field(default=None, repr=False)
    alternatives: dict[str, Scores] = field(default_factory=dict)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Bool [n], whether the predicted class is the true one."""
        correct: NDArray[np.bool_] = self.predicted == self.label
        return correct


class Probe(Protocol):
    """Interface of a probe plug-in."""

    def __call__(self, encoder: Encoder, context: ProbeContext) -> Scores:
        """Evaluate an encoder without changing it: a probe that trains it trains a copy."""


probes: Registry[Probe] = Registry(
    "probe",
    {
        "linear": "smae.eval.probes.linear:linear",
        "knn": "smae.eval.probes.linear:knn",
        "finetune": "smae.eval.probes.finetune:finetune",
        "scratch": "smae.eval.probes.finetune:scratch",
        "transfer": "smae.eval.probes.finetune:transfer",
        "semi-1": "smae.eval.probes.finetune:semi_1",
        "semi-2": "smae.eval.probes.finetune:semi_2",
        "semi-5": "smae.eval.probes.finetune:semi_5",
        "semi-10": "smae.eval.probes.finetune:semi_10",
    },
)


def code_of(mode: str) -> str:
    """Return the SHA-256 of the file that defines a probe; empty where there is none."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(probes.get(mode)))
        return hashlib.sha256(Path(path or "").read_bytes()).hexdigest()
    except (TypeError, OSError):
        return ""


def average_views(views: list[Tensor]) -> Tensor:
    """Return logits [n, K] of several views: the log of the mean probability, up to a constant."""
    if len(views) == 1:
        return views[0]
    return torch.stack(views).float().log_softmax(-1).logsumexp(0)


def score(logits: Tensor, label: Tensor) -> Scores:
    """Return the scores of logits [n, K] for labels [n], by torchmetrics."""
    from torchmetrics.functional.classification import multiclass_accuracy

    logits, label = logits.detach().float().cpu(), label.cpu()
    classes = logits.shape[1]

    def accuracy(k: int) -> float:
        if classes == 1:
            return 1.0  # torchmetrics refuses a single class
        return float(multiclass_accuracy(logits, label, num_classes=classes, top_k=k, average="micro"))

    top5 = None
    if classes > 5:
        top5 = accuracy(5)
    return Scores(logits.argmax(1).numpy(), label.numpy(), accuracy(1), top5, logits.numpy())


OnEpoch = Callable[[nn.Module], None]
Fit = Callable[[ProbeContext, OnEpoch], nn.Module]
"""Trains a classifier on the train part; calls ``OnEpoch`` with it after each epoch."""
Evaluate = Callable[[nn.Module, ProbeContext], Scores]
"""Scores a classifier on the test part."""


def select(fit: Fit, evaluate: Evaluate, context: ProbeContext) -> Scores:
    """Train a classifier; return the scores of its last epoch and of ``selection.also``.

    ``last`` trains on the whole train part. ``best_val`` trains again without some train subjects,
    keeps the epoch that is best on them, and is scored on test once. ``best_test`` is the highest
    test accuracy of any epoch of the first training: it is biased, but often published.
    """
    also, tests = context.config.selection.also, list[Scores]()

    def score_epoch(model: nn.Module) -> None:
        if BEST_TEST in also:
            tests.append(evaluate(model, context))

    model = fit(context, score_epoch)
    alternatives: dict[str, Scores] = {}
    if BEST_VAL in also:
        alternatives[BEST_VAL] = _best_val(fit, evaluate, context)
    if BEST_TEST in also:
        alternatives[BEST_TEST] = max(tests, key=lambda scores: scores.top1)
    return replace(evaluate(model, context), model=model, alternatives=alternatives)


def _best_val(fit: Fit, evaluate: Evaluate, context: ProbeContext) -> Scores:
    inner, best, weights = validation_context(context), -1.0, {}

    def keep_best(model: nn.Module) -> None:
        nonlocal best, weights
        top1 = evaluate(model, inner).top1
        # Of equal epochs, the first one.
        if top1 > best:
            best, weights = top1, copy.deepcopy(model.state_dict())

    model = fit(inner, keep_best)
    model.load_state_dict(weights)
    return evaluate(model, context)


def validation_context(context: ProbeContext) -> ProbeContext:
    """Return a context that tests on the split's validation part, or on some train subjects.

    Where a split has no validation part, ``selection.val_subjects`` of the train subjects, at least
    one, are held out at random by seed; a ``DataError`` for fewer than two, or unknown ones.
    """
    train = context.split.train
    if len(context.split.val):
        return context.with_clips(train=train, test=context.split.val)
    subject = np.asarray(context.store.clips.subject)[train]
    known = np.unique(subject[subject >= 0])
    if len(known) < 2 or (subject < 0).any():
        raise DataError(
            "best_val holds out some train subjects, and the train part of "
            f"{context.split.name} has {len(known)} known subjects: it needs two or more and no "
            "clip of an unknown subject; leave best_val out"
        )
    share = context.config.selection.val_subjects
    count = min(len(known) - 1, max(1, round(share * len(known))))
    noise = Noise(context.config.seed, 0, known.astype(np.int64))
    rank = noise.uniform("val-subjects", 1)[:, 0].argsort(kind="stable")
    held_out = np.isin(subject, known[rank[:count]])
    return context.with_clips(train=train[~held_out], test=train[held_out])
