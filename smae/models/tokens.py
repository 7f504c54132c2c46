"""From joints to tokens and back: a token is one joint over a few frames."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from smae.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """How a clip is cut into tokens: ``times`` x ``joints``, token number = time * joints + joint.

    Attributes:
        times: patches along time.
        joints: V.
        patch: frames in a patch.
        channels: C, numbers per joint and frame.
    """

    times: int
    joints: int
    patch: int
    channels: int = 3

    @property
    def tokens(self) -> int:
        """L, tokens in a clip."""
        return self.times * self.joints

    @property
    def values(self) -> int:
        """P, numbers in a token: patch * channels."""
        return self.patch * self.channels

    @staticmethod
    def cut(frames: int, *, joints: int, patch: int, channels: int = 3) -> Grid:
        """Return the grid of clips of ``frames`` frames, which the patch must divide."""
        if frames % patch:
            raise ConfigError(
                f"augment.frames={frames} cannot be cut into patches of encoder.patch={patch} frames: "
                f"choose frames that {patch} divides, such as {max(1, round(frames / patch)) * patch}"
            )
        return Grid(frames // patch, joints, patch, channels)


def patchify(x: Tensor, grid: Grid) -> Tensor:
    """Return tokens [N, L, P] of joints [N, T, V, C]; a token is its frames' x y z in turn."""
    n = x.shape[0]
    patches = x.reshape(n, grid.times, grid.patch, grid.joints, grid.channels)
    return patches.transpose(2, 3).reshape(n, grid.tokens, grid.values)


def unpatchify(tokens: Tensor, grid: Grid) -> Tensor:
    """Return joints [N, T, V, C] of tokens [N, L, P]; the inverse of ``patchify``."""
    n = tokens.shape[0]
    patches = tokens.reshape(n, grid.times, grid.joints, grid.patch, grid.channels)
    return patches.transpose(2, 3).reshape(n, grid.times * grid.patch, grid.joints, grid.channels)


def joints_of(tokens: Tensor, grid: Grid) -> Tensor:
    """Return which joints, bool [N, T, V], belong to the tokens marked in bool [N, L]."""
    return unpatchify(tokens[..., None].expand(-1, -1, grid.values).float(), grid)[..., 0] > 0.5


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """Return tokens [N, K, D] picked from [N, L, D] by index [N, K]."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
