"""Published checkpoints, built from their descriptions with random weights: features equal those of naive oracles.

The oracles are written from the papers and the authors' descriptions, over weights by their published names.
"""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import smae
from smae.errors import ConfigError, DataError, UnknownNameError
from smae.eval.export import read_weights
from smae.eval.import_formats import FORMATS
from smae.models import Grid
from smae.models.encoders import decoders
from smae.models.masking import mask_from_scores
from smae.skeleton import NTU25, Layout
from smae.testing.models import bodies
from smae.train.checkpoint import decoder_weights, encoder_weights, resize_positions
from smae.train.config import build_objective
from smae_cli.encoders import FORMATS as OFFERED
from tests.oracles import ctrgcn, sttformer
from tests.oracles.models import gelu
from tests.train.small import small_config

Array = NDArray[np.float64]
Weights = dict[str, Array]
Tensors = dict[str, torch.Tensor]
DIM, DEPTH, HEADS, HIDDEN = 16, 2, 8, 32
BONES = tuple((joint, joint - 1) for joint in range(1, 20))
TWENTY = Layout("twenty", tuple(map(str, range(20))), BONES, (), {"all": tuple(range(20))}, 0)


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Tensors:
    """Weights of these shapes; statistics and scales are positive, counters whole."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        made[name] = 0.3 * torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            made[name] = made[name].abs() + 0.5
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(7)
    return made


def f64(tensors: Tensors) -> Weights:
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


def linear_shapes(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def vit_block_shapes(name: str) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.norm{n}.{kind}": (DIM,) for n in (1, 2) for kind in ("weight", "bias")}
    shapes |= linear_shapes(f"{name}.attn.qkv", 3 * DIM, DIM) | linear_shapes(f"{name}.attn.proj", DIM, DIM)
    return shapes | linear_shapes(f"{name}.mlp.fc1", HIDDEN, DIM) | linear_shapes(f"{name}.mlp.fc2", DIM, HIDDEN)


def mamp_tensors(*, decoder: bool = True, joints: int = 25) -> Tensors:
    """MAMP's layout: 12 frames in patches of 4."""
    shapes: dict[str, tuple[int, ...]] = {
        "joints_embed.proj.weight": (DIM, 3, 4, 1), "joints_embed.proj.bias": (DIM,),
        "temp_embed": (1, 3, 1, DIM), "pos_embed": (1, 1, joints, DIM),
        "norm.weight": (DIM,), "norm.bias": (DIM,),
    }  # fmt: skip
    for block in range(DEPTH):
        shapes |= vit_block_shapes(f"blocks.{block}")
    if decoder:
        shapes |= linear_shapes("decoder_embed", DIM, DIM) | linear_shapes("decoder_pred", 12, DIM)
        shapes |= {"mask_token": (1, 1, DIM), "decoder_norm.weight": (DIM,), "decoder_norm.bias": (DIM,)}
        shapes |= {"decoder_temp_embed": (1, 3, 1, DIM), "decoder_pos_embed": (1, 1, joints, DIM)}
        shapes |= vit_block_shapes("decoder_blocks.0")
    return random_tensors(shapes)


def layer_norm(weights: Weights, name: str, x: Array, eps: float) -> Array:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(weights: Weights, name: str, x: Array) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(weights: Weights, name: str, x: Array, angle: Array | None = None) -> Array:
    """Of one item [L, D], head after head; queries and keys turned by angles [L, size / 2]."""
    q, k, v = np.split(linear(weights, f"{name}.qkv", x), 3, axis=1)
    size, mixed = DIM // HEADS, []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        query, key = q[:, part], k[:, part]
        if angle is not None:
            half, (cos, sin) = size // 2, (np.cos(angle), np.sin(angle))
            query, key = (
                np.concatenate([a[:, :half] * cos - a[:, half:] * sin, a[:, half:] * cos + a[:, :half] * sin], 1)
                for a in (query, key)
            )
        scores = np.exp(query @ key.T / np.sqrt(size))
        mixed.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
    return linear(weights, f"{name}.proj", np.concatenate(mixed, 1))


def vit_block(weights: Weights, name: str, x: Array) -> Array:
    x = x + attention(weights, f"{name}.attn", layer_norm(weights, f"{name}.norm1", x, 1e-5))
    hidden = linear(weights, f"{name}.mlp.fc1", layer_norm(weights, f"{name}.norm2", x, 1e-5))
    return x + linear(weights, f"{name}.mlp.fc2", np.stack([gelu(row) for row in hidden]))


