"""Multi-head self-attention over a set, with a pooled output, and its bugs."""

from __future__ import annotations

import torch
from torch import nn

from .case import Bug, Case, Inputs, KeepFirst, generator, like, mlp, seeded

FEATURES, WIDTH, HEADS, CHANNEL, BATCH = 6, 16, 4, 8, 2


class Heads(nn.Module):
    """[batch, nodes, width] -> [batch, heads, nodes, width / heads]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention without positions: permuting the tokens permutes the result."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.heads: nn.Module = Heads()
        self.scores: nn.Module = KeepFirst()
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.heads(part(x)) for part in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        mixed = torch.softmax(self.scores(scores), -1) @ v
        return self.project(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Attention and an element-wise network, each behind a LayerNorm over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.between = nn.LayerNorm(WIDTH)
        self.each = mlp(WIDTH, 2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + 2 * self.attention(self.before(x))
        return x + self.each(self.between(x))


class SetAttention(nn.Module):
    """x: [batch, nodes, 6] -> tokens [batch, nodes, 8] and pooled [batch, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.token_input: nn.Module = KeepFirst()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.token_head = nn.Linear(WIDTH, CHANNEL)
        self.pool_scores = nn.Linear(WIDTH, 1)
        self.pool_head = nn.Linear(WIDTH, CHANNEL)
        self.pool_output: nn.Module = KeepFirst()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.token_input(self.embed(x))
        for block in self.blocks:
            h = block(h)
        share = torch.softmax(self.pool_scores(h), 1)
        pooled = self.pool_output(self.pool_head((share * h).sum(1)), h)
        return {"tokens": self.token_head(h), "pooled": pooled}


class Planted(nn.Module):
    """A mistake of adjustable size."""

    def __init__(self, severity: float) -> None:
        super().__init__()
        self.severity = severity


class CausalMask(Planted):
    """Later tokens are hidden (at severity 1; weighed down below)."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        later = torch.ones_like(scores).triu(1)
        # The largest severity is kept finite: a token would otherwise lose its gradient.
        return scores + torch.log1p(-min(self.severity, 0.999999) * later)


class DistanceBias(Planted):
    """Attention decays with the distance of the positions in storage."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        position = torch.arange(scores.shape[-1], dtype=scores.dtype)
        return scores - self.severity * (position[:, None] - position).abs()


class PositionTable(Planted):
    """A learned position embedding is added to the tokens."""

    def __init__(self, severity: float) -> None:
        super().__init__(severity)
        self.table = nn.Embedding(9, WIDTH)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.severity * self.table(torch.arange(h.shape[1]))


class ReshapedHeads(Planted):
    """Heads are split by a reshape without the transpose, which mixes tokens with channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, nodes, width = x.shape
        right = x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        wrong = x.reshape(batch, HEADS, nodes, width // HEADS)
        return right + self.severity * (wrong - right)


class LastToken(Planted):
    """The last token is read out as in a sequence model."""

    def forward(self, y: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return y + self.severity * like(h[:, -1, :CHANNEL], y)


def tokens(seed: int) -> Inputs:
    """Two independent sets of 5, 7 or 9 tokens."""
    nodes = (5, 7, 9)[seed % 3]
    return {"x": torch.randn(BATCH, nodes, FEATURES, generator=generator(seed))}


def build() -> SetAttention:
    with seeded(31):
        return SetAttention().eval()


def planted(module: str, defect: type[Planted], severity: float) -> SetAttention:
    model = build()
    parent, _, slot = module.rpartition(".")
    with seeded(32):
        setattr(model.get_submodule(parent), slot, defect(severity))
    return model.eval()


def bug(name: str, module: str, defect: type[Planted], output: str) -> Bug:
    return Bug(name, lambda s: planted(module, defect, s), ("permutation",), output, module)


CASES = [
    Case(
        name="set_attention",
        build=build,
        inputs=tokens,
        group="S(nodes)",
        in_layouts={"x": "batch nodes features"},
        out_layouts={"tokens": "batch nodes channel", "pooled": "batch channel"},
        bugs={
            found.name: found
            for found in (
                bug("causal_mask", "blocks.0.attention.scores", CausalMask, "tokens"),
                bug("distance_bias", "blocks.1.attention.scores", DistanceBias, "tokens"),
                bug("position_table", "token_input", PositionTable, "pooled"),
                bug("reshaped_heads", "blocks.0.attention.heads", ReshapedHeads, "tokens"),
                bug("last_token", "pool_output", LastToken, "pooled"),
            )
        },
    )
]
