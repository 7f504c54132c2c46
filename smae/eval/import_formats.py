"""Formats of published checkpoints: maps of our names of weights to theirs.

Read from the public repositories of MAMP, MacDiff, SLiM, STTFormer and CTR-GCN; STARS has MAMP's
encoder. Where one of our tensors is made of several of theirs, ``import_weights`` does so first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smae.errors import DataError

Tensors = dict[str, Tensor]
Settings = dict[str, Any]
Rules = tuple[tuple[str, Any], ...]
HEADS = 8
"""Attention heads of MAMP, MacDiff, STARS and SLiM: no tensor shows their number."""


@dataclass(frozen=True)
class Format:
    """A family of published checkpoints.

    Attributes:
        describe: its tensors -> settings of the encoder, number of joints, and of frames.
        names: (pattern of our name, its name): the first that matches the start; without, equal.
        take: (pattern of our name, map of its tensor to ours).
        left_out: pattern of its names that are no part of an encoder.
        absent: pattern of our names that it does not have: 0.
        block: how it calls a block, from its number.
        min_frames: of a crop in training.
        note: a remark for people.
    """

    describe: Callable[[Tensors], tuple[Settings, int, int]]
    names: Rules
    take: Rules
    left_out: str
    absent: str = "$^"
    block: Callable[[int], str] = "blocks.{}.".format
    min_frames: int = 64
    note: str = ""


def _third(first: int, last: int) -> Callable[[Tensor], Tensor]:
    """Return the map of the rows of queries, keys and values to some of these three."""
    return lambda x: x[first * len(x) // 3 : last * len(x) // 3]


def _patches(x: Tensor) -> Tensor:
    """Return the map [D, T * C] of a token's numbers, of a convolution [D, C, T, 1]."""
    return x.permute(0, 2, 1, 3).flatten(1)


def shape_of(tensors: Tensors, name: str, dims: int) -> tuple[int, ...]:
    """Return the shape of a tensor of ``dims`` dimensions, none of them empty.

    Raises:
        DataError: there is none.
    """
    if name not in tensors or tensors[name].ndim != dims or 0 in tensors[name].shape:
        found = list(tensors[name].shape) if name in tensors else "none"
        raise DataError(f"expected a tensor '{name}' of {dims} dimensions, found {found}")
    return tuple(tensors[name].shape)


def depth_of(tensors: Tensors, prefix: str) -> int:
    """Return the number of blocks, whose names are ``prefix`` and a number."""
    numbers = [re.match(rf"{prefix}\.(\d{{1,4}})\.", name) for name in tensors]
    return 1 + max((int(found[1]) for found in numbers if found), default=-1)


def _describe_vit(tensors: Tensors) -> tuple[Settings, int, int]:
    dim, _, patch, _ = shape_of(tensors, "joints_embed.proj.weight", 4)
    hidden = shape_of(tensors, "blocks.0.mlp.fc1.weight", 2)[0]
    times, joints = shape_of(tensors, "temp_embed", 4)[1], shape_of(tensors, "pos_embed", 4)[2]
    size = {"dim": dim, "depth": depth_of(tensors, "blocks"), "heads": HEADS, "mlp": hidden / dim}
    return {"name": "vit", **size, "patch": patch}, joints, times * patch


def _describe_slim(tensors: Tensors) -> tuple[Settings, int, int]:
    dim, _, patch, _ = shape_of(tensors, "patch_embed.proj.weight", 4)
    size = {"dim": dim, "depth": depth_of(tensors, "blocks"), "heads": HEADS, "patch": patch}
    size["registers"] = shape_of(tensors, "register_tokens", 3)[1]
    return {"name": "slim", **size}, shape_of(tensors, "pos_embed", 3)[1] - 1, 64


def _describe_sttformer(tensors: Tensors) -> tuple[Settings, int, int]:
    heads, joints = shape_of(tensors, "blocks.0.att0s", 4)[1:3]
    dim, patch = shape_of(tensors, "blocks.7.ff_net.0.weight", 4)[0], 6
    return {"name": "sttformer", "dim": dim, "heads": heads, "patch": patch}, joints // patch, 120


def _describe_ctrgcn(tensors: Tensors) -> tuple[Settings, int, int]:
    joints = shape_of(tensors, "l1.gcn1.PA", 3)[1]
    # Published for 64 frames, and for 52 on NW-UCLA's 20 joints.
    frames = 52 if joints == 20 else 64
    return {"name": "ctrgcn", "dim": shape_of(tensors, "l10.gcn1.bn.weight", 1)[0]}, joints, frames


