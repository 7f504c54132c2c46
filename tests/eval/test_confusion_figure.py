"""Pictures: a confusion matrix is drawn whole, also when a signal comes meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as images
from matplotlib import transforms

from smae.eval.confusion_figure import draw_confusion
from smae.interrupts import Terminated, sigterm_interrupts

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


def test_a_signal_while_a_picture_is_drawn_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised in Python code that matplotlib calls from C++, it came out as a ValueError: "Invalid affine"..."""
    draw(tmp_path / "whole.png")
    before, came = transforms.Affine2DBase.__array__, []

    def array(self: transforms.Affine2DBase, *args: object, **more: object) -> object:
        if not came:
            came.append(self)
            signal.raise_signal(signal.SIGTERM)
        return before(self, *args, **more)

    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(transforms.Affine2DBase, "__array__", array)
    try:
        with pytest.raises(Terminated), sigterm_interrupts():
            draw(tmp_path / "stopped.png")
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert (tmp_path / "stopped.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
