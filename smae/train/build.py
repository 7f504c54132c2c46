"""From settings to live parts: device, objective, encoders."""

from __future__ import annotations

import os

import torch
from torch import nn

from smae.errors import ConfigError, EnvironmentFault
from smae.models.encoders import Encoder
from smae.models.transformer import Block
from smae.skeleton import Layout
from smae.train.config import RunConfig
from smae.train.objectives import Objective, Workshop, objectives


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Under torchrun, ``auto`` and ``cuda`` are the GPU of this process's local rank.

    Raises:
        ConfigError: no such kind of device.
        EnvironmentFault: CUDA is asked for and not there. The CPU is never taken silently in its place.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentFault(
            f"--device {name}: this torch ({torch.__version__}) sees {torch.cuda.device_count()} CUDA devices. Use "
            "--device cpu, or install a CUDA build of torch and check the driver"
        )
    if device.index is not None:
        torch.cuda.set_device(device)
    return device


def fast_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 itself, rather than by way of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compile_blocks(objective: nn.Module) -> None:
    """Let torch.compile fuse what the transformer blocks of an objective do, in place.

    Blocks and not the whole: they are alike, so one compilation serves all, and what is random stays outside. The
    number of items changes from step to step, so no size is compiled in. CUDA graphs, which need one, do not pay.
    """
    for module in objective.modules():
        if isinstance(module, Block):
            module.compile(dynamic=True)


def workshop(config: RunConfig, layout: Layout) -> Workshop:
    """Return what objectives build their parts from."""
    return Workshop(layout, config.augment.frames, config.encoder, config.decoder, config.masking)


def build_objective(config: RunConfig, layout: Layout) -> Objective:
    """Return a freshly initialised objective; the seed alone decides its weights."""
    torch.manual_seed(config.seed)
    return objectives.get(config.objective.name)(config.objective, workshop(config, layout))


def random_encoder(config: RunConfig, layout: Layout) -> Encoder:
    """Return the same encoder with other random weights, the comparison that every result stands beside."""
    torch.manual_seed(config.seed + 1)
    return workshop(config, layout).encoder()
