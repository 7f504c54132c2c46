"""What scripts and notebooks call, and what the command line calls for them: one function per command.

Imports stand inside the functions: preparing needs no torch, and asking for help needs neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smae.data.preparing.stop import signal_of as signal_of
from smae.data.preparing.stop import sigterm_interrupts as sigterm_interrupts
from smae.errors import ConfigError, DataError, Interrupted
from smae.interrupts import sheltered

if TYPE_CHECKING:
    from smae.data.actions import ClassCount
    from smae.data.explain import Explanation
    from smae.data.exports import ExportSummary
    from smae.data.preparing.prepare import PrepareSummary
    from smae.data.preparing.prepare import Progress as PrepareProgress
    from smae.data.storage.info import StoreInfo
    from smae.data.storage.store import Store
    from smae.data.storage.verify import VerifyReport
    from smae.data.synthetic.synth import SynthSummary
    from smae.data.unfinished import Unfinished
    from smae.doctor import Diagnosis
    from smae.drawing import Scene
    from smae.models.encoders import Encoder
    from smae.train.ensemble import Ensemble
    from smae.train.evaluate import Evaluation
    from smae.train.features import Features
    from smae.train.predict import Predictions
    from smae.train.pretrain import Outcome
    from smae.train.progress import Progress
    from smae.train.run import Run
    from smae.train.status import RunState

Say = Callable[[str], None]
DEFAULT_STORE = Path("ntu.zarr")
RUNS = Path("runs")


def _silent(*args: object) -> None:
    """Take progress and say nothing."""


@contextmanager
def _stoppable(remedy: str) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into ``Interrupted``, wherever in a command they fall."""
    try:
        with sigterm_interrupts():
            yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {remedy}", signal_of(error)) from None


def synthesise(out: Path | str, **options: Any) -> SynthSummary:
    """Write a synthetic raw folder; see ``smae.data.synthetic.synth.synthesise`` for the options."""
    from smae.data.synthetic.synth import synthesise as write

    return write(Path(out), **options)


def prepare(
    raw: Path | str, out: Path | str, *, progress: Callable[[PrepareProgress], None] = _silent, **options: Any
) -> PrepareSummary:
    """Turn raw recordings into a store; see ``smae.data.preparing.prepare.prepare`` for the options."""
    with _stoppable("run the same command again"):
        with sheltered():
            from smae.data.preparing.prepare import prepare as run

        return run(Path(raw), out, progress=progress, **options)


def find_store(path: Path | str | None = None) -> Path | str:
    """Return ``path``, which can be a URL; without one, ``ntu.zarr`` or the only ``*.zarr`` of the current folder.

    Raises:
        DataError: there is none, or several and none called ``ntu.zarr``.
    """
    if path is not None:
        return path
    if DEFAULT_STORE.exists():
        return DEFAULT_STORE
    found = sorted(Path().glob("*.zarr"))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"several stores here ({', '.join(map(str, found))}): say which with --data")
    raise DataError("no store here (expected ntu.zarr): make one with `smae prepare --raw ntu/ --out ntu.zarr`")


def open_store(path: Path | str | None = None) -> Store:
    """Open a prepared store for reading.

    Raises:
        DataError: no store there, or it is damaged.
    """
    from smae.data.storage.store import open_store as open_

    return open_(find_store(path))


def info(path: Path | str | None = None) -> StoreInfo:
    """Return what a store holds."""
    from smae.data.storage.info import info as describe

    return describe(open_store(path))


def classes(path: Path | str | None = None) -> list[ClassCount]:
    """Return the classes of a store, with NTU's names where they are NTU's, and the number of clips of each."""
    from smae.data.actions import count_classes

    return count_classes(open_store(path))


def verify(path: Path | str | None = None) -> VerifyReport:
    """Check every byte of a store against its manifest."""
    from smae.data.storage.verify import verify as check

    return check(find_store(path))


