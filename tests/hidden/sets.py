"""Sets and sequences: pooling, attention, tokens, sorting; cyclic shifts of a line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .case import NODES, Inputs, entry, generator, mlp, normal

SET: dict[str, str | None] = {"x": "nodes features"}


def elements(features: int = 4, batch: int = 0) -> Callable[[int], Inputs]:
    """``x`` [n, features], or [batch, n, features]."""

    def inputs(seed: int) -> Inputs:
        shape = (batch,) * bool(batch) + (NODES[seed % 3], features)
        return {"x": normal(generator(seed), *shape)}

    return inputs


class Equivariant(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.own, self.all = nn.Linear(before, after), nn.Linear(before, after, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(x) - self.all(x.max(-2, keepdim=True).values)


@entry("deepsets", "set", "S(nodes)", SET, ("nodes channel", "channel"), elements())
class DeepSets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Equivariant(4, 8), nn.Tanh(), Equivariant(8, 8), nn.Tanh(), Equivariant(8, 6))
        self.head = mlp(6, 8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.layers(x)
        return x, self.head(x.sum(0))


class Mab(nn.Module):
    """Multihead attention block: [batch, n, 8] looks at [batch, m, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.feed = mlp(8, 16, 8)
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = self.first(x + self.attention(x, y, y, need_weights=False)[0])
        return self.second(x + self.feed(x))


class Sab(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Mab()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x, x)


class Isab(nn.Module):
    """By way of three induced points."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.zeros(1, 3, 8))
        self.down, self.up = Mab(), Mab()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x, self.down(self.points.expand(len(x), -1, -1), x))


class Pma(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seeds = nn.Parameter(torch.zeros(1, 4, 8))
        self.block = Mab()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.seeds.expand(len(x), -1, -1), x)


@entry("set_transformer", "set", "S(nodes)", {"x": "batch nodes features"}, "batch channel", elements(batch=2))
class SetTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.encoder = nn.Sequential(Sab(), Isab(), Sab())
        self.pool = Pma()
        self.decoder = Sab()
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.decoder(self.pool(self.encoder(self.embedding(x)))).flatten(1))


@entry("encoder_with_token", "set", "S(nodes)", SET, ("channel", "nodes channel"), elements())
class EncoderWithToken(nn.Module):
    """torch's own encoder layers, without positions, with a class token in front."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.token = nn.Parameter(torch.zeros(1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.encoder(torch.cat([self.token, self.embedding(x)])[None])[0]
        return x[0], x[1:]


@entry("sequence_first", "set", "S(nodes)", {"x": "batch nodes features"}, "batch nodes channel", elements(batch=2))
class SequenceFirst(nn.Module):
    """[nodes, batch, c], as torch's attention has it unless told otherwise; weights are used too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(nn.MultiheadAttention(8, 4) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x).transpose(0, 1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            out, weights = layer(x, x, x)
            x = norm(x + out * weights.square().sum(-1).T[..., None])
        return x.transpose(0, 1)


@entry("pointnet", "set", "S(nodes)", {"x": "batch nodes features"}, "batch classes", elements(batch=2))
class PointNetClassifier(nn.Module):
    """Channels first: [batch, c, nodes], 1 x 1 convolutions, batch norm, maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv1d(4, 8, 1), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 12, 1))
        self.fused = nn.Sequential(nn.Conv1d(24, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.head = mlp(16, 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.local(x.transpose(1, 2))
        x = torch.cat([x, x.amax(2, keepdim=True).expand_as(x)], 1)
        return self.head(self.fused(x).amax(2))


class SortPool(nn.Module):
    """[n, c] -> [c, 6]: each channel sorted, sampled at six quantiles."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.quantile(x, torch.linspace(0, 1, 6, dtype=x.dtype), dim=0).T


@entry("sorted_features", "set", "S(nodes)", SET, "channel", elements())
class SortedFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.local = mlp(4, 12, 8)
        self.pool = SortPool()
        self.head = mlp(48, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.local(x)).flatten())


class SlotStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.cell = nn.GRUCell(8, 8)

    def forward(self, slots: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = (self.key(x) @ self.query(slots).T / 8**0.5).softmax(1)
        read = (weights / weights.sum(0)).T @ self.value(x)
        return self.cell(read, slots), weights


@entry("slot_attention", "set", "S(nodes)", SET, ("3 channel", "nodes 3"), elements())
class SlotAttention(nn.Module):
    """One step called four times."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.slots = nn.Parameter(torch.zeros(3, 8))
        self.step = SlotStep()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, slots, weights = self.embedding(x), self.slots, None
        for _ in range(4):
            slots, weights = self.step(slots, x)
        return slots, weights


class OddLayer(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, after, bias=False)
        self.gate = nn.Linear(before, after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(x)) * torch.sigmoid(self.gate(x.square()))


@entry(
    "odd_functions", "set", "Z2 x S(nodes)", {"x": "nodes channel sign"}, ("nodes channel sign", "channel"), elements()
)
class OddFunctions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(OddLayer(4, 8), OddLayer(8, 8), OddLayer(8, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.layers(x - 0.5 * x.mean(0))
        return x, self.head(x.abs().mean(0))


@entry("median_residuals", "set", "S(nodes)", SET, "nodes channel", elements())
class MedianResiduals(nn.Module):
    """Distances to the median and ranks of a score, without modules between."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.mix = nn.Linear(4, 1), mlp(9, 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rank = self.score(x)[:, 0].argsort().argsort().to(x.dtype)[:, None] / len(x)
        return self.mix(torch.cat([x - x.median(0).values, x.abs(), rank], 1))


# --- sequences -------------------------------------------------------------------------------------------------------

LINE: dict[str, str | None] = {"x": "batch channel length"}
PERIODIC = {"domain": "periodic"}


def lines(*lengths: int, channels: int = 3) -> Callable[[int], Inputs]:
    return lambda seed: {"x": normal(generator(seed), 2, channels, lengths[seed % len(lengths)])}


class LineBlock(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(6, 8, 3, padding=dilation, dilation=dilation, padding_mode="circular")
        self.second = nn.Conv1d(8, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(torch.relu(self.first(x)))


@entry("dilated_line", "image", "T(1)", LINE, "batch channel length", lines(10, 13, 11), **PERIODIC)
class DilatedLine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv1d(3, 6, 5, padding=2, padding_mode="circular")
        self.blocks = nn.Sequential(*(LineBlock(d) for d in (1, 2, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.start(x))


@entry("strided_line", "image", "2T(1)", LINE, "batch channel length", lines(12, 18, 14), **PERIODIC)
class StridedLine(nn.Module):
    """Half as long between, with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv1d(3, 8, 3, stride=2, padding=1, padding_mode="circular")
        self.block = nn.Conv1d(8, 8, 3, padding=1, padding_mode="circular")
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = nn.Conv1d(11, 5, 3, padding=1, padding_mode="circular")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.down(x))
        y = self.up(torch.relu(self.block(y)))
        return self.last(torch.cat([x, y], 1))


class CyclicAttention(nn.Module):
    """Attention along a cycle, biased by the distance [length, length]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.bias = nn.Parameter(torch.zeros(2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[1]
        q, k, v = self.qkv(x).chunk(3, -1)
        angle = 2 * torch.pi * (torch.arange(n)[:, None] - torch.arange(n)) / n
        waves = torch.arange(1, 5)
        bias = torch.einsum("k,ijk->ij", self.bias[0], (angle[..., None] * waves).cos().to(x.dtype))
        bias = bias + torch.einsum("k,ijk->ij", self.bias[1], (angle[..., None] * waves).sin().to(x.dtype))
        return x + (q @ k.mT / 3 + bias).softmax(-1) @ v


@entry("cyclic_attention", "image", "T(1)", {"x": "batch length features"}, ("batch length channel", "batch channel"),
       lambda seed: {"x": normal(generator(seed), 2, (10, 13, 11)[seed % 3], 4)}, **PERIODIC)  # fmt: skip
class CyclicTransformer(nn.Module):
    """Length before channels; relative positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(CyclicAttention() for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.embedding(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(layer(x))
        return x, x.logsumexp(1)


class Spectrum(nn.Module):
    """The lowest modes are mixed: [batch, c, 4] complex between."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 6, 6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        modes = torch.fft.rfft(x)[..., :4]
        mixed = torch.einsum("bik,iok->bok", modes, torch.complex(*self.weight))
        return 3 * torch.fft.irfft(mixed, n=x.shape[-1])


@entry("fourier_operator", "image", "T(1)", LINE, "batch channel length", lines(10, 13, 11), **PERIODIC)
class FourierOperator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start, self.last = nn.Conv1d(3, 6, 1), nn.Conv1d(6, 2, 1)
        self.spectra = nn.ModuleList(Spectrum() for _ in range(3))
        self.local = nn.ModuleList(nn.Conv1d(6, 6, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        for spectrum, local in zip(self.spectra, self.local, strict=True):
            x = torch.nn.functional.gelu(spectrum(x) + local(x))
        return self.last(x)
