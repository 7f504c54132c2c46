"""Device and models from settings."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from smae.errors import ConfigError, EnvironmentFault
from smae.models.encoders import Encoder
from smae.models.transformer import CompiledBlock
from smae.skeleton import Layout
from smae.train.config import RunConfig
from smae.train.objectives import ModelBuilder, Objective, objectives

T = TypeVar("T")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA where available, else the CPU.

    For the CPU, memory that is freed is kept from now on; see ``keep_freed_memory``.
    Under torchrun, ``auto`` and ``cuda`` are the GPU of this process's local rank.

    Raises:
        ConfigError: no such kind of device.
        EnvironmentFault: CUDA is asked for and not available; there is no fallback to the CPU.
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
            f"--device {name}: this torch ({torch.__version__}) sees {torch.cuda.device_count()} "
            "CUDA devices. Use --device cpu, or install a CUDA build of torch and check the driver"
        )
    if device.index is not None:
        torch.cuda.set_device(device)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory() -> None:
    """Make glibc's allocator keep what is freed for the next tensor, up to the largest use so far.

    By default large tensors go back to the system when they are freed, and each page of the next
    one is mapped and zeroed anew: of bf16 attention over 750 tokens that was more than half of the
    time. Other systems are left as they are.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def has_native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 natively rather than by emulation in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine() in ("x86_64", "AMD64"):
        # Asked of the processor: oneDNN takes bf16 on any that has AVX-512, and turns it into float32 first.
        asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Return whether ``train.precision`` means bfloat16 on a device; ``auto`` does where it is native."""
    return precision == "bf16" or (precision == "auto" and has_native_bf16(device))


@contextmanager
def deterministic_kernels(device: torch.device) -> Iterator[None]:
    """Choose deterministic kernels on a GPU; on the CPU all of ours are."""
    if device.type != "cuda":
        yield
        return
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    # cuBLAS is deterministic only with a workspace per stream; it reads this when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


def compile_blocks(objective: nn.Module) -> None:
    """Compile an objective's transformer blocks in place with ``torch.compile``."""
    # Blocks rather than the whole model: they are alike, so one compilation serves all of them, and
    # random masking stays outside. Shapes are dynamic because the number of bodies changes from
    # step to step; CUDA graphs, which need a fixed one, do not pay.
    for module in objective.modules():
        if isinstance(module, CompiledBlock):
            module.compile(dynamic=True)


def model_builder(config: RunConfig, layout: Layout) -> ModelBuilder:
    """Return what objectives build encoder, decoder and masking with."""
    return ModelBuilder(layout, config.augment.frames, config.encoder, config.decoder, config.masking)


def build_objective(
    config: RunConfig,
    layout: Layout,
    *,
    weights: dict[str, Tensor] | None = None,
    decoder_weights: dict[str, Tensor] | None = None,
) -> Objective:
    """Return a newly initialised objective; its weights follow from the seed and ``weights``.

    Args:
        config: the run's settings.
        layout: joints of its clips.
        weights: by name, what the encoder, and a teacher made from it, start from.
        decoder_weights: what a decoder of their size starts from.

    Raises:
        DataError: ``weights`` do not fit the encoder.
    """
    torch.manual_seed(config.seed)
    builder = model_builder(config, layout)
    builder = replace(builder, weights=weights, decoder_weights=decoder_weights)
    return objectives.get(config.objective.name)(config.objective, builder)


def outline(build: Callable[[], T]) -> T:
    """Return what ``build`` makes, its weights without memory, to check its size first.

    A plug-in that cannot be built without memory is built as it is.
    """
    with suppress(NotImplementedError, RuntimeError, TypeError), torch.device("meta"):
        return build()
    return build()


def random_encoder(config: RunConfig, layout: Layout) -> Encoder:
    """Return the encoder with other random weights, the baseline of every result."""
    torch.manual_seed(config.seed + 1)
    return model_builder(config, layout).encoder()