_BLOCK: Rules = (
    (r"norm_attention\.", "norm1."),
    (r"norm_mlp\.", "norm2."),
    (r"attention\.(query|key_value)\.", "attn.qkv."),
    (r"attention\.proj\.", "attn.proj."),
    (r"mlp\.0\.", "mlp.fc1."),
    (r"mlp\.2\.", "mlp.fc2."),
    (r"mlp\.gate_value\.", "mlp.w12."),
    (r"mlp\.proj\.", "mlp.w3."),
)
_TAKE: Rules = (
    (r"pos_embed\.", lambda x: x.flatten(0, -2)),
    (r"attention\.query\.", _third(0, 1)),
    (r"attention\.key_value\.", _third(1, 3)),
)
_VIT: dict[str, Any] = {
    "describe": _describe_vit,
    "names": (
        (r"embed\.", "joints_embed.proj."),
        (r"pos_embed\.time$", "temp_embed"),
        (r"pos_embed\.joint$", "pos_embed"),
        *_BLOCK,
    ),
    "take": ((r"embed\.weight$", _patches), *_TAKE),
}
DECODER = Format(
    _describe_vit,
    names=(
        (r"embed\.", "decoder_embed."),
        (r"pos_embed\.time$", "decoder_temp_embed"),
        (r"pos_embed\.joint$", "decoder_pos_embed"),
        (r"norm\.", "decoder_norm."),
        (r"head\.", "decoder_pred."),
        *_BLOCK,
    ),
    take=((r"mask_token$", torch.flatten), *_TAKE),
    left_out="",
    block="decoder_blocks.{}.".format,
)
FORMATS: dict[str, Format] = {
    "mamp": Format(**_VIT, left_out=r"head\."),
    "macdiff": Format(**_VIT, left_out=r"(decoder_|head\.)"),
    "stars": Format(**_VIT, left_out=r"(?!joints_embed\.|blocks\.|norm\.|(temp|pos)_embed$|decoder_)"),
    "slim": Format(
        _describe_slim,
        names=(
            (r"embed\.", "patch_embed.proj."),
            ("class_token$", "cls_token"),
            ("registers$", "register_tokens"),
            ("joint_embed$", "pos_embed"),
            *_BLOCK,
        ),
        take=(
            (r"embed\.weight$", _patches),
            ("(class|mask)_token$", torch.flatten),
            ("registers$", lambda x: x[0]),
            ("joint_embed$", lambda x: x[0, 1:]),
            *_TAKE,
        ),
        left_out=r"(dino_head|ibot_head)\.",
        min_frames=16,
        note="its published linear figures read class tokens: --set linear.pool=class",
    ),
    "sttformer": Format(
        _describe_sttformer,
        names=(
            (r"embed\.", "input_map."),
            (r"query_key\.", "to_qkvs."),
            ("alpha$", "alphas"),
            ("attention_bias$", "att0s"),
            (r"proj\.", "out_nets."),
            (r"feed_forward\.", "ff_net."),
            (r"temporal\.", "out_nett."),
            (r"shortcut\.", "ress."),
            (r"temporal_shortcut\.", "rest."),
        ),
        take=(
            (r"embed\.0\.weight$", lambda x: x.flatten(2)),
            ("alpha$", torch.flatten),
            ("attention_bias$", lambda x: x[0]),
        ),
        left_out=r"(fc\.|blocks\.\d+\.pes\.pe$)",
        absent="mask_token$",
        note="it never hid a joint: its mask_token is 0",
    ),
    "ctrgcn": Format(
        _describe_ctrgcn,
        names=(
            (r"norm\.", "data_bn."),
            (r"graph_shortcut\.", "gcn1.down."),
            (r"shortcut\.0\.", "residual.conv."),
            (r"shortcut\.1\.", "residual.bn."),
            ("graph$", "gcn1.PA"),
            ("alpha$", "gcn1.alpha"),
            (r"norm_graph\.", "gcn1.bn."),
            (r"convs\.(\d)\.query\.", r"gcn1.convs.\1.conv1."),
            (r"convs\.(\d)\.key\.", r"gcn1.convs.\1.conv2."),
            (r"convs\.(\d)\.value\.", r"gcn1.convs.\1.conv3."),
            (r"convs\.(\d)\.refine\.", r"gcn1.convs.\1.conv4."),
            (r"branches\.([01])\.0\.", r"tcn1.branches.\1."),
            (r"branches\.([01])\.2\.0\.", r"tcn1.branches.\1.3.conv."),
            (r"branches\.([01])\.2\.1\.", r"tcn1.branches.\1.3.bn."),
            (r"branches\.2\.0\.", "tcn1.branches.2."),
            (r"branches\.2\.3\.", "tcn1.branches.2.4."),
            (r"branches\.3\.", "tcn1.branches.3."),
        ),
        take=(),
        left_out=r"fc\.",
        absent="mask_token$",
        block=lambda number: f"l{number + 1}.",
        note="it never hid a joint: its mask_token is 0. The statistics of its input are those of "
        "the first body, which smae takes for both",
    ),
}
"""Name -> format, as ``--format`` names it."""
