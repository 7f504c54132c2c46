"""Tokens: the naive cut, the way back, and grids that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.errors import ConfigError
from smae.models import Grid, gather, patchify, unpatchify
from tests.oracles import models as oracle


@pytest.mark.parametrize("patch", [1, 3, 4, 12])
def test_tokens_are_the_naive_cut_and_can_be_put_back(patch):
    grid = Grid.cut(12, joints=5, patch=patch)
    x = torch.randn(3, 12, 5, 3)
    tokens = patchify(x, grid)
    assert tokens.shape == (3, grid.tokens, grid.values)
    for item in range(3):
        assert np.array_equal(tokens[item].double().numpy(), oracle.tokens_of(x[item].double().numpy(), patch=patch))
    assert torch.equal(unpatchify(tokens, grid), x)


def test_the_published_grid_has_750_tokens_of_12_numbers():
    grid = Grid.cut(120, joints=25, patch=4)
    assert (grid.times, grid.tokens, grid.values) == (30, 750, 12)


def test_gather_picks_each_items_own_tokens():
    tokens = torch.arange(24.0).reshape(2, 4, 3)
    picked = gather(tokens, torch.tensor([[3, 0], [1, 1]]))
    assert torch.equal(picked, torch.stack([tokens[0, [3, 0]], tokens[1, [1, 1]]]))


def test_frames_that_the_patch_does_not_divide_are_refused_with_a_remedy():
    with pytest.raises(ConfigError, match=r"augment\.frames=50 .* encoder\.patch=4 .* such as 48"):
        Grid.cut(50, joints=25, patch=4)
