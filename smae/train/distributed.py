"""Where a process trains: its device, its rank under torchrun, and reductions over all ranks."""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from smae import progress
from smae.errors import ConfigError, EnvironmentFault

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


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train together.

    Attributes:
        rank: 0-based number of this process.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls) -> DistributedContext:
        """Return rank and world size as set by torchrun; without it, those of a single process."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes files, logs and reports progress."""
        return self.rank == 0

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all ranks in place and return it; on a GPU the host does not wait."""
        if self.world_size > 1:
            distributed.all_reduce(values)
        return values

    def all_reduce_max(self, number: int) -> int:
        """Return the maximum over all ranks; they wait for one another."""
        if self.world_size == 1:
            return number
        shared = torch.tensor(number)
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return int(shared)


class _Gather(torch.autograd.Function):
    """All ranks' tensors of one shape, stacked; the gradient of each is summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        every = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, values)
        return torch.stack(every)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        distributed.all_reduce(summed)
        return summed[distributed.get_rank()]


def gather_ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values [V, B, D] of all ranks as [V, M, D], and int64 [B], where this rank's are in M.

    Gradients flow back to the rank that a value is from. Ranks may have different numbers B.
    """
    clips = values.shape[1]
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return values, torch.arange(clips, device=values.device)
    counts = [torch.zeros((), dtype=torch.long, device=values.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor(clips, device=values.device))
    sizes = [int(count) for count in counts]
    padded = torch.cat([values, values.new_zeros(values.shape[0], max(sizes) - clips, values.shape[2])], 1)
    every = _Gather.apply(padded.contiguous()).unbind()  # type: ignore[no-untyped-call]
    before = sum(sizes[: distributed.get_rank()])
    own = before + torch.arange(clips, device=values.device)
    return torch.cat([part[:, :size] for part, size in zip(every, sizes, strict=True)], 1), own


def relative_share(count: int, other: int, device: torch.device) -> Tensor:
    """Return this rank's share of all ranks' ``count``, over its share of their ``other``: 1 in one process."""
    mine = torch.tensor([count, other], dtype=torch.float64, device=device)
    every = mine.clone()
    if distributed.is_initialized():
        distributed.all_reduce(every)
    share, of_other = (mine / every).unbind()
    return (share / of_other).float()


SINGLE_PROCESS = DistributedContext()


@contextmanager
def process_group() -> Iterator[DistributedContext]:
    """Join the process group of torchrun, if any; only rank 0 logs and reports progress."""
    dist = DistributedContext.from_environment()
    if dist.world_size == 1:
        yield dist
        return
    # DistributedDataParallel imports this module, whose functions keep the group of the moment as their
    # default: imported before there is one, so that the group's threads end with it. A thread left to the
    # interpreter's end can abort the process there.
    importlib.import_module("torch.distributed.nn.functional")
    # Two backends: NCCL reduces gradients on GPUs, Gloo the flags and counts on the CPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    logger = logging.getLogger("smae")
    level = logger.level
    try:
        if dist.is_main:
            yield dist
        else:
            logger.setLevel(logging.CRITICAL)
            with progress.reporting(None):
                yield dist
    finally:
        logger.setLevel(level)
        gc.collect()  # DistributedDataParallel is in a cycle of references, and holds the group
        distributed.destroy_process_group()
