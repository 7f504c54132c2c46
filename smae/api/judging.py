"""The page of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from smae.api.common import RUNS, Say, silent
from smae.data.store.store import open_store
from smae.errors import ConfigError
from smae.interrupts import deferred

if TYPE_CHECKING:
    from smae.data.store.store import Store
    from smae.train.run_folder import Run


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