def mamp_embedded(weights: Weights, x: Array) -> Array:
    """Tokens [L, D] of joints [T, V, C]: the convolution, step by step, then both positions."""
    kernel, patch = weights["joints_embed.proj.weight"][..., 0], 4
    tokens = []
    for time in range(len(x) // patch):
        for joint in range(x.shape[1]):
            total = weights["joints_embed.proj.bias"].copy()
            for step in range(patch):
                total += kernel[:, :, step] @ x[time * patch + step, joint]
            tokens.append(total + weights["temp_embed"][0, time, 0] + weights["pos_embed"][0, 0, joint])
    return np.stack(tokens)


def mamp_encoded(weights: Weights, x: Array, keep: list[int] | None = None) -> Array:
    tokens = mamp_embedded(weights, x)
    tokens = tokens if keep is None else tokens[keep]
    for block in range(DEPTH):
        tokens = vit_block(weights, f"blocks.{block}", tokens)
    return layer_norm(weights, "norm", tokens, 1e-5)


def checkpoint(path: Path, tensors: Tensors, **model: Any) -> Path:
    """A file as main_pretrain.py of MAMP and its kin writes it."""
    args = argparse.Namespace(lr=1e-3, output_dir="out", model_args={"num_heads": HEADS, **model}, betas=[0.9, 0.95])
    torch.save(
        {"model": tensors, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}, "epoch": 399, "scaler": {},
         "args": args}, path,
    )  # fmt: skip
    return path


def features_of(folder: Path, x: torch.Tensor) -> Array:
    with torch.no_grad():
        return smae.load_encoder(folder)(x).double().numpy()  # type: ignore[no-any-return]


def close(found: Array, expected: Array) -> bool:
    return bool(np.abs(found - expected).max() < 1e-5 * max(1.0, float(np.abs(expected).max())))


def test_the_command_offers_the_formats() -> None:
    assert tuple(FORMATS) == OFFERED


def test_mamp_with_its_decoder(tmp_path: Path) -> None:
    tensors, x = mamp_tensors(), bodies(NTU25, items=2, frames=12)
    made = smae.import_weights(checkpoint(tmp_path / "a.pth", tensors), tmp_path / "mamp", format="mamp")
    expected = {
        "name": "vit",
        "dim": 16,
        "depth": 2,
        "heads": 8,
        "mlp": 2.0,
        "patch": 4,
        "drop_path": 0.0,
        "movement": 0.0,
        "feature_groups": 1,
    }
    assert (made.encoder, made.left_out, made.notes) == (expected, [], [])
    weights, found = f64(tensors), features_of(tmp_path / "mamp", x)
    for item in range(2):
        assert close(found[item], mamp_encoded(weights, x[item].double().numpy()))

    # Predictions at hidden tokens, of visible ones in their place among mask tokens.
    loaded = read_weights(tmp_path / "mamp")
    mask = mask_from_scores(torch.rand(2, 75, generator=torch.Generator().manual_seed(1)), 20)
    assert made.decoder is not None
    kind: Any = decoders.get("self")
    decoder = kind(kind.Config(**made.decoder), grid=Grid.cut(12, joints=25, patch=4), width=16).eval()
    decoder.load_state_dict(decoder_weights(tmp_path / "mamp"))
    with torch.no_grad():
        predicted = decoder(loaded.encoder(x, mask), mask).double().numpy()
    for item in range(2):
        keep, hide = mask.keep[item].tolist(), mask.hide[item].tolist()
        visible = linear(weights, "decoder_embed", mamp_encoded(weights, x[item].double().numpy(), keep))
        tokens = np.tile(weights["mask_token"][0, 0], (75, 1))
        tokens[keep] = visible
        place = weights["decoder_temp_embed"][0] + weights["decoder_pos_embed"][0]
        tokens = layer_norm(
            weights, "decoder_norm", vit_block(weights, "decoder_blocks.0", tokens + place.reshape(75, -1)), 1e-5
        )
        assert close(predicted[item], linear(weights, "decoder_pred", tokens[hide]))

    config = json.loads((tmp_path / "mamp" / "config.json").read_text())
    assert config["origin"]["imported"]["format"] == "mamp"
    assert config["origin"]["imported"]["file"] == "a.pth"
    assert len(config["origin"]["imported"]["sha256"]) == 64
    assert (config["augment"]["frames"], config["layout"]["name"]) == (12, "ntu25")
    assert "a.pth" in (tmp_path / "mamp" / "README.md").read_text()


