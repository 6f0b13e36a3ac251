"""Sets: DeepSets, set transformers with batches, slot attention."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, generator, mlp, normal

# DeepSets


class Pool(nn.Module):
    """Mean and maximum over the elements: [batch, n, c] -> [batch, 1, 2 c]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], -1)


class Gate(nn.Module):
    """A learned gate per channel."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.linear(x))


class DeepSetsLayer(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.own = nn.Linear(before, after)
        self.pool = Pool()
        self.all = nn.Linear(2 * before, after, bias=False)
        self.gate = Gate(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gate(torch.relu(self.own(x) + self.all(self.pool(x))))


class DeepSets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DeepSetsLayer(a, b) for a, b in ((4, 8), (8, 8), (8, 8), (8, 8)))
        self.element = nn.Linear(8, 3)
        self.set = mlp(16, 8, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        for layer in self.layers:
            x = layer(x)
        return {"elements": self.element(x), "set": self.set(self.layers[0].pool(x))[:, 0]}


def elements(seed: int) -> Inputs:
    return {"x": normal(generator(seed + 5), 3, (9, 7, 11)[seed % 3], 4)}


DEEPSETS = Network(
    "DeepSets, 4 layers",
    DeepSets,
    "S(nodes)",
    {"x": "batch nodes features"},
    {"elements": "batch nodes classes", "set": "batch channel"},
    elements,
)
DEEPSETS.healthy("deepsets")


@DEEPSETS.bug(
    "deepsets_argmax_number",
    "permutation",
    "layers.2.pool",
    respected=None,
    severity="the number of the largest element, in place of one maximum of eight",
)
class ArgmaxPool(Pool):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = super().forward(x)
        number = x[..., :1].argmax(1, keepdim=True) / x.shape[1]
        return torch.cat([pooled[..., :-1], number.to(x.dtype)], -1)


@DEEPSETS.bug(
    "deepsets_dropout_in_eval",
    "randomness",
    "layers.1.gate",
    evidence="calls",
    respected=None,
    severity="functional dropout without `training=`, so that it is on in eval mode",
    verdict="NEEDS_ATTENTION",
)
class DroppingGate(Gate):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(super().forward(x), 0.2)


@DEEPSETS.bug(
    "deepsets_dead",
    "vacuous-test",
    "layers.3.gate",
    evidence="vacuous",
    also_right=("layers.3.gate.linear",),
    respected="S(nodes)",
    severity="the last gate is closed for all inputs: outputs are constants",
    verdict="NEEDS_ATTENTION",
)
class ClosedGate(Gate):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * functional.hardsigmoid(self.linear(x) - 1e3)


# Set transformers


class Mixer(nn.Module):
    """Attention among the elements of each entry: [batch, n, c]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.softmax(scores, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.q(x) @ self.k(x).mT / x.shape[-1] ** 0.5
        return self.out(self.weights(scores) @ self.v(x))


class Offset(nn.Module):
    """A learned offset, the same for all elements."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias


class SetBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.offset = Offset(width)
        self.norm = nn.LayerNorm(width)
        self.mixer = Mixer(width)
        self.feed = mlp(width, 2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.offset(x)
        x = x + self.mixer(self.norm(x))
        return x + self.feed(x)


class SetTransformer(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, width)
        self.blocks = nn.ModuleList(SetBlock(width) for _ in range(4))
        self.seed = nn.Parameter(torch.zeros(2, width))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        pooled = torch.softmax(self.seed @ x.mT, -1) @ x
        return self.head(pooled)


SET_TRANSFORMER = Network(
    "set transformer, 4 blocks, pooled by attention",
    SetTransformer,
    "S(nodes)",
    {"x": "batch nodes features"},
    "batch channel classes",
    elements,
)
SET_TRANSFORMER.healthy("set_transformer")


@SET_TRANSFORMER.bug(
    "set_sinusoidal_offset",
    "positional-encoding",
    "blocks.1.offset",
    respected=None,
    severity="a sinusoidal encoding of amplitude 1e-3",
    verdict="NEEDS_ATTENTION",
)
class Sinusoidal(Offset):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wave = torch.sin(torch.arange(x.shape[1], dtype=x.dtype)[:, None] * self.bias)
        return x + self.bias + 1e-3 * wave


@SET_TRANSFORMER.bug(
    "set_causal_mask",
    "permutation",
    "blocks.2.mixer",
    respected=None,
    severity="gross; elements see those before them alone",
)
class CausalMixer(Mixer):
    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        later = torch.ones_like(scores, dtype=torch.bool).triu(1)
        return torch.softmax(scores.masked_fill(later, -torch.inf), -1)


@SET_TRANSFORMER.bug(
    "set_softmax_over_batch",
    "batch-cross-talk",
    "blocks.1.mixer",
    evidence="batch",
    respected="S(nodes)",
    severity="softmax over the entries of the batch; no permutation shows it",
    verdict="NEEDS_ATTENTION",
)
class BatchMixer(Mixer):
    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.softmax(scores, 0) / scores.shape[-1]


# Slots that compete for elements


class Compete(nn.Module):
    """Each slot takes a weighted mean of the elements: slots [batch, s, c], elements [batch, n, c]."""

    def forward(self, slots: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        share = torch.softmax(slots @ x.mT / x.shape[-1] ** 0.5, 1) + 1e-4
        return share / share.sum(-1, keepdim=True) @ x


class SlotStep(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.compete = Compete()
        self.norm = nn.LayerNorm(width)
        self.update = nn.GRUCell(width, width)

    def forward(self, slots: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        taken = self.compete(self.norm(slots), x)
        return self.update(taken.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)


class SlotAttention(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encode = mlp(4, width, width)
        self.slots = nn.Parameter(torch.zeros(3, width))
        self.steps = nn.ModuleList(SlotStep(width) for _ in range(3))
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encode(x)
        slots = self.slots.expand(len(x), -1, -1)
        for step in self.steps:
            slots = step(slots, x)
        return self.head(slots)


SLOTS = Network(
    "slot attention, 3 steps",
    SlotAttention,
    "S(nodes)",
    {"x": "batch nodes features"},
    "batch channel classes",
    elements,
)
SLOTS.healthy("slot_attention")


@SLOTS.bug(
    "slots_remember",
    "state-drift",
    "steps.1.compete",
    evidence="calls",
    respected="S(nodes)",
    severity="a cache of earlier calls' means is mixed in at 1e-2",
    verdict="NEEDS_ATTENTION",
)
class Remembering(Compete):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero_memory", torch.zeros(8))

    def forward(self, slots: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        taken = super().forward(slots, x) + 1e-2 * self.zero_memory
        self.zero_memory = 0.5 * self.zero_memory + taken.detach().mean((0, 1))
        return taken


@SLOTS.bug(
    "slots_by_identity",
    "nondeterminism",
    "steps.2.compete",
    evidence="calls",
    respected=None,
    severity="a factor of up to 1.1 that depends on the address of an object that each call makes anew",
    verdict="NEEDS_ATTENTION",
)
class ByIdentity(Compete):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def forward(self, slots: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(object())
        taken = super().forward(slots, x)
        return taken * (1 + 1e-3 * (id(self.seen[-1]) // 16 % 97))
