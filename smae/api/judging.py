"""A run to its results: probes, ensembles, the page that shows them."""

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
    from smae.data.store.store import Store
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


@deferred("run it again")
def report(
    *runs: Path | str,
    out: Path | str | None = None,
    data: Path | str | None = None,
    device: str = "auto",
    say: Say = silent,
    tell: Callable[[str, int, int], None] = silent,
) -> Path:
    """Write the page of a run, or one that sets several side by side: one self-contained HTML file; return its path.

    Args:
        runs: their folders; the newest run when none is named.
        out: the file; ``<run>/report.html`` by default, ``comparison.html`` here for several.
        data: store of a single run; the one it was trained on when left out.
        device: as for ``pretrain``; features are computed there.
        say: takes lines for people.
        tell: takes progress.

    Raises:
        ConfigError: several runs and a store, one run twice, or more runs than colours.
        DataError: no run, a damaged one, or a store that does not fit.
    """
    from smae.train.build import pick_device
    from smae.train.run_folder import find_run
    from smae.viz.report.compare import write_comparison
    from smae.viz.report.run_report import write_report

    found = [find_run(Path(run), root=RUNS) for run in runs] or [find_run(None, root=RUNS)]
    if len(found) > 1:
        if data is not None:
            raise ConfigError("--data goes with one run: a comparison opens no store")
        return write_comparison(found, out=Path(out or "comparison.html"), say=say)
    run, target = found[0], pick_device(device)
    store = _store_of(run, data, say)
    return write_report(run, store, out=Path(out or run.path / "report.html"), device=target, say=say, tell=tell)


def _store_of(run: Run, data: Path | str | None, say: Say) -> Store | None:
    """Return the store that is named, or the run's own; None where that has gone, which is told."""
    from smae.data.store.file_store import locate

    own = str(run.describe()["store"].get("path", ""))
    place = locate(own)
    if data is None and isinstance(place, Path) and not place.exists():
        say(f"{own}: no store there any more; the page says what it lacks, --data names another place")
        return None
    return open_store(data or own)
