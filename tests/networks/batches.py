"""Networks on batches: entries along an axis, or graphs whose nodes lie one behind the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .case import Case, Inputs, generator, mlp, seeded

WIDTH, FEATURES, CHANNEL = 16, 4, 3
BATCH = 4

Build = Callable[[], nn.Module]


def built(network: type[nn.Module], *arguments: Any) -> Build:
    def build() -> nn.Module:
        with seeded(53):
            return network(*arguments).eval()

    return build


# Images.


class CNN(nn.Module):
    """[batch, 2, height, width] -> [batch, 3]; invariant under shifts of a periodic grid."""

    def __init__(self, running: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, WIDTH, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm2d(WIDTH, track_running_stats=running)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode="circular")
        self.head = nn.Linear(WIDTH, CHANNEL)
        with torch.no_grad():
            if running:
                assert self.norm.running_mean is not None
                assert self.norm.running_var is not None
                self.norm.running_mean.normal_(std=0.3)
                self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.second(h)).mean((-1, -2)))


def images(batch: int = BATCH) -> Callable[[int], Inputs]:
    return lambda seed: {"x": torch.randn(batch, 2, 8, 8, generator=generator(seed))}


def image_case(name: str, build: Build, batch: int = BATCH) -> Case:
    return Case(
        name=name,
        build=build,
        inputs=images(batch),
        group="T(2)",
        in_layouts={"x": "batch channel height width"},
        out_layouts="batch channel",
    )


# Sequences with padding.


class Encoder(nn.Module):
    """x [batch, tokens, 4], mask [batch, tokens] (True: padding) -> [batch, 3]; order of tokens does not matter."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.batch_first = batch_first
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first)
        self.head = nn.Linear(WIDTH, CHANNEL)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        # Meant as [batch, tokens, width]; without `batch_first` attention runs over the batch.
        mixed, _ = self.attention(h, h, h, key_padding_mask=mask if self.batch_first else None, need_weights=False)
        kept = (~mask)[..., None].to(h)
        return self.head(((h + mixed) * kept).sum(1) / kept.sum(1))


def padded_tokens(seed: int) -> Inputs:
    lengths = torch.tensor([3, 5, 6, 4])
    return {
        "x": torch.randn(BATCH, 6, FEATURES, generator=generator(seed)),
        "mask": torch.arange(6) >= lengths[:, None],
    }


def token_case(name: str, build: Build) -> Case:
    return Case(
        name=name,
        build=build,
        inputs=padded_tokens,
        group="S(nodes)",
        in_layouts={"x": "batch nodes features", "mask": "batch nodes"},
        out_layouts="batch channel",
    )


# Graphs.


class GraphNetwork(nn.Module):
    """Messages along edges, a readout per graph, a displacement per node.

    z: [nodes]; pos: [nodes, 3]; edges: [2, edges]; batch: [nodes]; cell: [graphs] a number for each graph.
    """

    def __init__(self, mean_over_all: bool = False) -> None:
        super().__init__()
        self.mean_over_all = mean_over_all
        self.embed = nn.Embedding(5, WIDTH)
        self.message = mlp(2 * WIDTH + 2, WIDTH, WIDTH)
        self.move = mlp(WIDTH, WIDTH, 1)
        self.readout = mlp(WIDTH, WIDTH, 1)

    def forward(
        self,
        z: torch.Tensor,
        pos: torch.Tensor,
        edges: torch.Tensor,
        weight: torch.Tensor,
        batch: torch.Tensor,
        scale: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        h = self.embed(z)
        receiver, sender = edges
        difference = pos[receiver] - pos[sender]
        squared = difference.square().sum(-1, keepdim=True)
        m = self.message(torch.cat([h[receiver], h[sender], torch.log1p(squared), weight[:, None]], -1))
        h = h + torch.zeros_like(h).index_add(0, receiver, m)
        moved = torch.zeros_like(pos).index_add(0, receiver, difference * self.move(m))
        if self.mean_over_all:
            h = h - h.mean(0)
        else:
            count = torch.zeros(len(scale)).to(h).index_add(0, batch, torch.ones_like(h[:, 0]))
            mean = torch.zeros(len(scale), WIDTH).to(h).index_add(0, batch, h) / count[:, None]
            h = h - mean[batch]
        energy = torch.zeros(len(scale)).to(h).index_add(0, batch, self.readout(h)[:, 0])
        return {"energy": energy * scale, "displacement": moved}


def graphs(seed: int) -> Inputs:
    """Three graphs of 4, 3 and 5 nodes, in each all ordered pairs."""
    random = generator(seed)
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([4, 3, 5]))
    pairs = (batch[:, None] == batch) & ~torch.eye(len(batch), dtype=torch.bool)
    edges = pairs.nonzero().T
    return {
        "z": torch.randint(5, (len(batch),), generator=random),
        "pos": torch.randn(len(batch), 3, generator=random),
        "edges": edges,
        "weight": torch.rand(edges.shape[1], generator=random),
        "batch": batch,
        "scale": 1 + torch.rand(3, generator=random),
    }


def graph_case(name: str, build: Build) -> Case:
    return Case(
        name=name,
        build=build,
        inputs=graphs,
        group="E(3) x S(nodes)",
        in_layouts={
            "z": "nodes",
            "pos": "nodes point",
            "edges": "2 edges : nodes",
            "weight": "edges",
            "batch": "nodes",
            "scale": "graphs",
        },
        out_layouts={"energy": "graphs", "displacement": "nodes vector"},
    )


HEALTHY = {
    case.name: case
    for case in (
        image_case("cnn", built(CNN)),
        token_case("encoder", built(Encoder)),
        graph_case("graph_network", built(GraphNetwork)),
    )
}
MIXED = {
    case.name: case
    for case in (
        image_case("batch_statistics", built(CNN, False)),
        token_case("attention_over_the_batch", built(Encoder, False)),
        graph_case("mean_over_all_graphs", built(GraphNetwork, True)),
    )
}


def options(case: Case) -> dict[str, Any]:
    """What an audit of the case needs to be told beside its layouts."""
    if "batch" in case.in_layouts:
        return {"segments": {"nodes": "batch"}}
    return {"domain": "periodic"} if case.group == "T(2)" else {}
