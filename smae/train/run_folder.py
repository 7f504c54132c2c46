"""A run's folder: its files, naming and lookup; weights that come with the package.

``runs/<name>/`` holds ``run.json`` (settings, store, versions), ``log.jsonl``, ``checkpoints/``,
``tensorboard/``, ``eval/``, ``heads/`` and ``report.html``; ``.lock`` while it is trained.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smae.atomic_io import MAX_INTEGER, read_json
from smae.errors import ConfigError, DataError
from smae.registry import nearest
from smae.skeleton import layout_from_json

if TYPE_CHECKING:
    from smae.data.store import Store

logger = logging.getLogger(__name__)

VERSION = 1
RUNS = Path("runs")
"""Folder for runs that are not named."""
WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the packaged weights, by name: each an encoder with a linear head."""
DEFAULT_WEIGHTS = "open-small"
"""What ``embed`` and ``predict`` use where there is no run."""
Need = Literal["", "checkpoint", "head"]
_ABOUT = {"steps": int, "process": dict}
_PARTS: dict[str, dict[str, type]] = {
    "store": {
        "path": str,
        "layout": str,
        "skeleton": dict,
        "dataset": str,
        "mode": str,
        "fingerprint": str,
        "clips": int,
        "prepared": dict,
        "stores": list,
        "masked": list,
    },
    "process": {"pid": int, "host": str},
    "config": {"protocol": str, "objective": dict, "augment": dict},
}
"""Values of ``run.json`` that are read, where they are there."""
_STORE = {"name": str, "path": str, "fingerprint": str, "protocol": str, "masked": list}
"""What is kept of each store, where a run was trained on several."""
_NUMBERS = ("step", "epoch", "loss", "lr", "clips", "seconds", "host_bytes", "device_bytes")


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path

    @property
    def log(self) -> Path:
        """Training curves: JSON lines, one per step."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, one folder a step."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """Lock held by the process that trains the run."""
        return self.path / ".lock"

    @property
    def results(self) -> Path:
        """Evaluation results."""
        return self.path / "eval"

    @property
    def heads(self) -> Path:
        """Classifiers trained by evaluation, one folder each."""
        return self.path / "heads"

    def newest_checkpoint(self) -> Path | None:
        """Return the newest checkpoint with all its files in full size; None without one."""
        return next(filter(_is_whole, sorted(self.checkpoints.glob("step-*"), reverse=True)), None)

    def has(self, need: Need) -> bool:
        """Whether it has a checkpoint with all its files, or a head; True if nothing is needed."""
        if need == "checkpoint":
            return self.newest_checkpoint() is not None
        return not need or any(self.heads.glob("*/config.json"))

    def describe(self) -> dict[str, Any]:
        """Return ``run.json``; a ``DataError`` if it is missing, damaged or newer."""
        remedy = "name a folder that smae pretrain wrote"
        about = read_json(self.path / "run.json", what="run", remedy=remedy)
        if about.get("version") != VERSION:
            raise DataError(
                f"{self.path}: run format {about.get('version')!r}, this smae reads {VERSION}: use the one it came from"
            )
        wrong = [key for key in ("config", "store", "versions", "device") if not isinstance(about.get(key), dict)]
        wrong = wrong or _of_other_kinds(about, _ABOUT)
        wrong = wrong or [
            f"{part}.{key}" for part, kinds in _PARTS.items() for key in _of_other_kinds(about.get(part, {}), kinds)
        ]
        wrong = wrong or [
            f"store.stores.{key}"
            for one in about["store"].get("stores", ())
            for key, kind in _STORE.items()
            if not isinstance(one, dict) or type(one.get(key)) is not kind
        ]
        if wrong:
            raise DataError(f"{self.path}: its run.json lacks {', '.join(wrong)}, or has another kind: {remedy}")
        return about

    def stores(self) -> list[dict[str, Any]]:
        """Return what is known of its stores: ``path``, ``fingerprint`` and so on."""
        store = self.describe()["store"]
        return store.get("stores") or [store]

    def open_store(self, data: Store | Path | str | None = None) -> Store:
        """Return the store ``data``, by default the one of the training, as the weights need it.

        For a run of several stores it is mapped to their common layout, and one must be named. A
        ``DataError`` for no store there, or one of another layout.
        """
        # Imported here: looking runs up reads no store.
        from smae.data.store import open_store
        from smae.data.store.convert import map_store

        about, stores = self.describe()["store"], self.stores()
        if data is None and len(stores) > 1:
            named = " or ".join(str(one["path"]) for one in stores)
            several = f"{self.path} was trained on several stores"
            raise DataError(f"{several}: say which one with --data: {named}")
        store = open_store(data or stores[0].get("path"))
        if "stores" in about:
            store = map_store(store, layout_from_json(about["layout"], about.get("skeleton")))
        self.check_layout(store)
        return store

    def check_layout(self, store: Store) -> None:
        """Raise a ``DataError`` unless a store has the joint layout that the run was trained on."""
        trained = self.describe()["store"].get("layout")
        if trained != store.layout.name:
            raise DataError(
                f"{self.path} was trained on layout {trained}, {store.path} holds {store.layout.name}: its weights "
                "fit the joints of that layout only; give a store of the same layout with --data, "
                f"or map this one (--layout {trained}, or smae convert)"
            )


def stores_of(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the stores that ``run.json``'s ``store`` is of, by fingerprint."""
    return {str(one.get("fingerprint")): one for one in about.get("stores") or [about]}