def explain(
    where: Path | str, name: str | None = None, *, raw: Path | str | None = None, **options: Any
) -> Explanation:
    """Tell what became of one recording; see ``smae.data.explain.explain`` for the options."""
    from smae.data.explain import explain as tell

    return tell(where, name, raw=Path(raw) if raw is not None else None, **options)


def export(
    path: Path | str | None, to: Path | str, *, progress: Callable[[int, int], None] = _silent, **options: Any
) -> ExportSummary:
    """Write a store in another form; see ``smae.data.exports.export`` for the options."""
    from smae.data.exports import export as write

    return write(open_store(path), Path(to), progress=progress, **options)


@_stoppable("--resume continues at the last checkpoint")
def pretrain(
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    recipe: str = "auto",
    sets: Sequence[str] = (),
    epochs: int | None = None,
    seed: int | None = None,
    protocol: str | None = None,
    device: str = "auto",
    resume: bool = False,
    say: Say = _silent,
    report: Callable[[Progress], None] = _silent,
) -> Outcome:
    """Pre-train an encoder on the train part of a protocol; write ``runs/<name>``.

    Called by several processes that torchrun started, it trains one encoder among them; the first one writes.

    Args:
        data: store; found in the current folder when left out.
        out: the run's folder; ``runs/<objective>-<protocol>-NNN`` when left out.
        recipe: packaged name, ``.toml`` path, or ``auto``: ``base`` on a GPU, ``cpu`` without one.
        sets: settings in the form ``section.key=value``, laid over the recipe.
        epochs, seed, protocol: the most usual settings, laid over those.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        resume: continue the run at ``out``, or the newest one; with none there, start.
        say: takes lines for people.
        report: takes progress.

    Raises:
        LockedError: another process is training the same run.
        SmaeError: see ``smae.train.pretrain.pretrain``.
    """
    from smae.data.preparing.lock import locked
    from smae.train import pretrain as training
    from smae.train.build import build_objective, pick_device
    from smae.train.config import build_config, resolve
    from smae.train.ranks import together
    from smae.train.run import Run

    target = pick_device(device)
    flags: dict[str, Any] = {"train": {"epochs": epochs} if epochs is not None else {}}
    if epochs is not None:
        sets = ("train.max_steps=0", *sets)  # epochs asked for outright are not to be cut short by a recipe's limit
    flags |= {key: value for key, value in (("seed", seed), ("protocol", protocol)) if value is not None}
    with together() as ranks:
        if not ranks.first:
            say = report = _silent
        old = _resumable(out) if resume else None
        ranks.highest(0)  # all have looked before the first one writes
        if old:
            from smae.config import merge, overrides

            about = old.describe()
            if recipe not in ("auto", about["recipe"]):
                raise ConfigError(
                    f"{old.path} was begun with --recipe {about['recipe']} and keeps it: leave --recipe out"
                )
            recipe = about["recipe"]
            config = build_config(merge(about["config"], overrides(sets), flags))
            run, store = old, open_store(data or about["store"]["path"])
            run.check_layout(store)
            objective = build_objective(config, store.layout)
        else:
            recipe = _recipe_for(recipe, target.type, say)
            config, store = resolve(recipe, sets=sets, flags=flags), open_store(data)
            # Whatever is wrong with the settings must be found before a folder is made.
            store.split(config.protocol)
            objective = build_objective(config, store.layout)
            # The others write nothing, and need no folder.
            run = _begin(out, f"{config.objective.name}-{config.protocol}") if ranks.first else Run(Path(out or RUNS))
        say(f"run {run.path}: {config.objective.name}, recipe {recipe}, {target.type}")
        with locked(run.lock) if ranks.first else nullcontext():
            return training.pretrain(
                objective, config, store, run, device=target, recipe=recipe, resume=old is not None, say=say,
                report=report, ranks=ranks,
            )  # fmt: skip


def _begin(out: Path | str | None, stem: str) -> Run:
    from smae.train.run import Run, new_run

    if out is None:
        return new_run(RUNS, stem)
    run = Run(Path(out))
    if (run.path / "run.json").exists():
        raise ConfigError(f"{run.path}: a run is there already: add --resume to continue it, or name another")
    run.path.mkdir(parents=True, exist_ok=True)
    return run