def test_stars_leaves_its_heads_out_and_says_what_it_assumes(tmp_path: Path) -> None:
    tensors = mamp_tensors(decoder=False)
    saved = {f"encoder_student.{name}": tensor for name, tensor in tensors.items()}
    saved |= {"encoder_student.head.predictor.0.weight": torch.zeros(4, 4), "queue": torch.zeros(2, 3)}
    torch.save(saved, tmp_path / "a.pt")
    made = smae.import_weights(tmp_path / "a.pt", tmp_path / "out", format="stars")
    assert made.left_out == ["head.predictor.0.weight", "queue"]
    assert made.decoder is None
    assert any("attention heads: 8" in note for note in made.notes)
    x = bodies(NTU25, items=1, frames=12)
    assert close(features_of(tmp_path / "out", x)[0], mamp_encoded(f64(tensors), x[0].double().numpy()))


@pytest.mark.parametrize("known", [True, False])
def test_macdiff_normalises_its_input(tmp_path: Path, known: bool) -> None:
    tensors = mamp_tensors(decoder=False) | {"decoder_embed.proj.weight": torch.zeros(2, 3, 4, 1)}
    mean, variance = [-0.0058, -0.1333, -0.0246], [0.0206, 0.0805, 0.0218]
    model: dict[str, Any] = {}
    if known:
        mean, variance = [0.1, 0.2, 0.3], [0.04, 0.09, 0.16]
        model = {"input_mean": mean, "input_var": variance}
    path = checkpoint(tmp_path / "a.pth", tensors, **model)
    made = smae.import_weights(path, tmp_path / "out", format="macdiff")
    assert any("normalised as for NTU-60" in note for note in made.notes) == (not known)
    assert made.left_out == ["decoder_embed.proj.weight"]
    x = bodies(NTU25, items=1, frames=12)
    seen = (x[0].double().numpy() - mean) / np.sqrt(variance)
    found = features_of(tmp_path / "out", x)[0]
    assert np.abs(found - mamp_encoded(f64(tensors), seen)).max() < 2e-5


def slim_tensors() -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (DIM, 3, 8, 1), "patch_embed.proj.bias": (DIM,), "cls_token": (1, 1, DIM),
        "pos_embed": (1, 26, DIM), "register_tokens": (1, 3, DIM), "mask_token": (1, DIM),
        "norm.weight": (DIM,), "norm.bias": (DIM,),
    }  # fmt: skip
    hidden = 48  # 2 / 3 of 4 x 16, up to a multiple of 8
    for block in range(DEPTH):
        name = f"blocks.{block}"
        shapes |= {f"{name}.norm{n}.{kind}": (DIM,) for n in (1, 2) for kind in ("weight", "bias")}
        shapes |= linear_shapes(f"{name}.attn.qkv", 3 * DIM, DIM) | linear_shapes(f"{name}.attn.proj", DIM, DIM)
        shapes |= linear_shapes(f"{name}.mlp.w12", 2 * hidden, DIM) | linear_shapes(f"{name}.mlp.w3", DIM, hidden)
    return random_tensors(shapes)


