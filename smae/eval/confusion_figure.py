"""Pictures by matplotlib: the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def draw_confusion(matrix: NDArray[np.int64], *, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix [K, K] (true class down, predicted across), each row as shares, to a PNG."""
    from matplotlib.figure import Figure

    share = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    size = max(4.0, 0.28 * len(classes) + 2)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=90, fontsize=7)
    axes.set_yticks(ticks, classes, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if len(classes) <= 20:
        for row, column in np.argwhere(matrix > 0):
            shade = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    figure.savefig(path, dpi=120)
