"""A run to its results: probes and ensembles."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smae.api.common import RUNS, Say, find_checkpoint, silent
from smae.data.store.store import open_store
from smae.errors import ConfigError
from smae.interrupts import deferred

if TYPE_CHECKING:
    from smae.eval.baselines import Evaluation
    from smae.eval.ensemble import Ensemble
    from smae.train.run_folder import Run


@deferred("run it again")
def evaluate(
    *,
    checkpoint: Path | str | None = None,
    data: Path | str | None = None,
    protocol: str | None = None,
    modes: Sequence[str] = ("linear", "knn"),
    seeds: int = 1,
    baselines: bool = True,
    select: Sequence[str] = (),
    sets: Sequence[str] = (),
    device: str = "auto",
    say: Say = silent,
    tell: Callable[[str, int, int], None] = silent,
) -> tuple[Run, Evaluation]:
    """Judge a run's encoder; write ``eval/<protocol>-<mode>.json`` and a confusion picture beside each.

    Args:
        checkpoint: a run's folder, or one of its checkpoints; the newest run when left out.
        data: store; the one the run was trained on when left out.
        protocol: split; the one the run was trained on when left out.
        modes: probes; ``semi`` and ``all`` stand for several.
        seeds: how often each is judged, with the run's seed and those that follow it.
        baselines: judge a random encoder and raw coordinates beside it.
        select: epochs scored beside the last one: ``best_val``, ``best_test``.
        sets: settings of the probes, in the form ``section.key=value``.
        device: as for ``pretrain``.
        say: takes lines for people.
        tell: takes progress.

    Raises:
        DataError: no run, no usable checkpoint, or a store of another layout.
        UnknownNameError: a probe or protocol nobody knows.
        ConfigError: fewer than one seed, or ``transfer`` to the store that was trained on.
    """
    from smae.eval.evaluate import judge

    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected one at least")
    if select:
        sets = (*sets, f"selection.also={json.dumps(list(select))}")
    run, step = find_checkpoint(checkpoint)
    store = open_store(data or run.describe()["store"]["path"])
    return run, judge(
        run, store, step=step, protocol=protocol, modes=modes, seeds=seeds, baselines=baselines, sets=sets,
        device=device, say=say, tell=tell,
    )  # fmt: skip


def ensemble(
    runs: Sequence[Path | str], *, protocol: str | None = None, mode: str = "finetune", **options: Any
) -> Ensemble:
    """Judge several runs together, by the logits that ``evaluate`` kept; see ``smae.eval.ensemble.ensemble``."""
    from smae.eval.ensemble import ensemble as mix
    from smae.train.run_folder import find_run

    found = [find_run(Path(run), root=RUNS) for run in runs]
    if protocol is None and found:
        protocol = str(found[0].describe()["config"]["protocol"])
    return mix(found, protocol=protocol or "", mode=mode, **options)
