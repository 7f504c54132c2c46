"""How an encoder is judged: each probe learns from the train part of a split and is scored once on its test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smae.data.loader.loader import Loader
from smae.data.store.splits import Split
from smae.data.store.store import Store
from smae.eval.features import Describe, Features, extract
from smae.models.encoders import Encoder
from smae.registry import Registry
from smae.train.config import RunConfig

ENCODE_BATCH = 64
"""Clips encoded at a time."""

Tell = Callable[[str, int, int], None]
"""Progress for people: what is being done, how far, of how much."""


@dataclass(frozen=True)
class Exam:
    """What a probe is given, and all it may use: it never chooses anything by looking at test.

    Attributes:
        store: the data.
        split: train and test clips.
        config: the run's settings, those of the probes among them.
        device: where to compute.
        tell: progress.
        kept: features already computed, by describer and part; see ``plain``.
    """

    store: Store
    split: Split
    config: RunConfig
    device: torch.device
    tell: Tell = field(default=lambda what, done, total: None)
    kept: dict[tuple[Describe, str], Features] = field(default_factory=dict, repr=False)

    def loader(self, part: str, *, augmented: bool = False, batch: int) -> Loader:
        """Return a loader of the ``"train"`` or ``"test"`` part, varied or plain; only train's, varied, is shuffled."""
        return Loader(
            self.store,
            getattr(self.split, part),
            augment=self.config.augment,
            batch=batch,
            seed=self.config.seed,
            train=augmented and part == "train",
            augmented=augmented,
            device=self.device,
            workers=self.config.train.workers,
        )

    def plain(self, describe: Describe, part: str) -> Features:
        """Return the features of a part, not augmented; computed once, since several probes ask for the same."""
        return self._features(describe, part, view=None)

    def views(self, describe: Describe, part: str, *, count: int) -> list[Features]:
        """Return the features of a part in so many augmented views; computed once."""
        return [self._features(describe, part, view=view) for view in range(count)]

    def _features(self, describe: Describe, part: str, *, view: int | None) -> Features:
        name = part if view is None else f"{part}, view {view + 1}"
        if (describe, name) not in self.kept:
            loader = self.loader(part, augmented=view is not None, batch=ENCODE_BATCH)
            self.kept[describe, name] = extract(
                describe, loader, epoch=view or 0, tell=lambda done, of: self.tell(f"{name} features", done, of)
            )
        return self.kept[describe, name]

    def on(self, *, train: NDArray[np.int64], test: NDArray[np.int64] | None = None) -> Exam:
        """Return the exam that learns from other clips, and with ``test`` is scored on others too."""
        test = self.split.test if test is None else test
        return replace(self, split=Split(self.split.name, train=train, test=test), kept={})

    @property
    def classes(self) -> int:
        """Number of classes in the store, K."""
        return len(self.store.classes)


@dataclass(frozen=True)
class Scores:
    """What came out of a probe.

    Attributes:
        predicted: int64 [n], class of each test clip.
        label: int64 [n], its true class.
        top1: share of test clips whose class came first, in [0, 1].
        top5: share whose class was among the first five; None where the probe ranks nothing.
        logits: float32 [n, K], what the classes were ranked by; None where the probe ranks nothing.
        model: the trained classifier, from a ``Batch`` to logits; None where there is none.
        beside: scores of other epochs than the last, by how the epoch was chosen, see ``selection``; and of the last by
            one view, where it was tested by several.
    """

    predicted: NDArray[np.int64]
    label: NDArray[np.int64]
    top1: float
    top5: float | None
    logits: NDArray[np.float32] | None = field(default=None, repr=False)
    model: nn.Module | None = field(default=None, repr=False)
    beside: dict[str, Scores] = field(default_factory=dict)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Bool [n], whether each test clip's class came first."""
        right: NDArray[np.bool_] = self.predicted == self.label
        return right


class Probe(Protocol):
    """What a probe plug-in is."""

    def __call__(self, encoder: Encoder, exam: Exam) -> Scores:
        """Judge an encoder and leave it as it is: a probe that trains it further trains a copy."""
        ...


probes: Registry[Probe] = Registry(
    "probe",
    {
        "linear": "smae.eval.probes.linear:linear",
        "knn": "smae.eval.probes.knn:knn",
        "finetune": "smae.eval.probes.finetune:finetune",
        "scratch": "smae.eval.probes.finetune:scratch",
        "transfer": "smae.eval.probes.finetune:transfer",
        "semi-1": "smae.eval.probes.semi:semi_1",
        "semi-2": "smae.eval.probes.semi:semi_2",
        "semi-5": "smae.eval.probes.semi:semi_5",
        "semi-10": "smae.eval.probes.semi:semi_10",
    },
)


ONE_VIEW = "one view"
"""The last epoch again, each test clip seen once and plain, where several views were averaged."""


def together(views: list[Tensor]) -> Tensor:
    """Return logits [n, K] of those of several views: the logarithm of the mean probability, but for a constant."""
    if len(views) == 1:
        return views[0]
    return torch.stack(views).float().log_softmax(-1).logsumexp(0)


def score(logits: Tensor, label: Tensor) -> Scores:
    """Return the scores of logits [n, K] against labels [n], by torchmetrics."""
    from torchmetrics.functional.classification import multiclass_accuracy

    logits, label = logits.detach().float().cpu(), label.cpu()
    classes = logits.shape[1]
    accuracy = [
        float(multiclass_accuracy(logits, label, num_classes=classes, top_k=k, average="micro"))
        for k in (1, min(5, classes))
    ]
    top5 = accuracy[1] if classes > 5 else None
    return Scores(logits.argmax(1).numpy(), label.numpy(), accuracy[0], top5, logits.numpy())
