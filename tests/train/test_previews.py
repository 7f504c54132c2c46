"""What an objective shows of a clip: three panels that agree with each other and with what it hides."""

from __future__ import annotations

import numpy as np
import pytest

from smae.data.preparing.prepare import prepare
from smae.data.storage.store import open_store
from smae.drawing.scene import ABSENT, HIDDEN, REBUILT, TRACKED
from smae.errors import DataError
from smae.train.build import build_objective
from smae.train.previews import scene_of_preview
from tests.data import raw_folder
from tests.train.small import small_config


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("previews")
    raw = raw_folder.write_folder(folder / "ntu", raw_folder.files(2, frames=20, bodies=2))
    prepare(raw, folder / "ntu.zarr", executor="inline")
    return open_store(folder / "ntu.zarr")


def test_the_panels_are_original_masked_and_filled_in(store):
    config = small_config()
    made = scene_of_preview(build_objective(config, store.layout), store, config, index=1)
    original, masked, filled = made.panels
    assert [panel.title for panel in made.panels] == ["original", "masked", "filled in"]
    assert made.name == store.clips.name[1]
    assert not made.real_time
    hidden = masked.kind == HIDDEN
    assert set(np.unique(original.kind)) <= {TRACKED, ABSENT}
    assert 0.5 < hidden.sum() / (original.kind == TRACKED).sum() < 0.9
    np.testing.assert_array_equal(filled.kind == REBUILT, hidden)
    np.testing.assert_array_equal(filled.joints[filled.kind == TRACKED], original.joints[filled.kind == TRACKED])
    assert not np.array_equal(filled.joints[hidden], original.joints[hidden])
    assert filled.ghost == 0


def test_an_objective_that_predicts_motion_has_nothing_to_show(store):
    config = small_config(objective={"name": "mamp"})
    with pytest.raises(DataError, match="'mamp' rebuilds nothing"):
        scene_of_preview(build_objective(config, store.layout), store, config, index=0)