def _resumable(out: Path | str | None) -> Run | None:
    from smae.train.run import find_run

    try:
        return find_run(Path(out) if out is not None else None, root=RUNS)
    except DataError:
        return None  # --resume with nothing there simply starts


def _recipe_for(recipe: str, device: str, say: Say) -> str:
    if recipe == "base" and device == "cpu":
        say("the published size on a CPU: watch the time left; a sensible smaller recipe is --recipe cpu")
    if recipe != "auto":
        return recipe
    if device == "cuda":
        return "base"
    say(
        "no GPU is used: taking the small recipe 'cpu', which two cores can finish "
        "(the published size is --recipe base; other recipes: smae recipes)"
    )
    return "cpu"


@_stoppable("run it again")
def evaluate(
    *,
    checkpoint: Path | str | None = None,
    data: Path | str | None = None,
    protocol: str | None = None,
    modes: Sequence[str] = ("linear", "knn"),
    seeds: int = 1,
    select: Sequence[str] = (),
    sets: Sequence[str] = (),
    device: str = "auto",
    say: Say = _silent,
    tell: Callable[[str, int, int], None] = _silent,
) -> tuple[Run, Evaluation]:
    """Judge a run's encoder; write ``eval/<protocol>-<mode>.json`` and a confusion picture beside each.

    Args:
        checkpoint: a run's folder, or one of its checkpoints; the newest run when left out.
        data: store; the one the run was trained on when left out.
        protocol: split; the one the run was trained on when left out.
        modes: probes; ``semi`` and ``all`` stand for several.
        seeds: how often each is judged, with the run's seed and those that follow it.
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
    from smae.train.judge import judge

    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected one at least")
    if select:
        sets = (*sets, f"selection.also={json.dumps(list(select))}")
    run, step = _find_checkpoint(checkpoint)
    store = open_store(data or run.describe()["store"]["path"])
    return run, judge(
        run, store, step=step, protocol=protocol, modes=modes, seeds=seeds, sets=sets, device=device, say=say, tell=tell
    )


def _find_checkpoint(path: Path | str | None) -> tuple[Run, Path | None]:
    """Return the run at ``path``, or the newest one, and the checkpoint that ``path`` names, if it names one."""
    from smae.train.run import find_run

    path = Path(path) if path is not None else None
    step = path if path is not None and path.name.startswith("step-") else None
    return find_run(step.parent.parent if step is not None else path, root=RUNS), step


def ensemble(
    runs: Sequence[Path | str], *, protocol: str | None = None, mode: str = "finetune", **options: Any
) -> Ensemble:
    """Judge several runs together, by the logits that ``evaluate`` kept; see ``smae.train.ensemble.ensemble``."""
    from smae.train.ensemble import ensemble as mix
    from smae.train.run import find_run

    found = [find_run(Path(run), root=RUNS) for run in runs]
    if protocol is None and found:
        protocol = str(found[0].describe()["config"]["protocol"])
    return mix(found, protocol=protocol or "", mode=mode, **options)


def export_encoder(run: Path | str | None, to: Path | str, *, overwrite: bool = False, say: Say = _silent) -> Path:
    """Write a run's encoder as a folder of safetensors, config and model card, and return the folder.

    Args:
        run: a run's folder, or one of its checkpoints; the newest run when ``None``.
        to: the folder.
        overwrite: replace what is there.
        say: takes lines for people.

    Raises:
        DataError: no run, or no usable checkpoint.
        ConfigError: something is at ``to``.
    """
    from smae.train.export import export_encoder as write

    found, step = _find_checkpoint(run)
    return write(found, Path(to), step=step, overwrite=overwrite, say=say)


def load_encoder(path: Path | str, *, layout: str | None = None, frames: int | None = None) -> Encoder:
    """Return the encoder of an exported folder, ready to use; see ``smae.train.travel.load_encoder``."""
    from smae.train.travel import load_encoder as load

    return load(Path(path), layout=layout, frames=frames)


def embed(
    path: Path | str | None,
    to: Path | str,
    *,
    encoder: Path | str | None = None,
    run: Path | str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    say: Say = _silent,
    tell: Callable[[int, int], None] = _silent,
) -> Features:
    """Write the features of a store's clips, one vector each, to an ``.npz`` or ``.zarr``, and return them.

    Args:
        path: store; found in the current folder when ``None``.
        to: the file.
        encoder: an exported folder.
        run: a run or checkpoint in its place; the newest run when neither is given.
        device: as for ``pretrain``.
        overwrite: replace what is there.
        say: takes lines for people.
        tell: takes progress.

    Raises:
        ConfigError: both an encoder and a run, or a file of another kind.
        DataError: the store's layout is not the encoder's; no usable store, run or folder.
    """
    from smae.train.build import pick_device
    from smae.train.embed import check_target, write_features
    from smae.train.embed import embed as describe
    from smae.train.export import encoder_for

    if encoder is not None and run is not None:
        raise ConfigError("give an exported encoder or a run, not both")
    to, target = Path(to), pick_device(device)
    check_target(to, overwrite=overwrite)
    store = open_store(path)
    where, step = (Path(encoder), None) if encoder is not None else _find_checkpoint(run)
    net, augment, origin = encoder_for(where, step, store, say=say)
    features = describe(net, store, augment=augment, device=target, tell=tell)
    write_features(features, store, to=to, origin=origin)
    return features


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
    """Return labels with probabilities for raw recordings of one's own.

    Args:
        files: raw files, one recording each.
        run: whose trained head judges, made by ``evaluate``; the newest run when left out.
        head: a head's folder in its place, such as ``runs/x/heads/ntu60-xsub-finetune``.
        mode, protocol: which of the run's heads; its own protocol and the fine-tuned one first.
        source: registered source of the files; the one trained on when left out.
        device: as for ``pretrain``.

    Raises:
        SmaeError: see ``smae.train.predict.predict`` and ``find_head``.
    """
    from smae.train.build import pick_device
    from smae.train.predict import find_head
    from smae.train.predict import predict as classify
    from smae.train.run import find_run
    from smae.train.travel import read_weights

    if head is None:
        found = find_run(Path(run) if run is not None else None, root=RUNS)
        head = find_head(found, protocol=protocol, mode=mode)
    elif run is not None or mode is not None or protocol is not None:
        raise ConfigError("a head's folder says all: leave run, mode and protocol out")
    model = read_weights(Path(head))
    return classify([Path(file) for file in files], model, name=str(head), source=source, device=pick_device(device))


def report(
    run: Path | str | None = None, *, out: Path | str | None = None, data: Path | str | None = None, say: Say = _silent
) -> Path:
    """Write a run's page, one self-contained HTML file, and return its path (``<run>/report.html`` by default)."""
    from smae.train.report import write_report
    from smae.train.run import find_run

    found = find_run(Path(run) if run is not None else None, root=RUNS)
    store = open_store(data or found.describe()["store"]["path"])
    return write_report(found, store, out=Path(out) if out is not None else found.path / "report.html", say=say)


