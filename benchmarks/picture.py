"""Pictures of benchmarks: a roofline, for which bytes are counted as operators without fusion move them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Point:
    """One case in a roofline.

    Attributes:
        name: the case.
        intensity: operations for each byte moved.
        rate: operations a second.
    """

    name: str
    intensity: float
    rate: float


@dataclass(frozen=True)
class Bar:
    """One case beside a limit.

    Attributes:
        name: the case.
        rate: bytes a second.
        label: written at its end.
    """

    name: str
    rate: float
    label: str = ""


class _Counter(TorchDispatchMode):
    """Adds up the bytes of what each operator reads and writes; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def traffic(run: Callable[[], object]) -> int:
    """Return the bytes that the operators of ``run`` read and write."""
    with _Counter() as counter:
        run()
    return counter.bytes


def roofline(path: Path, points: Sequence[Point], *, peaks: Mapping[str, float], bandwidth: float, title: str) -> None:
    """Draw the points below the roof: the lower of what memory can feed and what arithmetic can do.

    Args:
        path: ``.png`` or ``.svg``.
        points: the cases.
        peaks: operations a second at most, by name.
        bandwidth: bytes a second at most.
        title: above the picture.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    ridges = [peak / bandwidth for peak in peaks.values()]
    low = min([point.intensity for point in points] + ridges) / 4
    high = max([point.intensity for point in points] + ridges) * 4
    for name, peak in peaks.items():
        axes.plot([low, peak / bandwidth, high], [low * bandwidth, peak, peak], label=f"limit: {name}")
    for point in points:
        axes.plot(point.intensity, point.rate, "o", label=point.name)
        axes.annotate(f"{point.rate / 1e9:,.0f} GFLOP/s", (point.intensity, point.rate), xytext=(6, -12),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), title=title,
             xlabel="operations for each byte moved (unfused)", ylabel="operations a second")  # fmt: skip
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
    pyplot.close(figure)


def shares(path: Path, bars: Sequence[Bar], *, limit: float, unit: str, title: str) -> None:
    """Draw each case's rate as a bar, below what the device can do.

    Args:
        path: ``.png`` or ``.svg``.
        bars: the cases, bytes a second.
        limit: bytes a second of a copy.
        unit: of rates in GB/s, in words.
        title: above the picture.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.3 * len(bars)), layout="constrained")
    drawn = axes.barh([bar.name for bar in bars], [bar.rate / 1e9 for bar in bars], label="measured")
    axes.bar_label(drawn, [bar.label for bar in bars], padding=3, fontsize=8)
    axes.axvline(limit / 1e9, color="black", label="limit: a copy")
    # From zero, so that lengths compare.
    axes.set(xlim=(0, 1.05 * limit / 1e9), xlabel=unit, title=title)
    axes.invert_yaxis()
    axes.legend(fontsize=8, loc="upper right", bbox_to_anchor=(0.94, 0.45))
    figure.savefig(path)
    pyplot.close(figure)
