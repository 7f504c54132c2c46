"""What an objective shows of a clip: three panels that agree with each other and with what it hides."""

from __future__ import annotations

import numpy as np
import pytest

from smae.data.loader.loader import Loader
from smae.data.prepare.run import prepare
from smae.data.store.store import open_store
from smae.errors import DataError
from smae.train.build import build_objective
from smae.viz.reconstruction import rebuild, scene_of_preview
from smae.viz.scene import ABSENT, HIDDEN, REBUILT, TRACKED
from tests.data import raw_folder
from tests.train.small import CPU, small_config


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
    with pytest.raises(DataError, match="'mamp' on the joint stream rebuilds nothing"):
        scene_of_preview(build_objective(config, store.layout), store, config, index=0)


@pytest.mark.parametrize("stream", ["bone", "motion"])
def test_streams_without_places_have_nothing_to_show(store, stream):
    config = small_config(augment={"stream": stream})
    with pytest.raises(DataError, match=f"on the {stream} stream rebuilds nothing"):
        scene_of_preview(build_objective(config, store.layout), store, config, index=0)


def test_relative_joints_are_shown_where_they_are(store):
    plain, config = small_config(), small_config(augment={"stream": "relative"})
    objective = build_objective(config, store.layout)
    wanted = scene_of_preview(build_objective(plain, store.layout), store, plain, index=1).panels[0].joints
    [made] = rebuild(objective, store, config, clips=np.array([1]))
    np.testing.assert_allclose(made.original, wanted, atol=1e-6)
    loader = Loader(store, np.array([1]), augment=config.augment, batch=1, seed=0, train=False, device=CPU)
    batch = next(loader.epoch(0))
    away = made.filled - objective.preview(batch, batch.noise(config.seed)).rebuilt.numpy()
    centre = store.layout.centre
    assert not away[..., centre, :].any()
    np.testing.assert_allclose(np.delete(away, centre, -2), wanted[..., [centre] * 24, :], atol=1e-6)