def slim_encoded(weights: Weights, x: Array) -> Array:
    """The class token, three registers, then tokens, of one item's joints [T, V, C]."""
    kernel = weights["patch_embed.proj.weight"][..., 0]
    tokens = [weights["cls_token"][0, 0] + weights["pos_embed"][0, 0], *weights["register_tokens"][0]]
    times = [0.0] * len(tokens)
    for time in range(len(x) // 8):
        for joint in range(x.shape[1]):
            embedded = sum(kernel[:, :, step] @ x[time * 8 + step, joint] for step in range(8))
            place = weights["patch_embed.proj.bias"] + weights["pos_embed"][0, 1 + joint]
            tokens.append(embedded + place)
            times.append(float(time))
    state = np.stack(tokens)
    # Two numbers a head: one pair, whose angle is the time itself.
    angle = np.array(times)[:, None]
    for number in range(DEPTH):
        name = f"blocks.{number}"
        state = state + attention(weights, f"{name}.attn", layer_norm(weights, f"{name}.norm1", state, 1e-6), angle)
        both = linear(weights, f"{name}.mlp.w12", layer_norm(weights, f"{name}.norm2", state, 1e-6))
        gate, value = np.split(both, 2, axis=1)
        state = state + linear(weights, f"{name}.mlp.w3", gate / (1 + np.exp(-gate)) * value)
    return layer_norm(weights, "norm", state, 1e-6)


@pytest.mark.parametrize("kind", ["folder", "teacher"])
def test_slim_from_the_hub_and_from_a_teachers_checkpoint(tmp_path: Path, kind: str) -> None:
    tensors = slim_tensors()
    if kind == "folder":
        path = tmp_path / "ntu60_xsub"
        path.mkdir()
        save_file(tensors, path / "model.safetensors")
    else:
        path = tmp_path / "a.pth"
        named = {f"backbone.{name}": tensor for name, tensor in tensors.items()}
        torch.save({"teacher": named | {"dino_head.mlp.0.weight": torch.zeros(2, 2)}, "note": "x"}, path)
    made = smae.import_weights(path, tmp_path / "out", format="slim")
    assert made.left_out == ["dino_head.mlp.0.weight"] * (kind == "teacher")
    x = bodies(NTU25, items=2, frames=64)
    encoder = smae.load_encoder(tmp_path / "out")
    with torch.no_grad():
        whole, tokens = encoder.encode(x)
    for item in range(2):
        expected = slim_encoded(f64(tensors), x[item].double().numpy())
        assert close(whole[item].double().numpy(), expected[0])
        assert close(tokens[item].double().numpy(), expected[4:])


def sttformer_tensors() -> Tensors:
    """The published layout at an eighth of its width and one head, six frames of 20 joints."""
    joints, widths = 120, (4, 4, 8, 8, 16, 16, 16, 16)
    shapes: dict[str, tuple[int, ...]] = {"input_map.0.weight": (4, 3, 1, 1), "input_map.0.bias": (4,)}

    def norm(name: str, width: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{kind}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def convolution(name: str, outputs: int, inputs: int, kernel: tuple[int, int]) -> None:
        shapes[f"{name}.0.weight"], shapes[f"{name}.0.bias"] = (outputs, inputs, *kernel), (outputs,)
        norm(f"{name}.1", outputs)

    norm("input_map.1", 4)
    inputs = 4
    for number, outputs in enumerate(widths):
        name = f"blocks.{number}"
        shapes[f"{name}.pes.pe"] = (1, inputs, 1, joints)
        shapes[f"{name}.to_qkvs.weight"] = (2 * (outputs // 4), inputs, 1, 1)
        shapes[f"{name}.to_qkvs.bias"] = (2 * (outputs // 4),)
        shapes[f"{name}.alphas"], shapes[f"{name}.att0s"] = (1, 1, 1, 1), (1, 1, joints, joints)
        convolution(f"{name}.out_nets", outputs, inputs, (1, 5))
        convolution(f"{name}.ff_net", outputs, outputs, (1, 1))
        convolution(f"{name}.out_nett", outputs, outputs, (3, 1))
        if inputs != outputs:
            convolution(f"{name}.ress", outputs, inputs, (1, 1))
            convolution(f"{name}.rest", outputs, outputs, (1, 1))
        inputs = outputs
    return random_tensors(shapes | linear_shapes("fc", 60, 16))


def test_sttformer(tmp_path: Path) -> None:
    tensors = sttformer_tensors()
    torch.save(tensors, tmp_path / "a.pt")
    made = smae.import_weights(tmp_path / "a.pt", tmp_path / "out", format="sttformer", frames=6)
    assert made.encoder == {"name": "sttformer", "dim": 16, "heads": 1, "patch": 6, "drop_path": 0.0, "leave_out": True}
    assert made.left_out == [*(f"blocks.{number}.pes.pe" for number in range(8)), "fc.bias", "fc.weight"]
    assert any("mask_token is 0" in note for note in made.notes)
    weights = f64(tensors)
    for name in [name for name in weights if name.endswith(("alphas", "att0s"))]:
        weights[name] = weights[name].reshape(-1) if name.endswith("alphas") else weights[name][0]
    x = bodies(TWENTY, items=1, frames=6)
    state = np.zeros((1, 120, 4))
    for step in range(6):
        for joint in range(20):
            raw = weights["input_map.0.weight"][:, :, 0, 0] @ x[0, step, joint].double().numpy()
            mapped = sttformer.batch_norm(weights, "input_map.1", raw + weights["input_map.0.bias"])
            state[0, step * 20 + joint] = sttformer.leaky(mapped)
    for number in range(8):
        state = sttformer.block(weights, f"blocks.{number}", state)
    expected = state.reshape(6, 20, 16).mean(0)
    assert close(features_of(tmp_path / "out", x)[0], expected)


def ctrgcn_tensors(*, bodies_of: int = 2) -> Tensors:
    """The published layout at an eighth of its width, 20 joints."""
    widths, shapes = (8, 8, 8, 8, 16, 16, 16, 32, 32, 32), dict[str, tuple[int, ...]]()

    def norm(name: str, width: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{kind}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def conv(name: str, outputs: int, inputs: int, kernel: int = 1) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs, kernel, 1), (outputs,)

    norm("data_bn", bodies_of * 60)
    inputs = 3
    for number, outputs in enumerate(widths, 1):
        name, relations, branch = f"l{number}", 8 if inputs == 3 else inputs // 8, outputs // 4
        shapes[f"{name}.gcn1.PA"], shapes[f"{name}.gcn1.alpha"] = (3, 20, 20), (1,)
        for kind in range(3):
            for part, sizes in enumerate(
                ((relations, inputs), (relations, inputs), (outputs, inputs), (outputs, relations)), 1
            ):
                conv(f"{name}.gcn1.convs.{kind}.conv{part}", *sizes)
        norm(f"{name}.gcn1.bn", outputs)
        if inputs != outputs:
            conv(f"{name}.gcn1.down.0", outputs, inputs)
            norm(f"{name}.gcn1.down.1", outputs)
        for one in range(4):
            conv(f"{name}.tcn1.branches.{one}.0", branch, outputs)
            norm(f"{name}.tcn1.branches.{one}.1", branch)
            if one < 2:
                conv(f"{name}.tcn1.branches.{one}.3.conv", branch, branch, 5)
                norm(f"{name}.tcn1.branches.{one}.3.bn", branch)
        norm(f"{name}.tcn1.branches.2.4", branch)
        if inputs != outputs and number > 1:
            conv(f"{name}.residual.conv", outputs, inputs)
            norm(f"{name}.residual.bn", outputs)
        inputs = outputs
    return random_tensors(shapes | linear_shapes("fc", 10, 32))


@pytest.mark.parametrize("bodies_of", [1, 2])
def test_ctrgcn_of_one_body_and_of_two(tmp_path: Path, bodies_of: int) -> None:
    tensors = ctrgcn_tensors(bodies_of=bodies_of)
    torch.save(tensors, tmp_path / "a.pt")
    made = smae.import_weights(tmp_path / "a.pt", tmp_path / "out", format="ctrgcn")
    assert (made.encoder["dim"], made.left_out) == (32, ["fc.bias", "fc.weight"])
    assert read_weights(tmp_path / "out").config.augment.frames == 52, "as published for 20 joints"
    made = smae.import_weights(tmp_path / "a.pt", tmp_path / "out", format="ctrgcn", frames=8, overwrite=True)
    weights = f64(tensors)
    for name in [name for name in weights if name.startswith("data_bn.") and weights[name].ndim]:
        weights[name] = weights[name][:60]
    x = bodies(TWENTY, items=1, frames=8)
    expected = ctrgcn.encode(weights, x[0].double().numpy())
    assert close(features_of(tmp_path / "out", x)[0], expected.reshape(40, 32))


def changed(**changes: Any) -> Tensors:
    tensors: dict[str, Any] = dict(mamp_tensors(decoder=False))
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (changed(blocks__1__attn__proj__bias=None), r"missing tensors: blocks\.1\.attn\.proj\.bias$"),
        (changed(extra__weight=torch.zeros(2)), r"unknown tensors: extra\.weight$"),
        (changed(norm__weight=torch.zeros(5)), r"another shape: norm\.weight \[5\], which should make norm\.weight"),
        (changed(blocks__0__attn__qkv__bias=torch.zeros(16)), r"attn\.qkv\.bias \[16\], which should make"),
        (changed(temp_embed=None), r"expected a tensor 'temp_embed' of 4 dimensions, found none"),
        (changed(temp_embed=torch.zeros(3, 16)), r"'temp_embed' of 4 dimensions, found \[3, 16\]"),
        (changed(pos_embed=torch.zeros(1, 1, 17, 16)), r"17 joints, where smae knows layouts of 25 \(ntu25\) and 20"),
        (changed(blocks__9999__norm1__weight=torch.zeros(16)), r"encoder\.depth: input should be less than or equal"),
        (changed(norm__weight=torch.zeros(1).expand(10**13)), "'norm.weight' is no plain tensor"),
        (changed(norm__weight=torch.zeros(16).to_sparse()), "'norm.weight' is no plain tensor|not a file of tensors"),
        (changed(norm__weight="w"), "expected tensors by name, found 'norm.weight': str"),
        (changed(norm__weight=torch.full((16,), float("nan"))), "norm.weight: not finite"),
        (changed(norm__weight=torch.ones(16, dtype=torch.complex64)), "'norm.weight' is no plain tensor"),
        (changed(temp_embed=torch.zeros(1, 2000, 1, 16)), r"augment\.frames: input should be less than .* found 8000"),
        (changed(joints_embed__proj__weight=torch.zeros(0, 3, 4, 1)), r"of 4 dimensions, found \[0, 3, 4, 1\]"),
        ({}, "expected tensors by name, found dict"),
        ([1, 2], "expected tensors by name, found list"),
        (slim_tensors(), "expected a tensor 'joints_embed.proj.weight'"),
    ],
)  # fmt: skip
def test_other_tensors_are_named(tmp_path: Path, tensors: Any, message: str) -> None:
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(DataError, match=message):
        smae.import_weights(tmp_path / "a.pth", tmp_path / "out", format="mamp")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("format", "tensors", "model", "message"),
    [
        ("macdiff", mamp_tensors(decoder=False), {"input_mean": [10**400, 0, 0]}, "expected 3 numbers"),
        ("macdiff", mamp_tensors(decoder=False), {"input_var": [0, 1, 1]}, "the latter above 0"),
        ("macdiff", changed(joints_embed__proj__weight=torch.zeros(16, 2, 4, 1)), {}, r"another shape: joints_embed"),
        ("slim", slim_tensors() | {"cls_token": torch.zeros(1, 1, 5)}, {}, r"another shape: cls_token \[1, 1, 5\]"),
    ],
)
def test_tensors_that_are_changed_first_are_named_too(
    tmp_path: Path, format: str, tensors: Tensors, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        smae.import_weights(checkpoint(tmp_path / "a.pth", tensors, **model), tmp_path / "out", format=format)


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, hit: Path) -> None:
        self.hit = hit

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.hit,)


def hostile(folder: Path, kind: str) -> Path:
    path, hit = folder / "a.pth", folder / "hit"
    if kind == "bomb":
        torch.save({"model": mamp_tensors(), "args": Bomb(hit)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"model": Bomb(hit)}))
    elif kind == "old":
        torch.save(mamp_tensors(), path, _use_new_zipfile_serialization=False)
    elif kind == "compressed":
        torch.save(mamp_tensors(), folder / "b.pth")
        with zipfile.ZipFile(folder / "b.pth") as read, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
            for name in read.namelist():
                written.writestr(name, read.read(name))
    elif kind == "cut":
        torch.save(mamp_tensors(), path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "text":
        path.write_text("<html>sign in to download</html>")
    elif kind == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bomb", "not a file of tensors alone"),
        ("pickle", "before version 1.6, which is not read"),
        ("old", "before version 1.6, which is not read"),
        ("compressed", "it is compressed, as torch never writes"),
        ("cut", "not a file of"),
        ("text", "not a file of weights"),
        ("empty", "not a file of weights"),
        ("missing", "no such file: give a checkpoint, or its folder"),
    ],
)
def test_hostile_and_broken_files_are_refused_and_nothing_runs(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        smae.import_weights(hostile(tmp_path, kind), tmp_path / "out", format="mamp")
    assert not (tmp_path / "hit").exists()
    assert not (tmp_path / "out").exists()


def test_unknown_formats_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pth", mamp_tensors())
    with pytest.raises(UnknownNameError, match=r"--format mampp: expected one of mamp, .*did you mean"):
        smae.import_weights(path, tmp_path / "out", format="mampp")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not an exported encoder"):
        smae.import_weights(path, tmp_path / "mine", format="mamp", overwrite=True)
    for frames in (10, 0, -4):
        with pytest.raises(ConfigError, match="frames"):
            smae.import_weights(path, tmp_path / "out", format="mamp", frames=frames)


def test_positions_are_resized_for_clips_of_another_length(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pth", mamp_tensors())
    made = smae.import_weights(path, tmp_path / "out", format="mamp", frames=24)
    assert "for clips of 24 frames, where it was trained on 12" in made.notes
    there = mamp_tensors()["temp_embed"][0, :, 0].double().numpy()
    here = load_file(tmp_path / "out" / "model.safetensors")["pos_embed.time"].double().numpy()
    for place in range(6):
        at = min(2.0, max(0.0, (place + 0.5) / 2 - 0.5))
        low, share = int(at), at - int(at)
        expected = there[low] * (1 - share) + there[min(2, low + 1)] * share
        assert np.abs(here[place] - expected).max() < 1e-6
    assert smae.load_encoder(tmp_path / "out", frames=24).grid.times == 6


def test_pre_training_starts_from_the_encoder_and_the_decoder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = checkpoint(tmp_path / "a.pth", mamp_tensors())
    smae.import_weights(path, tmp_path / "mamp", format="mamp")
    weights, decoder = encoder_weights(tmp_path / "mamp"), decoder_weights(tmp_path / "mamp")
    size = {"dim": 16, "heads": 8, "mlp": 2.0}
    config = small_config(
        encoder={"name": "vit", **size, "depth": 2, "patch": 4}, decoder={"name": "self", **size, "depth": 1},
        augment={"frames": 24},
    )  # fmt: skip
    caplog.set_level("INFO", logger="smae")
    made = build_objective(config, NTU25, weights=weights, decoder_weights=decoder)
    assert torch.equal(made.encoder.state_dict()["embed.weight"], weights["embed.weight"])
    assert decoder is not None
    assert torch.equal(made.decoder.state_dict()["head.weight"], decoder["head.weight"])  # type: ignore[union-attr]
    expected = resize_positions(made.encoder, weights)["pos_embed.time"]
    assert torch.equal(made.encoder.state_dict()["pos_embed.time"], expected)
    assert "resized from 3 to 6 patches" in caplog.text
    assert "the decoder starts from the imported weights too" in caplog.text
    deeper = small_config(encoder={"name": "vit", **size, "depth": 2, "patch": 4}, decoder={"name": "self", "depth": 2})
    build_objective(deeper, NTU25, weights=weights, decoder_weights=decoder)
    assert "the decoder starts anew: the imported one is of another size" in caplog.text
    data = (tmp_path / "mamp" / "decoder.safetensors").read_bytes()
    (tmp_path / "mamp" / "decoder.safetensors").write_bytes(data[:-1] + b"x")
    with pytest.raises(DataError, match="contents differ from the SHA-256"):
        decoder_weights(tmp_path / "mamp")


def test_an_imported_encoder_is_evaluated_and_pre_trained_on(tmp_path: Path) -> None:
    from smae_cli.main import run

    data, out = str(tmp_path / "ntu.zarr"), str(tmp_path / "mamp")
    path = checkpoint(tmp_path / "a.pth", mamp_tensors())
    raw = ["synth", str(tmp_path / "ntu"), "--actions", "2", "--subjects", "4", "--cameras", "1"]
    assert run(raw) == run(["prepare", "--raw", str(tmp_path / "ntu"), "--out", data, "--executor", "inline"]) == 0
    assert run(["import-weights", str(path), "--format", "mamp", "--out", out]) == 0
    brief = ["--set", "linear.epochs=1", "--set", "linear.views=1", "--device", "cpu"]
    assert run(["eval", "--encoder", out, "--data", data, "--probe", "linear", *brief]) == 0
    records = list((tmp_path / "mamp" / "eval").glob("*.json"))
    assert len(records) == 1
    sets = [
        "encoder.dim=16", "encoder.depth=2", "encoder.heads=8", "encoder.mlp=2.0", "encoder.patch=4",
        "augment.frames=24", "train.max_steps=1", "train.batch=8", "decoder.dim=16", "decoder.depth=1",
    ]  # fmt: skip
    words = [word for text in sets for word in ("--set", text)]
    start = ["pretrain", "--data", data, "--out", str(tmp_path / "run"), "--recipe", "skeletonmae-cpu", "--init", out]
    assert run([*start, *words, "--device", "cpu"]) == 0
