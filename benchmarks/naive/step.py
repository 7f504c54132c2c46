"""The training step of many public repositories: two bodies a clip whether they are there or not, nothing fused.

Attention is written out in float32, noise is sorted twice, the decoder predicts every token and the loss leaves out
the visible ones, and the host waits for the loss of every step. Parameters have smae's names, so that both can be given
the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        items, tokens, dim = x.shape
        q = self.query(x).reshape(items, tokens, self.heads, dim // self.heads).permute(0, 2, 1, 3)
        pair = self.key_value(x).reshape(items, tokens, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        k, v = pair[0], pair[1]
        weights = (q @ k.transpose(-2, -1)) * (dim // self.heads) ** -0.5
        weights = weights.softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(items, tokens, dim))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class PositionEmbedding(nn.Module):
    def __init__(self, times: int, joints: int, dim: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.zeros(times, dim))
        self.joint = nn.Parameter(torch.zeros(joints, dim))

    def forward(self) -> Tensor:
        return (self.time[:, None] + self.joint[None]).reshape(1, -1, self.time.shape[1])


class NaiveMAE(nn.Module):
    """A masked autoencoder on x [B, 2, T, V, 3]: both bodies of every clip are encoded and counted."""

    def __init__(
        self,
        *,
        frames: int = 120,
        joints: int = 25,
        patch: int = 4,
        dim: int = 256,
        heads: int = 8,
        depth: int = 8,
        decoder_depth: int = 5,
        keep: float = 0.1,
    ) -> None:
        super().__init__()
        self.patch, self.kept = patch, round(keep * (frames // patch) * joints)
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for part, blocks in ((self.encoder, depth), (self.decoder, decoder_depth)):
            part.pos_embed = PositionEmbedding(frames // patch, joints, dim)
            part.blocks = nn.ModuleList(Block(dim, heads) for _ in range(blocks))
            part.norm = nn.LayerNorm(dim)
        self.encoder.embed = nn.Linear(3 * patch, dim)
        self.decoder.embed = nn.Linear(dim, dim)
        self.decoder.mask_token = nn.Parameter(torch.zeros(dim))
        self.decoder.head = nn.Linear(dim, 3 * patch)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the loss; ``noise`` [2 B, L] decides which tokens stay, fresh if left out."""
        clips, bodies, frames, joints, axes = x.shape
        x = x.reshape(clips * bodies, frames // self.patch, self.patch, joints, axes)
        tokens = x.permute(0, 1, 3, 2, 4).reshape(len(x), -1, self.patch * axes)
        features = self.encoder.embed(tokens) + self.encoder.pos_embed()
        features, mask, restore = self.random_masking(features, noise)
        for block in self.encoder.blocks:
            features = block(features)
        features = self.decoder.embed(self.encoder.norm(features))

        mask_tokens = self.decoder.mask_token.expand(len(x), tokens.shape[1] - self.kept, -1)
        features = torch.cat([features, mask_tokens], dim=1)
        features = torch.gather(features, 1, restore.unsqueeze(-1).repeat(1, 1, features.shape[2]))
        features = features + self.decoder.pos_embed()
        for block in self.decoder.blocks:
            features = block(features)
        predicted = self.decoder.head(self.decoder.norm(features))

        mean, variance = tokens.mean(dim=-1, keepdim=True), tokens.var(dim=-1, keepdim=True)
        target = (tokens - mean) / (variance + 1e-6) ** 0.5
        loss = ((predicted - target) ** 2).mean(dim=-1)
        return (loss * mask).sum() / mask.sum()

    def random_masking(self, features: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the visible features, the mask [N, L] (1 where hidden), and where each token went."""
        items, tokens, dim = features.shape
        if noise is None:
            noise = torch.rand(items, tokens, device=features.device)
        shuffle = torch.argsort(noise, dim=1)
        restore = torch.argsort(shuffle, dim=1)
        keep = shuffle[:, : self.kept]
        visible = torch.gather(features, 1, keep.unsqueeze(-1).repeat(1, 1, dim))
        mask = torch.ones(items, tokens, device=features.device)
        mask[:, : self.kept] = 0
        return visible, torch.gather(mask, 1, restore), restore


def step(model: NaiveMAE, optimizer: torch.optim.Optimizer, x: Tensor, *, autocast: bool = False) -> float:
    """Take one step and wait for its loss."""
    optimizer.zero_grad()
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=autocast):
        loss = model(x)
    loss.backward()
    optimizer.step()
    return loss.item()