def status(folder: Path | str = ".") -> tuple[list[RunState], list[Unfinished]]:
    """Return the runs of a folder (its own, and those of its ``runs/``) with their state, and unfinished preparations.

    Raises:
        ConfigError: no such folder.
    """
    from smae.data.unfinished import unfinished
    from smae.train.status import run_states

    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"{root}: no folder there: name one that holds runs/ or runs")
    return run_states(root / RUNS) + run_states(root), unfinished(root)


def doctor(folder: Path | str = ".") -> Diagnosis:
    """Look at this machine and environment; ``folder`` is where stores and runs would be written.

    Raises:
        ConfigError: no such folder.
    """
    from smae.doctor import examine

    if not Path(folder).is_dir():
        raise ConfigError(f"{folder}: no folder there: name the one that stores and runs are to be written to")
    return examine(Path(folder))


def view(
    where: Path | str | None = None,
    *,
    clip: str | None = None,
    index: int | None = None,
    raw: Path | str | None = None,
    run: Path | str | None = None,
    to: Path | str | None = None,
    source: str = "ntu",
    say: Say = _silent,
) -> Path:
    """Draw one clip, and return the file: a page, GIF, PNG strip or Rerun recording, as its name ends.

    Args:
        where: a store; or a raw file; or a folder or zip of raw files. The store found here, or ``run``'s, by default.
        clip: name of the clip; the first one of a store by default.
        index: number of the clip in the store, instead of a name.
        raw: with a store: where its raw files lie, to show raw and denoised side by side.
        run: with a store: a run, to show original, masked and filled in side by side.
        to: the file to write: ``.html``, ``.gif``, ``.png`` or ``.rrd``; ``<clip>.html`` here by default.
        source: registered source of raw files.
        say: takes lines for people.

    Raises:
        ConfigError: options that do not go together, or another ending.
        DataError: a bad recording, a damaged store, or an unusable run.
        UnknownNameError: no such clip.
    """
    from smae.drawing import check_target, page_name, write_scene

    if to is not None:
        check_target(Path(to))
    if where is None or _is_store(where):
        scene = _store_scene(where, clip=clip, index=index, raw=raw, run=run, say=say)
    else:
        others: dict[str, object] = {"--index": index, "--raw": raw, "--run": run}
        scene = _raw_scene(Path(where), clip=clip, source=source, others=others)
    path = Path(to) if to is not None else Path(page_name(scene))
    if path.exists():
        say(f"{path} was there and is replaced")
    for note in scene.notes:
        say(note)
    write_scene(scene, path)
    return path


