"""Streams together: the mean of the class probabilities that several runs gave the same test clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from smae.atomic_io import read_json
from smae.errors import ConfigError, DataError
from smae.eval.baselines import Row
from smae.eval.interval import bootstrap
from smae.train.run_folder import Run

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Ensemble:
    """What several runs reach, each and together.

    Attributes:
        protocol: the split's full name.
        mode: the probe.
        rows: one a run, then the ensemble's.
        predicted: int64 [n], the ensemble's class of each test clip.
    """

    protocol: str
    mode: str
    rows: list[Row]
    predicted: NDArray[np.int64]


def ensemble(runs: Sequence[Run], *, protocol: str, mode: str, weights: Sequence[float] = ()) -> Ensemble:
    """Return the results of runs whose ``smae eval`` kept logits, and of their weighted mean of softmaxes.

    Args:
        runs: two or more, of other streams or other methods.
        protocol: full name, or its last part.
        mode: a probe that ranks classes.
        weights: one a run; equal when left out.

    Raises:
        ConfigError: fewer than two runs, or weights that do not fit.
        DataError: a run has no such results, or they are of other clips than the first one's.
    """
    if len(runs) < 2:
        raise ConfigError("an ensemble needs two runs or more")
    share = np.array(weights or [1.0] * len(runs))
    if len(share) != len(runs) or (share < 0).any() or share.sum() <= 0:
        raise ConfigError(f"--weight: expected {len(runs)} numbers, one a run, not below 0; found {list(weights)}")
    told = [_results(run, protocol, mode) for run in runs]
    first, label = told[0][0], _labels(told[0][0])
    mixed, rows = np.zeros_like(told[0][1], np.float64), []
    for run, (result, logits), weight in zip(runs, told, share / share.sum(), strict=True):
        for key in ("protocol", "store", "test", "classes"):
            if result[key] != first[key]:
                raise DataError(f"{run.path}: its {key} is another than that of {runs[0].path}: judge both alike")
        high = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf).astype(np.float64))
        mixed += weight * high / high.sum(1, keepdims=True)
        rows.append(_row(mode, str(run.path), logits.argmax(1), label))
    predicted = mixed.argmax(1)
    return Ensemble(first["protocol"], mode, [*rows, _row(mode, ENSEMBLE, predicted, label)], predicted)


def _row(mode: str, what: str, predicted: NDArray[np.int64], label: NDArray[np.int64]) -> Row:
    right = predicted == label
    return Row(mode, what, float(right.mean()), interval=bootstrap(right[None]))


def _results(run: Run, protocol: str, mode: str) -> tuple[dict[str, Any], NDArray[np.float32]]:
    fitting = [
        *run.results.glob(f"{protocol}-{mode}.safetensors"),
        *run.results.glob(f"*-{protocol}-{mode}.safetensors"),
    ]
    if not fitting:
        raise DataError(
            f"{run.path}: no kept logits of {mode} on {protocol}: make them with "
            f"`smae eval --checkpoint {run.path} --protocol {protocol} --mode {mode}`"
        )
    result = read_json(fitting[0].with_suffix(".json"), what="results", remedy="run smae eval again")
    try:
        tensors = load_file(fitting[0])
        logits, test = tensors["logits"], tensors["test"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{fitting[0]}: {error}: run smae eval again") from None
    if test.tolist() != result["test"] or logits.shape != (len(test), len(result["classes"])):
        raise DataError(f"{fitting[0]}: does not go with the .json beside it: run smae eval again")
    return result, logits


def _labels(result: dict[str, Any]) -> NDArray[np.int64]:
    return np.array(result["label"], np.int64)