def _of_other_kinds(values: dict[str, Any], kinds: dict[str, type]) -> list[str]:
    """Return the keys whose values are of another kind than they should be, or below 0."""
    found = {key: values[key] for key in kinds if key in values}
    return [
        key for key, value in found.items() if type(value) is not kinds[key] or (isinstance(value, int) and value < 0)
    ]


def read_log_line(text: str | bytes) -> dict[str, Any] | None:
    """Return a line of a run's log; None if it was cut off by a crash, or is none of a run."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    numbers = [line[key] for key in _NUMBERS if key in line]
    sound = all(type(number) in (int, float) and abs(number) <= MAX_INTEGER for number in numbers)
    return line if sound else None


def new_run(root: Path, stem: str) -> Run:
    """Return the first free ``root/stem-NNN``, created."""
    for number in range(1, 10_000):
        path = root / f"{stem}-{number:03d}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return Run(path)
    raise ConfigError(f"{root}: 9,999 runs called {stem} are there: name yours with --out")


def find_run(path: Path | str | None = None, *, root: Path = RUNS, needs: Need = "") -> Run:
    """Return the run at ``path``, or the newest under ``root`` with what is needed; else a ``DataError``."""
    if path is not None:
        path = Path(path)
        if not (path / "run.json").is_file():
            known = [entry.parent.name for entry in path.parent.glob("*/run.json")]
            raise DataError(f"{path}: no run there (no run.json){nearest(path.name, known)}")
        return Run(path)
    runs = [Run(entry.parent) for entry in root.glob("*/run.json")]
    skipped = list[str]()
    for run in sorted(runs, key=lambda run: (_last_change(run.path), run.path.name), reverse=True):
        if run.has(needs):
            without = f" (newer, without a {needs}: {', '.join(skipped)})" if skipped else ""
            logger.info(f"using {run.path}{without}")
            return run
        skipped.append(str(run.path))
    if skipped:
        remedy = {"head": "make one with `smae eval --probe linear`"}.get(needs, "train one with `smae pretrain`")
        raise DataError(f"{root}: no run has a usable {needs} ({', '.join(skipped)}): {remedy}")
    then = ", then `smae eval`" * (needs == "head")
    raise DataError(f"{root}: no run found: train one with `smae pretrain`{then}, or name the folder of one")


def packaged() -> list[str]:
    """Return the names of the packaged weights."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def is_packaged(given: Path | str) -> bool:
    """Return whether packaged weights are meant: a path of that name comes first."""
    return str(given) in packaged() and not Path(given).exists()


def weights_folder(given: Path | str) -> Path:
    """Return a path as it is, or the packaged weights so called; else a ``DataError``."""
    path = Path(given)
    if is_packaged(given):
        return WEIGHTS / path.name
    if not path.exists():
        known = packaged()
        raise DataError(
            f"nothing at {given}: no such folder, nor are there packaged weights of this name "
            f"({', '.join(known) or 'none here'}){nearest(str(given), known)}"
        )
    return path


def weights_without_run(root: Path = RUNS) -> str | None:
    """Return the weights that stand in for a run; None where there is any, even unusable."""
    usable = is_packaged(DEFAULT_WEIGHTS) and not any(root.glob("*/run.json"))
    return DEFAULT_WEIGHTS if usable else None


def find_checkpoint(path: Path | str | None = None) -> tuple[Run, Path | None]:
    """Return a run and, if ``path`` is one of its checkpoints, that checkpoint."""
    if path is None or not Path(path).name.startswith("step-"):
        return find_run(path, needs="checkpoint"), None
    step = Path(path)
    return find_run(step.parent.parent), step


def _last_change(folder: Path) -> int:
    times = []
    for entry in (folder / "run.json", *folder.glob("checkpoints/*")):
        # A run that is trained removes its older checkpoints.
        with suppress(FileNotFoundError):
            times.append(entry.stat().st_mtime_ns)
    return max(times, default=0)


def _is_whole(checkpoint: Path) -> bool:
    try:
        files = read_json(checkpoint / "manifest.json", what="manifest", remedy="")["files"]
        return bool(files) and all((checkpoint / name).stat().st_size == files[name]["bytes"] for name in files)
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return False
