"""From settings to live parts: device, objective, encoders."""

from __future__ import annotations

import torch

from smae.errors import ConfigError, EnvironmentFault
from smae.models.encoders import Encoder
from smae.skeleton import Layout
from smae.train.config import RunConfig
from smae.train.objectives import Objective, Workshop, objectives


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: no such kind of device.
        EnvironmentFault: CUDA is asked for and not there. The CPU is never taken silently in its place.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    return device


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
