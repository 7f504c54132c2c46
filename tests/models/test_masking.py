"""Maskings: the contract of all of them, the structure of each, and uniform chances where they are promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.config import check
from smae.errors import ConfigError
from smae.models import Grid, gather, patchify
from smae.models.masking import Mask, kept_count, mask_from_kept, mask_from_scores, mask_tokens, maskings
from smae.rng import Noise
from smae.skeleton import KINECT20, NTU25
from smae.testing import check_masking
from smae.testing.models import bodies
from tests.oracles import models as oracle

GRID = Grid.cut(120, joints=25, patch=4)

HIDING = [name for name in maskings.names() if name != "none"]


def make(name, grid=GRID, layout=NTU25, **settings):
    cls = maskings.get(name)
    return cls(cls.Config(**settings), grid, layout)


def draw(name, *, items=8, epoch=0, grid=GRID, **settings):
    tokens = torch.zeros(items, grid.tokens, grid.values)
    return make(name, grid, **settings)(tokens, Noise(0, epoch, torch.arange(items)))


def as_table(mask, grid=GRID):
    """Bool [N, times, joints], true where visible."""
    return ~mask.hidden.reshape(-1, grid.times, grid.joints)


@pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)
@pytest.mark.parametrize("name", HIDING)
def test_every_masking_keeps_the_contract(name, layout):
    check_masking(maskings.get(name), layout=layout)


@pytest.mark.parametrize(
    ("name", "settings", "kept"),
    [
        ("spatial-temporal", {}, 80),
        ("spatial-temporal", {"keep_frames": 1}, 240),
        ("spatial-temporal", {"keep_joints": 1}, 250),
        ("random", {}, 75),
        ("random", {"keep": 0.5}, 375),
        ("random", {"keep": 1e-9}, 1),
        ("tube", {}, 75),
        ("body-part", {}, 150),
        ("motion-aware", {}, 75),
    ],
)
def test_the_kept_share_is_exact(name, settings, kept):
    assert draw(name, **settings).keep.shape == (8, kept)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("spatial-temporal", {"keep_frames": 1, "keep_joints": 1}),
        ("random", {"keep": 0.9999}),
        ("tube", {"keep": 0.999}),
        ("body-part", {"keep": 0.99}),
        ("motion-aware", {"keep": 0.9999}),
    ],
)
def test_a_mask_that_hides_nothing_is_refused(name, settings):
    with pytest.raises(ConfigError, match="hide nothing"):
        make(name, **settings)


@pytest.mark.parametrize("name", ["tube", "body-part"])
def test_a_length_that_does_not_divide_the_clip_is_refused(name):
    with pytest.raises(ConfigError, match=r"masking\.length=7 must divide the clip's 30 time patches"):
        make(name, length=7)


def test_motion_needs_two_patches():
    with pytest.raises(ConfigError, match="two time patches"):
        make("motion-aware", Grid.cut(4, joints=25, patch=4))


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1, float("nan")])
def test_a_share_outside_its_range_is_refused(ratio):
    with pytest.raises(ConfigError, match=r"masking\.keep: expected a share in \(0, 1\]"):
        kept_count(ratio, 10, setting="masking.keep")


@pytest.mark.parametrize("name", ["random", "tube", "body-part", "motion-aware"])
def test_mask_ratio_is_the_share_that_is_masked(name):
    config = check(maskings.get(name).Config, {"mask_ratio": 0.7}, where="masking")
    assert config == maskings.get(name).Config(keep=0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.1, "mask_ratio": 0.8}, r"keep=0\.1 and mask_ratio=0\.8 are both given .*give only keep=0\.2"),
        ({"mask_ratio": 1.0}, "mask_ratio: expected a number between 0 and 1, found 1.0"),
        ({"mask_ratio": "most"}, "mask_ratio: expected a number between 0 and 1, found 'most'"),
        ({"mask_ratio": float("nan")}, "mask_ratio: expected a number between 0 and 1"),
    ],
)
def test_a_mask_ratio_beside_keep_or_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check(maskings.get("random").Config, settings, where="masking")


@pytest.mark.parametrize("name", HIDING)
def test_mask_tokens_gives_the_mask_and_the_tokens_that_it_keeps(name):
    grid, noise = Grid.cut(40, joints=25, patch=4), Noise(0, 0, torch.arange(3))
    tokens = patchify(bodies(NTU25, items=3, frames=40), grid)
    mask, visible = mask_tokens(make(name, grid), tokens, noise)
    assert torch.equal(mask.keep, make(name, grid)(tokens, noise).keep)
    assert torch.equal(visible, gather(tokens, mask.keep))


@pytest.mark.parametrize("settings", [{}, {"keep_frames": 1}, {"keep_joints": 1}, {"keep_frames": 0.5}])
def test_spatial_temporal_masks_are_a_product_of_times_and_joints(settings):
    visible = as_table(draw("spatial-temporal", **settings))
    times, joints = visible.any(2), visible.any(1)
    assert torch.equal(visible, times[:, :, None] & joints[:, None, :])
    assert set(times.sum(1).tolist()) == {round(settings.get("keep_frames", 1 / 3) * 30)}
    assert set(joints.sum(1).tolist()) == {round(settings.get("keep_joints", 0.32) * 25)}
    assert len({tuple(row.tolist()) for row in visible.flatten(1)}) == 8


def test_tubes_are_kept_whole():
    visible = as_table(draw("tube", keep=0.3, length=5)).reshape(8, 6, 5, 25)
    assert torch.equal(visible.any(2), visible.all(2))
    assert set(visible.any(2).flatten(1).sum(1).tolist()) == {45}


def test_body_parts_stay_or_go_in_one_piece_but_the_last():
    visible = as_table(draw("body-part", keep=0.4, length=5, items=64)).reshape(64, 6, 5, 25)
    assert torch.equal(visible.any(2), visible.all(2)), "a stretch shows the same joints throughout"
    for stretch in visible[:, :, 0].reshape(-1, 25):
        shares = [float(stretch[list(joints)].float().mean()) for joints in NTU25.parts.values()]
        assert int(stretch.sum()) == 10
        assert sum(0 < share < 1 for share in shares) <= 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [("random", {}), ("spatial-temporal", {}), ("tube", {}), ("body-part", {"keep": 0.4}), ("motion-aware", {})],
)
def test_every_token_is_seen_equally_often(name, settings):
    grid = Grid.cut(20, joints=25, patch=4)
    visible = as_table(draw(name, items=3000, grid=grid, **settings), grid).double()
    share = visible.mean()
    # Draws within a product, tube or part are not independent; each token's own draws over items are.
    spread = float((share * (1 - share) / len(visible)).sqrt())
    if name == "body-part":  # smaller parts are cut less often: equal chances hold within a part
        for joints in NTU25.parts.values():
            part = visible.mean(0)[:, list(joints)]
            assert float((part - part.mean()).abs().max()) < 5 * spread
    else:
        assert float((visible.mean(0) - share).abs().max()) < 5 * spread


def test_motion_aware_probability_is_the_loop_of_its_formula():
    grid = Grid.cut(24, joints=25, patch=4)
    tokens = patchify(bodies(NTU25, items=3, frames=24), grid)
    log_p = make("motion-aware", grid, tau=0.75).rate(tokens).log_softmax(1)
    for item in range(3):
        expected = oracle.motion_log_probability(
            tokens[item].double().numpy(), times=grid.times, joints=grid.joints, tau=0.75
        )
        assert np.abs(log_p[item].double().numpy() - expected).max() < 1e-5
    assert torch.allclose(log_p.exp().sum(1), torch.ones(3).double())


def test_the_token_hidden_first_is_drawn_by_the_closed_form():
    # Adding Gumbel noise to log p and taking the highest draws a token with probability p exactly (Gumbel, 1954).
    grid, items = Grid.cut(8, joints=25, patch=4), 20_000
    tokens = patchify(bodies(NTU25, items=1, frames=8), grid)
    mask = make("motion-aware", grid, keep=0.98, tau=0.3)(
        tokens.expand(items, -1, -1), Noise(0, 0, torch.arange(items))
    )
    assert mask.hide.shape == (items, 1)
    found = np.bincount(mask.hide[:, 0].numpy(), minlength=50)
    log_p = oracle.motion_log_probability(tokens[0].double().numpy(), times=2, joints=25, tau=0.3)
    expected = np.exp(log_p) * items
    assert expected.max() > 5 * expected.min(), "else uniform draws would pass as well"
    chi_square = ((found - expected) ** 2 / expected).sum()
    assert chi_square < 49 + 5 * (2 * 49) ** 0.5


@pytest.mark.parametrize("name", ["random", "spatial-temporal"])
def test_pairs_of_tokens_are_seen_together_as_often_as_draws_without_replacement_say(name):
    grid, items = Grid.cut(20, joints=25, patch=4), 4000
    settings = {"keep": 0.2} if name == "random" else {"keep_frames": 0.6, "keep_joints": 0.4}
    visible = as_table(draw(name, items=items, grid=grid, **settings), grid)
    first = visible[:, 1, 3]
    for time, joint in ((1, 4), (2, 3), (2, 4), (4, 24)):
        both = float((first & visible[:, time, joint]).double().mean())
        if name == "random":
            expected = 25 / 125 * 24 / 124
        else:
            expected = (3 / 5 * (1 if time == 1 else 2 / 4)) * (10 / 25 * (1 if joint == 3 else 9 / 24))
        assert abs(both - expected) < 5 * (expected * (1 - expected) / items) ** 0.5


def test_moving_tokens_are_hidden_more_often():
    grid = Grid.cut(24, joints=25, patch=4)
    x = torch.zeros(500, 24, 25, 3)
    x[:, :, :5] = torch.linspace(0, 1, 24)[:, None, None]
    mask = make("motion-aware", grid, keep=0.3)(patchify(x, grid), Noise(0, 0, torch.arange(500)))
    seen = as_table(mask, grid).double().mean((0, 1))
    assert float(seen[:5].max()) < 0.75 * float(seen[5:].min())


def test_a_clip_without_any_motion_is_masked_too():
    mask = draw("motion-aware")
    assert bool(mask.keep.min() >= 0)
    assert mask.keep.shape[1] + mask.hide.shape[1] == GRID.tokens


def test_restore_undoes_the_order_of_keep_and_hide():
    mask, tokens = draw("random"), torch.randn(8, GRID.tokens)
    split = torch.cat([tokens.gather(1, mask.keep), tokens.gather(1, mask.hide)], 1)
    assert torch.equal(split.gather(1, mask.restore), tokens)
    assert torch.equal(Mask(mask.keep, mask.hide).restore, mask.restore)


def test_masks_from_scores_and_from_kept_agree_and_ties_keep_the_lower_index():
    grid = Grid(2, 3, 1)
    mask = mask_from_scores(torch.tensor([[0.5, 0.1, 0.5, 0.1, 0.5, 0.9]]), 3)
    assert mask.keep.tolist() == [[0, 1, 3]]
    assert mask.hide.tolist() == [[2, 4, 5]]
    again = mask_from_kept(mask.keep, grid)
    assert isinstance(again, Mask)
    assert torch.equal(again.hide, mask.hide)
    assert mask.hidden.tolist() == [[False, False, True, False, True, True]]


def test_joints_are_hidden_inside_chosen_patches_alone() -> None:
    grid = Grid.cut(40, joints=25, patch=4)
    cls = maskings.get("joints-in-frames")
    mask = cls(cls.Config(frames=0.6, joints=0.4), grid, NTU25)(torch.zeros(50, 250, 12), Noise(0, 0, torch.arange(50)))
    hidden = mask.hidden.unflatten(1, (10, 25)).sum(2)
    assert hidden.sort(1).values.tolist() == [[0] * 4 + [10] * 6] * 50
    in_patches = mask.hidden.unflatten(1, (10, 25))
    assert len(torch.unique(in_patches[0], dim=0)) == 7, "each chosen patch hides joints of its own"


def test_no_masking_keeps_everything() -> None:
    grid = Grid.cut(40, joints=25, patch=4)
    cls = maskings.get("none")
    tokens = torch.randn(3, 250, 12)
    mask, visible = mask_tokens(cls(cls.Config(), grid, NTU25), tokens, Noise(0, 0, torch.arange(3)))
    assert torch.equal(visible, tokens)
    assert not mask.hidden.any()
