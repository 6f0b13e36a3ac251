"""More sequences: charges as pairs of real numbers, networks that are odd, amplitudes and their ratios."""

from __future__ import annotations

import torch
from torch import nn

from .case import Inputs, Network, generator, normal

# Charges: complex numbers are kept as pairs of real ones, [time, 2 c], real parts first


class PairLinear(nn.Module):
    """Multiplies by complex numbers, on real and imaginary parts [time, 2 c]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.real = nn.Parameter(torch.empty(after, before))
        self.imaginary = nn.Parameter(torch.empty(after, before))

    def parts(self, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        re, im = f.chunk(2, -1)
        return re, im

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        re, im = self.parts(f)
        return torch.cat([re @ self.real.T - im @ self.imaginary.T, re @ self.imaginary.T + im @ self.real.T], -1)


class ModulusNorm(nn.Module):
    """Batch norm of the moduli; phases stay."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        re, im = f.chunk(2, -1)
        modulus = (re.square() + im.square() + 1e-6).sqrt()
        scale = torch.sigmoid(self.norm(modulus)) / modulus
        return torch.cat([re * scale, im * scale], -1)


class Beat(nn.Module):
    """How each place turns against the one before: products with conjugates, which have no charge: [time, 2 c]."""

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        re, im = f.chunk(2, -1)
        before_re, before_im = re.roll(1, 0), im.roll(1, 0)
        return torch.cat([re * before_re + im * before_im, im * before_re - re * before_im], -1)


class ChargeLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = PairLinear(channels, channels)
        self.norm = ModulusNorm(channels)
        self.beat = Beat()
        self.gate = nn.Linear(2 * channels, channels)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        f = f + self.norm(self.linear(f))
        gate = torch.sigmoid(self.gate(self.beat(f)))
        return f * torch.cat([gate, gate], -1)


class ChargeNet(nn.Module):
    """A signal of charge one, its square of charge two, and beats of none."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.embedding = PairLinear(2, channels)
        self.layers = nn.ModuleList(ChargeLayer(channels) for _ in range(3))
        self.head = PairLinear(channels, 2)
        self.beats = nn.Linear(2 * channels, 3)

    def forward(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        f = self.embedding(torch.cat([z.real, z.imag], -1))
        for layer in self.layers:
            f = layer(f)
        signal = torch.complex(*self.head(f).chunk(2, -1))
        return {"signal": signal, "square": signal[:, 0] * signal[:, 1], "beats": self.beats(Beat()(f))}


def carriers(seed: int) -> Inputs:
    random = generator(seed + 190)
    n = (9, 12, 11)[seed % 3]
    return {"z": torch.complex(normal(random, n, 2), normal(random, n, 2))}


CHARGES = Network(
    "network of charges as pairs of real numbers, 3 layers",
    ChargeNet,
    "U(1)",
    {"z": "time channel charge^1"},
    {"signal": "time channel charge^1", "square": "time charge^2", "beats": "time channel"},
    carriers,
)
CHARGES.healthy("charge_pairs")


@CHARGES.bug(
    "charge_pairs_interleaved",
    "component-order",
    "layers.1.linear",
    respected="C2 in U(1)",
    severity="one layer takes real and imaginary parts to alternate, where real parts come first",
)
class Interleaved(PairLinear):
    def __init__(self) -> None:
        super().__init__(6, 6)

    def parts(self, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return f[:, 0::2], f[:, 1::2]


@CHARGES.bug(
    "charge_pairs_batchnorm",
    "batch-norm",
    "layers.1.norm",
    respected=None,
    severity="gross; running statistics of real and imaginary parts, each on its own",
)
class PartsNorm(nn.BatchNorm1d):
    def __init__(self) -> None:
        super().__init__(12)


@CHARGES.bug(
    "charge_pairs_single_precision",
    "low-precision",
    "layers.2.linear",
    least=1e-9,
    respected="C4 in U(1)",
    severity="one linear map is computed in single precision, also in a network in double precision",
    verdict="PASS",
)
class SingleLinear(PairLinear):
    def __init__(self) -> None:
        super().__init__(6, 6)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        re, im = self.parts(f.float())
        a, b = self.real.float(), self.imaginary.float()
        return torch.cat([re @ a.T - im @ b.T, re @ b.T + im @ a.T], -1).to(f.dtype)


# Odd networks: what is turned upside down goes in, what is turned upside down comes out


class Odd(nn.Module):
    """An odd function of single numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x.abs() - 1)


class OddBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, 3, padding=1, bias=False)
        self.odd = Odd()
        self.loudness = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.odd(self.mix(x.T).T)
        return x + y * torch.sigmoid(self.loudness(x.square().mean(0)))


class OddNet(nn.Module):
    """A prediction that changes sign with the signal, and a volatility that does not."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width, bias=False)
        self.blocks = nn.ModuleList(OddBlock(width) for _ in range(4))
        self.prediction = nn.Linear(width, 2, bias=False)
        self.volatility = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return {"prediction": self.prediction(x), "volatility": self.volatility(x.square())}


def returns(seed: int) -> Inputs:
    return {"x": normal(generator(seed + 200), (10, 13, 12)[seed % 3], 3)}


ODD = Network(
    "odd network of signals, 4 blocks",
    OddNet,
    "Z2",
    {"x": "time channel sign"},
    {"prediction": "time channel sign", "volatility": "time channel"},
    returns,
)
ODD.healthy("odd_signal")


@ODD.bug(
    "odd_signal_relu",
    "nonequivariant-nonlinearity",
    "blocks.2.odd",
    respected=None,
    severity="one of eight channels that change sign goes through ReLU",
)
class HalfOdd(Odd):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([super().forward(x[:, :7]), torch.relu(x[:, 7:])], -1)


# Amplitudes: a spectrum with a unit, by ratios of neighbours


class Ratios(nn.Module):
    """Logarithms of ratios of amplitudes that follow each other: [time, c] -> [time, c]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x.roll(1, 0).abs() / x.abs())


class RatioNet(nn.Module):
    """A denoised spectrum, the power in it, and a class that has no unit."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.ratios = Ratios()
        self.recurrent = nn.LSTM(2, width)
        self.gain = nn.Linear(width, 2)
        self.classes = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.recurrent(torch.tanh(self.ratios(x)))[0]
        clean = x * torch.sigmoid(self.gain(h))
        return {"clean": clean, "power": clean.square().sum(), "classes": self.classes(h[-1])}


def spectra(seed: int) -> Inputs:
    return {"x": 0.2 + normal(generator(seed + 210), (9, 12, 10)[seed % 3], 2).abs()}


AMPLITUDES = Network(
    "recurrent network of ratios of amplitudes",
    RatioNet,
    "Scale",
    {"x": "time channel scale^1"},
    {"clean": "time channel scale^1", "power": "scale^2", "classes": "classes"},
    spectra,
)
AMPLITUDES.healthy("amplitude_ratios")
