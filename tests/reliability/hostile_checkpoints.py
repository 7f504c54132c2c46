"""Hands hostile checkpoints to `pretrain --resume` and `eval`: refused with exit 4, nothing executed, little used.

An attacker writes a manifest that fits: what is changed in a checkpoint is signed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reliability.forked_cli import Ended, smae, too_slow
from tests.reliability.hostile import DEEP, PEAK, Bomb, bomb, hit_of
from tests.reliability.runs import command

FILES = ("model.safetensors", "optimizer.safetensors", "average.safetensors", "state.json")
TIB = 2**40

Change = Callable[[Path], object]


def sign(step: Path) -> None:
    """Make the manifest agree with the files as they are now."""
    manifest = json.loads((step / "manifest.json").read_text())
    for name in manifest["files"]:
        if (step / name).is_file() and (step / name).stat().st_size < TIB:
            data = (step / name).read_bytes()
            manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (step / "manifest.json").write_text(json.dumps(manifest))


def put(name: str, data: bytes | Callable[[Path], bytes]) -> Change:
    """Replace a file."""
    return lambda step: (step / name).write_bytes(data(step) if callable(data) else data)


def header(content: bytes, *, length: int | None = None, data: bytes = bytes(8)) -> bytes:
    """Return a safetensors file with a header of one's own, of a length of one's own."""
    return (len(content) if length is None else length).to_bytes(8, "little") + content + data


def tensor(name: str, shape: list[int], start: int, stop: int, dtype: str = "F32") -> str:
    return f'"{name}":{{"dtype":"{dtype}","shape":{json.dumps(shape)},"data_offsets":[{start},{stop}]}}'


def tensors(*entries: str) -> bytes:
    return header(f"{{{','.join(entries)}}}".encode())


def weights(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the tensors of a file."""

    def changed(step: Path) -> None:
        from safetensors.torch import load, save

        held = load((step / name).read_bytes())
        change(held)
        (step / name).write_bytes(save(held))

    return changed


def fill(value: float) -> Callable[[dict[str, Any]], object]:
    return lambda held: next(one for one in held.values() if one.dim()).fill_(value)


def wider(held: dict[str, Any]) -> None:
    """Make every tensor twice as wide, as those of another model are."""
    import torch

    held.update({name: torch.cat([one, one], -1) if one.dim() else one for name, one in held.items()})


def state(**change: Any) -> Change:
    """Change what the state says; ``identity`` is laid over the one there."""

    def changed(step: Path) -> None:
        held = json.loads((step / "state.json").read_text())
        held["identity"] |= change.pop("identity", {})
        (step / "state.json").write_text(json.dumps(held | change))

    return changed


def sparse(name: str) -> Change:
    """Make a file a TiB large that takes no space, and say so in the manifest."""

    def change(step: Path) -> None:
        os.truncate(step / name, TIB)
        if name in FILES:
            manifest = json.loads((step / "manifest.json").read_text())
            manifest["files"][name]["bytes"] = TIB
            (step / "manifest.json").write_text(json.dumps(manifest))

    return change


def instead(name: str, make: Callable[[Path], object]) -> Change:
    """Replace a file by something that is none."""

    def change(step: Path) -> None:
        (step / name).unlink()
        make(step / name)

    return change


def torch_bomb(step: Path) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save({"model": Bomb(hit_of(step.parent))}, out)
    return out.getvalue()


