"""A program that reads stores, runs and encoders whose metadata lie, signed anew so that all checksums fit.

Each value of each JSON file is replaced, in turn, by values of other kinds. A command may then do its work, or refuse
in a line; it never has a bug, prints no control character, and takes neither long nor much memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc

from tests.reliability.forked_cli import HANGS, Ended, answer, smae
from tests.reliability.hostile import ESCAPES, sign
from tests.reliability.runs import command, warm_up_training, write_store
from tests.reliability.stores import in_memory

PEAK = 2**30
"""Bytes, torch included."""
GONE = object()
VALUES: dict[str, Any] = {
    "missing": GONE,
    "null": None,
    "true": True,
    "negative": -1,
    "zero": 0,
    "fraction": 1.5,
    "a million": 10**6,
    "2^62": 2**62,
    "400 digits": 10**400,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "text": "x",
    "empty text": "",
    "escapes": ESCAPES,
    "line end": "a\nb",
    "100,000 letters": "x" * 100_000,
    "many digits": "9" * 5000,
    "path": "../../../etc/passwd",
    "list": [],
    "list of a number": [1],
    "object": {},
    "object of text": {"a": "b"},
}
JSON_OF = {
    "store": ("zarr.json",),
    "quarantine": ("quarantine.jsonl",),
    "run": ("run.json", "eval/*.json", "checkpoints/*/state.json", "checkpoints/*/manifest.json", "log.jsonl"),
    "encoder": ("config.json",),
    "head": ("heads/*/config.json",),
}
"""Files whose values are replaced, by what they are of."""
ARRAYS = 3
"""Of long lists, this many values are replaced."""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in JSON values, containers included."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:ARRAYS]):
            yield from leaves(inner, (*path, number))


def replace(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of JSON values with one value replaced."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if new is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return copy


def cases(folder: Path, kind: str) -> list[tuple[str, tuple[Any, ...], str]]:
    """Return file, path of a value, and name of what replaces it, of all lies about one kind of folder."""
    found = []
    for pattern in JSON_OF[kind]:
        for file in sorted(folder.glob(pattern))[:2]:
            for path in leaves(_read(file)):
                if path[:2] == ("attributes", "smae") or file.name != "zarr.json":
                    found += [(file.relative_to(folder).as_posix(), path, name) for name in VALUES]
    return found


def _read(file: Path) -> Any:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    return json.loads(file.read_text())


def lie(folder: Path, file: str, path: tuple[Any, ...], name: str) -> None:
    """Replace one value and sign what is signed."""
    target = folder / file
    content = replace(_read(target), tuple(path), VALUES[name])
    if target.suffix == ".jsonl":
        target.write_text("".join(json.dumps(line) + "\n" for line in content))
    else:
        target.write_text(json.dumps(content))
    if file in ("zarr.json", "quarantine.jsonl"):
        sign(folder, file)
    elif target.name == "state.json":
        manifest = json.loads((target.parent / "manifest.json").read_text())
        data = target.read_bytes()
        manifest["files"]["state.json"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (target.parent / "manifest.json").write_text(json.dumps(manifest))


def made(folder: Path) -> dict[str, Path]:
    """Write a store with bad files, a run with results, and an encoder; return them by kind."""
    store = write_store(folder)
    rows = [{"path": "raw/a.skeleton", "code": "fields", "message": "three where four", "size": 3, "sha256": "",
             "line": 2, "column": 1, "excerpt": "1 2 3"}] * 2  # fmt: skip
    (store / "quarantine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = json.loads((store / "zarr.json").read_text())
    counts = {"found": 30, "ok": 24, "noted": {"bom": 2}, "excluded": {"no-body": 4}, "quarantined": 2, "ignored": 0}
    content["attributes"]["smae"]["counts"] = counts
    content["attributes"]["smae"]["origin"]["names"] = {"A001": "drink", "A002": "eat"}
    (store / "zarr.json").write_text(json.dumps(content))
    sign(store, "zarr.json", "quarantine.jsonl")
    run, encoder = folder / "run", folder / "encoder"
    quick = ["--set", "linear.epochs=2", "--probe", "linear", "--probe", "knn", "--device", "cpu"]
    for words in (
        command(store, run, epochs=2),
        ["eval", "--run", run, "--protocol", "xsub", *quick],
        ["export-encoder", run, "--out", encoder],
    ):
        ended = smae(*words)
        assert ended.code == 0, ended
    return {"store": store, "quarantine": store, "run": run, "encoder": encoder, "head": run}


def commands(kind: str, folder: Path, trial: Path, whole: dict[str, Path]) -> dict[str, list[Any]]:
    """Return the commands that read a folder of one kind."""
    store = whole["store"]
    if kind in ("store", "quarantine"):
        draw = {f"view {end}": ["view", folder, "--index", 0, "--out", trial / f"a.{end}"] for end in ("gif", "html")}
        export = {
            form: ["export", folder, "--format", form, "--protocol", "xsub", "--out", trial / f"a.{end}"]
            for form, end in (("pyskl", "pkl"), ("ctrgcn", "npz"), ("hdf5", "h5"))
        }
        report = {"report": ["report", whole["run"], "--data", folder, "--out", trial / "page.html", "--device", "cpu"]}
        if kind == "quarantine":
            return report | {"resume": ["prepare", "--raw", store.parent / "raw", "--out", folder, "--resume"]}
        info = {words: ["info", folder, *words.split()] for words in ("", "--json", "--card", "--classes")}
        raw = sorted((store.parent / "raw").iterdir())[0]
        explain = {"explain": ["explain", folder, raw.stem, "--raw", raw.parent]}
        return {**info, "verify": ["verify", folder], **draw, **export, **report, **explain}
    if kind == "encoder":
        return {"embed": ["embed", store, "--encoder", folder, "--out", trial / "f.npz", "--device", "cpu"]}
    if kind == "head":
        raw = sorted((store.parent / "raw").iterdir())[0]
        words = ["--run", folder, "--protocol", "xsub", "--probe", "linear", "--device", "cpu"]
        return {"predict": ["predict", raw, *words]}
    page = ["report", folder, "--out", trial / "page.html", "--device", "cpu"]
    both = ["report", folder, whole["run"], "--out", trial / "both.html"]
    return {
        "status": ["status", folder.parent],
        "status --json": ["status", folder.parent, "--json"],
        "report": page,
        "reports": both,
        "export-encoder": ["export-encoder", folder, "--out", trial / "encoder"],
        "ensemble": ["ensemble", folder, whole["run"], "--protocol", "xsub", "--probe", "linear"],
    }


def problem_of(ended: Ended) -> str:
    """Return what is wrong with how a command met a lie."""
    if ended.code not in (0, 2, 3, 4) or "Traceback" in ended.err:
        return f"exit {ended.code}: {ended.err[-300:]!r}"
    if found := re.search(r"[^\n\t\x20-\x7e\x80-\uffff]|[\x80-\x9f]", ended.out + ended.err):
        return f"prints {found[0]!a}"
    if ended.peak > PEAK:
        return f"{ended.peak / 1e6:.0f} MB"
    return f"{ended.seconds:.0f} s" if ended.seconds > HANGS / 2 else ""


def trials(kind: str, first: int, step: int) -> list[str]:
    """Make every ``step``-th lie about one kind of folder; return the problem of each."""
    problems = []
    with in_memory() as folder:
        warm_up_training(folder)
        whole = made(folder)
        for file, path, name in cases(whole[kind], kind)[first::step]:
            trial = folder / "trial"
            lying = trial / "runs" / whole[kind].name
            shutil.copytree(whole[kind], lying)
            lie(lying, file, path, name)
            found = []
            for words, arguments in commands(kind, lying, trial, whole).items():
                if problem := problem_of(smae(*arguments)):
                    found.append(f"{words}: {problem}")
            where = ".".join(map(str, path))
            problems.append(f"{file}, {where} {name}: {'; '.join(found)}" if found else "")
            shutil.rmtree(trial)
    return problems


def rename_clip(store: Path, name: bytes) -> None:
    """Give the first clip of a store another name, signed."""
    about = json.loads((store / "clips/name/zarr.json").read_text())
    rows, width = about["shape"]
    from smae.data.store import open_store

    names = np.zeros((rows, width), np.uint8)
    for row, old in enumerate(open_store(store).clips.name):
        new = name if row == 0 else str(old).encode()
        names[row, : len(new[:width])] = np.frombuffer(new[:width], np.uint8)
    packed: bytes = blosc.compress(names, b"lz4", 5, 1)
    (store / "clips/name/c/0/0").write_bytes(packed + google_crc32c.value(packed).to_bytes(4, "little"))
    sign(store, "clips/name/c/0/0")


if __name__ == "__main__":
    answer(trials)
