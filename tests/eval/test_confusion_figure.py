"""The confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import image as images

from smae.eval.confusion_figure import draw_confusion

MATRIX = np.array([[3, 1], [0, 4]])


def draw(path: Path) -> None:
    draw_confusion(MATRIX, classes=["A001", "A002"], title="two of them", path=path)


def test_a_confusion_matrix_shows_shares_of_each_true_class(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    picture = images.imread(tmp_path / "a.png")
    assert picture.shape[0] == picture.shape[1] == 480
    # Blues: the darkest is the share 1, of the lower right corner; white a share of 0.
    assert {tuple(np.round(255 * pixel).astype(int)) for pixel in picture[::4, ::4, :3].reshape(-1, 3)} >= {
        (8, 48, 107), (247, 251, 255),
    }  # fmt: skip
