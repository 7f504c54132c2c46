"""Checkpoints: they come back as they were, never half-written, and no damaged or hostile one is used."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from smae import atomic_io
from smae.errors import DataError, NonFiniteError
from smae.train.checkpoint import (
    load_checkpoint,
    load_latest,
    load_optimizer,
    load_weights,
    pack_optimizer,
    save_checkpoint,
)

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def state(step):
    return {"step": step, "epoch": 0, "consumed": 4 * step, "steps": 10, "identity": {"seed": 1}}


def trained(*, steps=2, seed=0, width=3):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(width, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, fused=True)
    for _ in range(steps):
        net(torch.randn(5, width)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


def write(folder, step=1, **options):
    net, optimizer = trained(**options)
    return save_checkpoint(folder, model=net, optimizer=optimizer, state=state(step))


def rehash(path):
    """Make the manifest agree with what now lies there, as an attacker would."""
    manifest = json.loads((path / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (path / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    net, optimizer = trained()
    found = load_checkpoint(save_checkpoint(tmp_path, model=net, optimizer=optimizer, state=state(7)))
    assert found.path == tmp_path / "step-00000007"
    assert found.state == state(7)
    other, other_optimizer = trained(steps=0, seed=1)
    load_weights(other, found.model, where="here")
    load_optimizer(other_optimizer, found.optimizer, where="here")
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    mine, theirs = pack_optimizer(optimizer), pack_optimizer(other_optimizer)
    assert mine.keys() == theirs.keys()
    assert len(mine) == 3 * 6
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_it_holds_safetensors_and_json_alone(tmp_path):
    path = write(tmp_path)
    assert sorted(entry.name for entry in path.iterdir()) == sorted(FILES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]


def test_a_moving_average_lies_beside_the_weights_and_is_checked_like_them(tmp_path):
    net, optimizer = trained()
    average, _ = trained(seed=3)
    path = save_checkpoint(tmp_path, model=net, optimizer=optimizer, average=average, state=state(1))
    assert sorted(entry.name for entry in path.iterdir()) == sorted([*FILES, "average.safetensors"])
    found = load_checkpoint(path)
    assert all(torch.equal(tensor, found.average[name]) for name, tensor in average.state_dict().items())
    flip(path / "average.safetensors", random.Random(0))
    with pytest.raises(DataError, match=r"average\.safetensors"):
        load_checkpoint(path)
    with torch.no_grad():
        average[2].bias[1] = float("nan")
    with pytest.raises(NonFiniteError, match=r"2\.bias: not finite, so no checkpoint was written"):
        save_checkpoint(tmp_path, model=net, optimizer=optimizer, average=average, state=state(2))


def test_without_a_moving_average_none_is_loaded(tmp_path):
    assert load_checkpoint(write(tmp_path)).average == {}


def test_tied_weights_can_be_saved(tmp_path):
    net, optimizer = trained()
    net.register_module("again", net[2])
    assert torch.equal(
        load_checkpoint(save_checkpoint(tmp_path, model=net, optimizer=optimizer, state=state(1))).model[
            "again.weight"
        ],
        net[2].weight,
    )


def test_two_are_kept(tmp_path):
    for step in (1, 2, 10, 300):
        write(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000300"]


def test_writing_the_same_step_again_replaces_it(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 1, seed=5)
    net, _ = trained(seed=5)
    assert torch.equal(load_latest(tmp_path).model["0.weight"], net.state_dict()["0.weight"])


@pytest.mark.parametrize("fails", ["fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_write_that_fails_leaves_the_last_one_whole(tmp_path, monkeypatch, fails, nth):
    write(tmp_path, 1)
    calls, real = [], getattr(os, fails)

    def failing(*args):
        calls.append(args)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    monkeypatch.setattr(atomic_io.os, fails, failing)
    try:
        write(tmp_path, 2)
        failed = False
    except OSError:
        failed = True
    monkeypatch.undo()
    assert failed == (len(calls) >= nth)
    assert load_latest(tmp_path).state["step"] in ((1, 2) if failed else (2,))
    assert load_checkpoint(tmp_path / "step-00000001").state == state(1)
    write(tmp_path, 3)
    assert load_latest(tmp_path).state["step"] == 3
    assert not list(tmp_path.glob(".*")), "what a failed write left behind goes with the next one"


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES[:3])
def test_every_flipped_bit_is_found(tmp_path, name):
    path, rng = write(tmp_path), random.Random(name)
    whole = (path / name).read_bytes()
    for _ in range(60):
        flip(path / name, rng)
        with pytest.raises(DataError, match=name):
            load_checkpoint(path)
        (path / name).write_bytes(whole)
    assert load_checkpoint(path).state == state(1)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_found(tmp_path, name):
    path = write(tmp_path)
    whole = (path / name).read_bytes()
    for length in {0, 1, 8, len(whole) // 2, len(whole) - 2}:
        (path / name).write_bytes(whole[:length])
        with pytest.raises(DataError, match=name):
            load_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    path = write(tmp_path)
    (path / name).unlink()
    with pytest.raises(DataError, match=name):
        load_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["fifo", "folder"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path, name, make):
    path = write(tmp_path)
    (path / name).unlink()
    make(path / name)
    with pytest.raises(DataError, match=name):
        load_checkpoint(path)


def test_a_link_that_leads_outside_is_refused(tmp_path):
    path = write(tmp_path / "run")
    (path / "model.safetensors").rename(tmp_path / "elsewhere")
    (path / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="not a regular file"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, value):
    path, (net, optimizer) = write(tmp_path), trained()
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weights["2.bias"][1] = value
    (path / "model.safetensors").write_bytes(save(weights))
    rehash(path)
    with pytest.raises(DataError, match=r"2\.bias: not finite"):
        load_checkpoint(path)
    with torch.no_grad():
        net[2].bias[1] = value
    with pytest.raises(NonFiniteError, match=r"2\.bias: not finite, so no checkpoint was written"):
        save_checkpoint(tmp_path, model=net, optimizer=optimizer, state=state(2))
    assert not (tmp_path / "step-00000002").exists()


def test_moments_that_are_not_finite_are_not_written(tmp_path):
    net, optimizer = trained()
    optimizer.state[net[0].weight]["exp_avg_sq"][0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match=r"optimizer 0\.exp_avg_sq"):
        save_checkpoint(tmp_path, model=net, optimizer=optimizer, state=state(2))
    assert list(tmp_path.iterdir()) == []


def test_latest_falls_back_by_one_and_warns(tmp_path, caplog):
    write(tmp_path, 1)
    flip(write(tmp_path, 2) / "model.safetensors", random.Random(0))
    assert load_latest(tmp_path).state["step"] == 1
    (message,) = caplog.messages
    assert "skipped a damaged checkpoint" in message
    assert "step-00000002" in message


def test_latest_without_any_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="no usable checkpoint: train with"):
        load_latest(tmp_path)


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_under_any_name_is_never_loaded(tmp_path, name, form):
    path, mark = write(tmp_path), tmp_path / "executed"
    if form == "pickle":
        (path / name).write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save(Bomb(mark), path / name)
    if name != "manifest.json":
        rehash(path)
    with pytest.raises(DataError):
        load_checkpoint(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark))).close()
    assert mark.exists(), "the bomb works"


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b"[" * 20_000,
        b"not json at all!",
    ],
)
def test_hostile_safetensors_are_refused(tmp_path, header):
    path = write(tmp_path)
    for length in (len(header), 2**60):
        data = length.to_bytes(8, "little") + header + bytes(4)
        (path / "model.safetensors").write_bytes(data)
        rehash(path)
        with pytest.raises(DataError, match="step-00000001"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "content", ["[]", "3", "{}", '{"step": "1", "epoch": 0, "consumed": 0, "steps": 1}', "[" * 20_000, '{"step": NaN}']
)
def test_a_state_of_another_form_is_refused(tmp_path, content):
    path = write(tmp_path)
    (path / "state.json").write_text(content)
    rehash(path)
    with pytest.raises(DataError, match="step-00000001"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "checkpoint format 2, this smae reads 1"),
        ({"files": {}}, "its manifest should name"),
        ({"files": dict.fromkeys(FILES[:3], 3)}, r"model\.safetensors: .* its manifest says otherwise"),
        ({"files": {"../../model.safetensors": {}}}, "its manifest should name"),
    ],
)
def test_a_manifest_of_another_form_is_refused(tmp_path, change, message):
    path = write(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(DataError, match=message):
        load_checkpoint(path)


def test_weights_of_another_model_are_refused_one_by_one(tmp_path):
    found = load_checkpoint(write(tmp_path, width=6))
    net, optimizer = trained()
    with pytest.raises(DataError, match=r"run: weights do not fit.*0\.weight: \(4, 6\) there, \(4, 3\) here"):
        load_weights(net, found.model, where="run")
    del found.model["2.bias"]
    found.model["3.bias"] = torch.zeros(1)
    with pytest.raises(DataError, match=r"2\.bias: missing there; 3\.bias: unknown here"):
        load_weights(net, found.model, where="run")
    with pytest.raises(DataError, match=r"run: optimizer 0\.exp_avg \(4, 6\) fits no parameter"):
        load_optimizer(optimizer, found.optimizer, where="run")
    with pytest.raises(DataError, match=r"optimizer 99\.exp_avg"):
        load_optimizer(optimizer, {"99.exp_avg": torch.zeros(1)}, where="run")
