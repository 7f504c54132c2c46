"""Masked reconstruction of clips: panels that agree with each other and with the mask."""

from __future__ import annotations

import numpy as np
import pytest

from smae.data.loader.loader import Loader
from smae.data.prepare.run import prepare
from smae.data.store import open_store
from smae.errors import DataError
from smae.train.config import build_objective
from smae.viz.reconstruction import reconstruct, scene_of_reconstruction
from smae.viz.scene import ABSENT, MASKED, RECONSTRUCTED, TRACKED
from tests.data import raw_folder
from tests.train.small import CPU, small_config


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reconstruction")
    raw = raw_folder.write_folder(folder / "ntu", raw_folder.files(2, frames=20, bodies=2))
    prepare(raw, folder / "ntu.zarr", executor="inline")
    return open_store(folder / "ntu.zarr")


def test_panels_are_original_masked_and_reconstructed(store):
    config = small_config()
    made = scene_of_reconstruction(build_objective(config, store.layout), store, config, index=1)
    original, masked, reconstructed = made.panels
    assert [panel.title for panel in made.panels] == ["original", "masked", "reconstructed"]
    assert made.name == store.clips.name[1]
    assert not made.real_time
    is_masked = masked.kind == MASKED
    assert set(np.unique(original.kind)) <= {TRACKED, ABSENT}
    assert 0.5 < is_masked.sum() / (original.kind == TRACKED).sum() < 0.9
    np.testing.assert_array_equal(reconstructed.kind == RECONSTRUCTED, is_masked)
    np.testing.assert_array_equal(reconstructed.joints[~is_masked], original.joints[~is_masked])
    assert not np.array_equal(reconstructed.joints[is_masked], original.joints[is_masked])
    assert reconstructed.ghost == 0


@pytest.mark.parametrize("name", ["mamp", "s-jepa"])
def test_of_an_objective_that_predicts_no_positions_the_mask_is_shown(store, name):
    config = small_config(objective={"name": name})
    made = scene_of_reconstruction(build_objective(config, store.layout), store, config, index=0)
    assert [panel.title for panel in made.panels] == ["original", "masked"]
    assert (made.panels[1].kind == MASKED).any()
    assert "mean joint error" not in dict(made.facts)
    assert "the mask alone is shown" in made.notes[0]


def test_an_objective_without_masks_is_refused(store):
    config = small_config(objective={"name": "simclr"})
    with pytest.raises(DataError, match="'simclr' on the joint stream gives no masked positions"):
        scene_of_reconstruction(build_objective(config, store.layout), store, config, index=0)


@pytest.mark.parametrize("stream", ["bone", "motion"])
def test_streams_without_positions_are_refused(store, stream):
    config = small_config(augment={"stream": stream})
    with pytest.raises(DataError, match=f"on the {stream} stream gives no masked positions"):
        scene_of_reconstruction(build_objective(config, store.layout), store, config, index=0)


def test_relative_joints_are_shown_at_their_positions(store):
    plain, config = small_config(), small_config(augment={"stream": "relative"})
    objective = build_objective(config, store.layout)
    wanted = scene_of_reconstruction(build_objective(plain, store.layout), store, plain, index=1).panels[0].joints
    [made] = reconstruct(objective, store, config, clips=np.array([1]))
    np.testing.assert_allclose(made.original, wanted, atol=1e-6)
    loader = Loader(store, np.array([1]), augment=config.augment, batch=1, seed=0, train=False, device=CPU)
    batch = next(loader.epoch(0))
    offset = made.reconstructed - objective.preview(batch, batch.noise(config.seed)).rebuilt.numpy()
    centre = store.layout.centre
    assert not offset[..., centre, :].any()
    np.testing.assert_allclose(np.delete(offset, centre, -2), wanted[..., [centre] * 24, :], atol=1e-6)