def _is_store(where: Path | str) -> bool:
    from smae.data.storage.places import locate

    path = locate(where)
    return isinstance(path, str) or path.suffix == ".zarr" or (path / "zarr.json").is_file()


def _raw_scene(where: Path, *, clip: str | None, source: str, others: dict[str, object]) -> Scene:
    from smae.data.preparing.plan import Settings
    from smae.data.scenes import scene_of_raw

    if not where.exists():
        raise ConfigError(f"nothing at {where}: give a store, a recording, or a folder or zip of recordings")
    for option, value in others.items():
        if value is not None:
            raise ConfigError(f"{option} goes with a store, and {where} is none: leave {option} out")
    if clip is None and (where.is_dir() or where.suffix.lower() == ".zip"):
        raise ConfigError(f"{where} holds many recordings: say which with --clip, for example S001C002P003R002A013")
    return scene_of_raw(where, clip, Settings(source=source))


def _store_scene(
    where: Path | str | None,
    *,
    clip: str | None,
    index: int | None,
    raw: Path | str | None,
    run: Path | str | None,
    say: Say,
) -> Scene:
    from smae.data.scenes import find_clip, scene_of_clip

    if clip is not None and index is not None:
        raise ConfigError("--clip and --index both name a clip: leave one out")
    if raw is not None and run is not None:
        raise ConfigError("--raw and --run each fill the page: leave one out")
    if run is None:
        found, store = None, open_store(where)
    else:
        from smae.train.run import find_run

        found = find_run(Path(run), root=RUNS)
        store = open_store(where or found.describe()["store"]["path"])
    if index is not None and not 0 <= index < len(store):
        raise ConfigError(f"--index {index}: expected 0 to {len(store) - 1}, the clips of {store.path}")
    if clip is None and index is None:
        say(f"the first of {len(store):,} clips; name another with --clip or --index")
    number = find_clip(store, clip) if clip is not None else index or 0
    if found is None:
        return scene_of_clip(store, number, raw=Path(raw) if raw is not None else None)
    from smae.train.judge import load_objective
    from smae.train.previews import scene_of_preview

    config, objective = load_objective(found, store, say=say)
    return scene_of_preview(objective, store, config, index=number)
