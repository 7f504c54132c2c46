"""Raw recordings to a store, and all that is asked of a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smae.api.common import silent
from smae.interrupts import deferred

if TYPE_CHECKING:
    from smae.data.prepare.explain import Explanation
    from smae.data.prepare.run import PrepareSummary
    from smae.data.prepare.run import Progress as PrepareProgress
    from smae.data.synthetic.synth import SynthSummary


def synthesise(out: Path | str, **options: Any) -> SynthSummary:
    """Write a synthetic raw folder; see ``smae.data.synthetic.synth.synthesise`` for the options."""
    from smae.data.synthetic.synth import synthesise as write

    return write(Path(out), **options)


def prepare(
    raw: Path | str, out: Path | str, *, progress: Callable[[PrepareProgress], None] = silent, **options: Any
) -> PrepareSummary:
    """Turn raw recordings into a store; see ``smae.data.prepare.run.prepare`` for the options."""
    from smae.data.prepare.run import prepare as run

    with deferred("run the same command again"):
        return run(Path(raw), out, progress=progress, **options)


def explain(
    where: Path | str, name: str | None = None, *, raw: Path | str | None = None, **options: Any
) -> Explanation:
    """Tell what became of one recording; see ``smae.data.prepare.explain.explain`` for the options."""
    from smae.data.prepare.explain import explain as tell

    return tell(where, name, raw=Path(raw) if raw is not None else None, **options)