RESUME, JUDGE = ("pretrain",), ("eval",)
BOTH = RESUME + JUDGE
HOSTILE: dict[str, tuple[tuple[str, ...], Change]] = {
    **{f"{name} that is a pickle": (BOTH, put(name, lambda step: bomb(step.parent))) for name in FILES},
    **{f"{name} that torch saved": (BOTH, put(name, torch_bomb)) for name in FILES},
    "manifest that is a pickle": (BOTH, put("manifest.json", lambda step: bomb(step.parent))),
    "header of 2^60 bytes": (BOTH, put("model.safetensors", header(b"{}", length=2**60))),
    "header longer than the file": (BOTH, put("model.safetensors", header(b"{}", length=2**27))),
    "header 20,000 deep": (BOTH, put("model.safetensors", header(DEEP))),
    "header that is no JSON": (BOTH, put("optimizer.safetensors", header(b"\xff\xfe" * 50))),
    "shape of 2^60": (BOTH, put("model.safetensors", tensors(tensor("a", [2**60], 0, 8)))),
    "shapes that multiply beyond 2^64": (BOTH, put("model.safetensors", tensors(tensor("a", [2**33, 2**33], 0, 8)))),
    "overlapping tensors": (
        BOTH, put("model.safetensors", tensors(tensor("a", [2], 0, 8), tensor("b", [1], 4, 8)))
    ),
    "two tensors of one name": (
        BOTH, put("model.safetensors", tensors(tensor("a", [1], 0, 4), tensor("a", [1], 4, 8)))
    ),
    "offsets that run backwards": (BOTH, put("model.safetensors", tensors(tensor("a", [1], 8, 4)))),
    "a type that is none": (BOTH, put("model.safetensors", tensors(tensor("a", [1], 0, 8, dtype="OBJ")))),
    "no tensors": (RESUME, put("model.safetensors", header(b"{}", data=b""))),
    "an empty file": (BOTH, put("model.safetensors", b"")),
    "a weight that is NaN": (BOTH, weights("model.safetensors", fill(float("nan")))),
    "an averaged weight that is infinite": (BOTH, weights("average.safetensors", fill(float("inf")))),
    "a moment that is NaN": (BOTH, weights("optimizer.safetensors", fill(float("nan")))),
    "a model of another shape": (RESUME, weights("model.safetensors", wider)),
    "an average of another shape": (BOTH, weights("average.safetensors", wider)),
    "moments of another shape": (RESUME, weights("optimizer.safetensors", wider)),
    "a model with one weight less": (RESUME, weights("model.safetensors", lambda held: held.popitem())),
    "another store's": (RESUME, state(identity={"store": "cd" * 32})),
    "another layout's": (BOTH, state(identity={"layout": "kinect20"})),
    "a step beyond the end": (RESUME, state(step=10**30)),
    "a step before the first": (RESUME, state(step=-5)),
    "more clips than there are": (RESUME, state(consumed=10**12)),
    "a state 20,000 deep": (BOTH, put("state.json", DEEP)),
    "a state with a number of a million digits": (BOTH, put("state.json", b'{"step":' + b"9" * 10**6 + b"}")),
    **{f"{name} of a TiB": (BOTH, sparse(name)) for name in (*FILES, "manifest.json")},
    "a pipe": (BOTH, instead("model.safetensors", os.mkfifo)),
    "a link that leads elsewhere": (BOTH, instead("state.json", lambda path: path.symlink_to("/etc/hostname"))),
    "a device": (BOTH, instead("model.safetensors", lambda path: path.symlink_to("/dev/zero"))),
    "a folder": (BOTH, instead("optimizer.safetensors", os.mkdir)),
}  # fmt: skip
"""Hostile checkpoints, and the commands that must refuse them."""


def try_checkpoints(store: str, folder: Path, names: list[str]) -> list[str]:
    """Return the problem of each hostile checkpoint, one a command; each is made of a sound one."""
    sound, problems = folder / "sound", []
    ran = smae(*command(store, sound, epochs=1))
    assert ran.code == 0, ran
    for number, name in enumerate(names):
        commands, change = HOSTILE[name]
        run = folder / f"hostile-{number}" / "run"
        shutil.copytree(sound, run)
        (step,) = (run / "checkpoints").iterdir()
        change(step)
        if (step / "manifest.json").stat().st_size < TIB and "manifest" not in name:
            sign(step)
        for what in commands:
            arguments = command(store, run, epochs=1) if what == "pretrain" else ["eval", "--run", str(run)]
            problem = _refusal(smae(*arguments), step)
            problems.append(problem and f"{name}, {what}: {problem}")
        shutil.rmtree(run.parent)
    return problems


def _refusal(ended: Ended, step: Path) -> str:
    if hit_of(step.parent).exists():
        return "it was executed"
    if ended.code != 4 or "Traceback" in ended.err:
        return str(ended)
    if not any(line.startswith("smae: ") for line in ended.messages):
        return f"no message: {ended}"
    if slow := too_slow(ended.seconds):
        return slow
    return f"{ended.peak / 1e6:.0f} MB" if ended.peak > PEAK else ""
