"""Ensembles: the mean of the class probabilities of several runs, from logits of their records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from smae.config import renamed
from smae.errors import ConfigError, DataError
from smae.eval.records import ENSEMBLE, Row, mean_class
from smae.eval.results import Result, bootstrap, differences, read_results
from smae.tables import Grid, Table, results
from smae.train.run_folder import Run, find_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble(Table):
    """Accuracies of several runs and of their ensemble.

    Attributes:
        protocol: full name of the split.
        mode: the probe.
        rows: one for each run, then the ensemble's.
        predicted: int64 [n], class that the ensemble predicts for each test clip.
    """

    protocol: str
    mode: str
    rows: list[Row]
    predicted: NDArray[np.int64]

    def tables(self) -> list[Grid]:
        return [results(self.rows, title=self.protocol, interval=True)]


@renamed(mode="probe")
def ensemble(
    runs: Sequence[Path | str], *, protocol: str | None = None, probe: str = "finetune", weights: Sequence[float] = ()
) -> Ensemble:
    """Evaluate an ensemble: the weighted mean of the softmax of the logits that ``evaluate`` wrote.

    Args:
        runs: two or more run folders, for example one for each stream.
        protocol: full name of the split or its last part; default the one of the first run.
        probe: one that ranks classes.
        weights: one for each run; default equal.

    Raises:
        ConfigError: fewer than two runs, or weights that do not fit.
        DataError: no such run, a run without these results, or results on different clips.
    """
    if len(runs) < 2:
        raise ConfigError("an ensemble needs two runs or more")
    share = np.array(weights or [1.0] * len(runs))
    if len(share) != len(runs) or (share < 0).any() or share.sum() <= 0:
        raise ConfigError(
            f"--weight: expected {len(runs)} numbers, one for each run, not below 0; found {list(weights)}"
        )
    found = [find_run(run) for run in runs]
    protocol = protocol or str(found[0].describe()["config"]["protocol"])
    read = [_read_logits(run, protocol, probe) for run in found]
    first, rows = read[0][0].records[0], []
    mean = np.zeros_like(read[0][1], np.float64)
    apart = differences([result for result, _ in read], without=("checkpoint", "seeds", "augment.stream"))
    if any(apart):
        logger.warning(f"careful: the runs were not evaluated alike: {' / '.join(apart)}")
    for run, (result, logits), weight in zip(found, read, share / share.sum(), strict=True):
        record = result.records[0]
        for key in ("protocol", "store", "parts", "classes", "label"):
            if record.content[key] != first.content[key]:
                raise DataError(
                    f"{run.path}: its {key} differs from that of {found[0].path}: evaluate both under the same settings"
                )
        # The largest logit is subtracted, so that exp does not overflow.
        high = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf).astype(np.float64))
        mean += weight * high / high.sum(1, keepdims=True)
        rows.append(_accuracy(probe, str(run.path), logits.argmax(1), first.label))
    predicted = mean.argmax(1)
    rows.append(_accuracy(probe, ENSEMBLE, predicted, first.label))
    return Ensemble(str(first.content["protocol"]), probe, rows, predicted)


def _accuracy(mode: str, what: str, predicted: NDArray[np.int64], label: NDArray[np.int64]) -> Row:
    correct = predicted == label
    interval, per_class = bootstrap(correct[None]), mean_class(correct, label)
    return Row(what, float(correct.mean()), interval=interval, mode=mode, mean_class=per_class)


def _read_logits(run: Run, protocol: str, mode: str) -> tuple[Result, NDArray[np.float32]]:
    """Return the first result of ``read_results`` that has logits, and those."""
    for result in read_results(run):
        path = run.results / f"{result.records[0].name}.safetensors"
        names = (result.protocol, result.protocol.partition("-")[2])
        if result.mode == mode and protocol in names and path.is_file():
            break
    else:
        raise DataError(
            f"{run.path}: no logits of {mode} on {protocol}: make them with "
            f"`smae eval --run {run.path} --protocol {protocol} --probe {mode}`"
        )
    record = result.records[0]
    logger.info(f"using {path.with_suffix('.json')}{''.join(f'; {note}' for note in result.notes)}")
    try:
        tensors = load_file(path)
        logits, test = tensors["logits"], tensors["test"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path}: {error}: run smae eval --again") from None
    expected = (len(record.test), len(record.content["classes"]))
    if not np.array_equal(test, record.test) or logits.shape != expected:
        raise DataError(f"{path}: does not match the .json of the same name: run smae eval --again")
    return result, logits
