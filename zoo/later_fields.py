"""Fields and signals: vorticity on the torus, light in a ring, circular harmonics, shrunk signals."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, generator, mlp, normal

# Vorticity and tracers on the torus, by finite differences whose closure is learned


def ahead(s: torch.Tensor, axis: int) -> torch.Tensor:
    """The neighbour in the direction of x (axis 0) or y (axis 1), which points against the rows."""
    return s.roll(-1, -1) if axis == 0 else s.roll(1, -2)


def behind(s: torch.Tensor, axis: int) -> torch.Tensor:
    return s.roll(1, -1) if axis == 0 else s.roll(-1, -2)


def slope(s: torch.Tensor, axis: int) -> torch.Tensor:
    return (ahead(s, axis) - behind(s, axis)) / 2


class Poisson(nn.Module):
    """The stream function of a vorticity [b, h, w], by the symbol of the five-point Laplacian."""

    def forward(self, omega: torch.Tensor) -> torch.Tensor:
        rows, columns = (
            2 - 2 * torch.cos(2 * torch.pi * torch.arange(n, dtype=omega.dtype) / n) for n in omega.shape[-2:]
        )
        symbol = rows[:, None] + columns
        symbol[0, 0] = 1.0
        spectrum = torch.fft.fft2(omega) / symbol
        return torch.fft.ifft2(spectrum).real - omega.mean((-2, -1), keepdim=True)


class Dealias(nn.Module):
    """Drops the upper third of the waves along both axes."""

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        rows, columns = (torch.fft.fftfreq(n, dtype=s.dtype).abs() < 0.34 for n in s.shape[-2:])
        return torch.fft.ifft2(torch.fft.fft2(s) * (rows[:, None] & columns)).real


class Viscosity(nn.Module):
    """Three viscosities per pixel, from what no turn changes."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = mlp(4, width, 3)

    def spin(self, omega: torch.Tensor) -> torch.Tensor:
        return omega.square()

    def forward(self, omega: torch.Tensor, velocity: torch.Tensor, tracer: torch.Tensor) -> torch.Tensor:
        seen = torch.stack([self.spin(omega), velocity.square().sum(1), *tracer.unbind(1)], -1)
        return torch.sigmoid(self.net(seen)).movedim(-1, 1)


class Diffusion(nn.Module):
    """Divergence of fluxes through the faces between pixels."""

    def forward(self, s: torch.Tensor, viscosity: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(s)
        for axis in range(2):
            flux = (ahead(s, axis) - s) * (ahead(viscosity, axis) + viscosity) / 2
            total = total + flux - behind(flux, axis)
        return total


class Transport(nn.Module):
    """Minus the divergence of what a velocity [b, 2, h, w] carries."""

    def forward(self, s: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        return -sum(slope(velocity[:, axis, None] * s, axis) for axis in range(2))


class EddyStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dealias = Dealias()
        self.poisson = Poisson()
        self.viscosity = Viscosity()
        self.diffusion = Diffusion()
        self.transport = Transport()
        self.reaction = mlp(3, 8, 2)

    def velocity(self, omega: torch.Tensor, wind: torch.Tensor) -> torch.Tensor:
        stream = self.poisson(omega)
        return torch.stack([slope(stream, 1), -slope(stream, 0)], 1) + wind[:, :, None, None]

    def forward(
        self, omega: torch.Tensor, tracer: torch.Tensor, wind: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        omega = self.dealias(omega)
        velocity = self.velocity(omega, wind)
        both = torch.cat([omega[:, None], tracer], 1)
        both = both + 0.3 * self.diffusion(both, self.viscosity(omega, velocity, tracer))
        both = both + 0.4 * self.transport(both, velocity)
        omega, tracer = both[:, 0], both[:, 1:]
        seen = torch.cat([tracer, omega.square()[:, None]], 1).movedim(1, -1)
        return omega, tracer + torch.tanh(self.reaction(seen)).movedim(-1, 1)


class EddyNet(nn.Module):
    """Vorticity, tracers and velocity some steps later, and the enstrophy."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(EddyStep() for _ in range(3))

    def forward(self, omega: torch.Tensor, tracer: torch.Tensor, wind: torch.Tensor) -> dict[str, torch.Tensor]:
        for step in self.steps:
            omega, tracer = step(omega, tracer, wind)
        return {
            "vorticity": omega,
            "tracer": tracer,
            "velocity": self.steps[-1].velocity(omega, wind),
            "enstrophy": omega.square().mean((-2, -1)),
        }


def eddies(seed: int) -> Inputs:
    random = generator(seed + 410)
    n = (9, 8, 11)[seed % 3]
    return {"omega": normal(random, 2, n, n), "tracer": normal(random, 2, 2, n, n), "wind": normal(random, 2, 2)}


EDDY_IN: dict[str, str | None] = {
    "omega": "batch height width pseudoscalar",
    "tracer": "batch channel height width",
    "wind": "batch vector",
}
EDDIES = Network(
    "finite differences of vorticity on the torus with a learned closure, 3 steps",
    EddyNet,
    "D4",
    EDDY_IN,
    {
        "vorticity": "batch height width pseudoscalar",
        "tracer": "batch channel height width",
        "velocity": "batch vector height width",
        "enstrophy": "batch",
    },
    eddies,
)
DRIFTING = EDDIES.but(group="T(2)", options={"domain": "periodic"})
EDDIES.healthy("held_eddies")
EDDIES.misdeclared(
    "held_eddies_wind_stays",
    "untransformed-input",
    in_layouts=EDDY_IN | {"wind": "batch 2"},
    repair={"in_layouts": EDDY_IN},
    respected=None,
    severity="the mean wind, a vector per entry, is declared to be two plain numbers",
)


@DRIFTING.bug(
    "held_eddies_walls",
    "padding-boundary",
    "steps.1.diffusion",
    respected=None,
    severity="pixels at the border alone: no flux through the edge in one of three steps, as between walls",
)
class Walls(nn.Module):
    def forward(self, s: torch.Tensor, viscosity: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(s)
        for axis in (-2, -1):
            count = s.shape[axis] - 1
            face = (viscosity.narrow(axis, 0, count) + viscosity.narrow(axis, 1, count)) / 2
            flux = torch.diff(s, dim=axis) * face
            none = torch.zeros_like(s.narrow(axis, 0, 1))
            total = total + torch.diff(flux, dim=axis, prepend=none, append=none)
        return total


@EDDIES.bug(
    "held_eddies_signed_spin",
    "parity",
    "steps.1.viscosity",
    also_right=("steps.1",),
    respected="C4",
    severity="mirrors alone: in one step the viscosity depends on vorticity with its sign, and not on its square",
)
class SignedSpin(Viscosity):
    def spin(self, omega: torch.Tensor) -> torch.Tensor:
        return omega


@EDDIES.bug(
    "held_eddies_half_spectrum",
    "custom-layer-bug",
    "steps.1.dealias",
    respected="C2",
    severity="quarter turns and mirrors: a filter keeps the first rows of the spectrum and not the negative ones",
)
class HalfSpectrum(nn.Module):
    def forward(self, s: torch.Tensor) -> torch.Tensor:
        height, width = s.shape[-2:]
        spectrum = torch.fft.rfft2(s)
        kept = torch.zeros_like(spectrum)
        rows, columns = height // 3 + 1, width // 3 + 1
        kept[..., :rows, :columns] = spectrum[..., :rows, :columns]
        return torch.fft.irfft2(kept, s=(height, width))


# Light in a ring: dispersion in the spectrum, phases by intensities, a frame by the brightest carrier


class Mix(nn.Module):
    """Multiplies by complex numbers: [b, c, n] -> [b, d, n]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.real = nn.Parameter(torch.empty(after, before))
        self.imaginary = nn.Parameter(torch.empty(after, before))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.complex(self.real, self.imaginary) @ z


class Dispersion(nn.Module):
    """Each wave turns at a rate of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.empty(width, 1))
        self.lag = nn.Parameter(torch.empty(width, 1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        wave = 2 * torch.pi * torch.fft.fftfreq(z.shape[-1], dtype=self.rate.dtype)
        phase = 2 * self.rate * (1 - torch.cos(wave)) + self.lag * torch.sin(wave)
        return torch.fft.ifft(torch.fft.fft(z) * torch.polar(torch.ones_like(phase), phase))


class Kerr(nn.Module):
    """Turns phases by intensities near by and by the pump."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width + 1, width, 3, padding=1, padding_mode="circular")

    def store(self, z: torch.Tensor) -> torch.Tensor:
        return z

    def forward(self, z: torch.Tensor, pump: torch.Tensor) -> torch.Tensor:
        z = self.store(z)
        intensity = z.real.square() + z.imag.square()
        angle = 0.3 * self.conv(torch.cat([intensity, pump[:, None]], 1))
        return z * torch.polar(torch.ones_like(angle), angle)


class Carrier(nn.Module):
    """Mixes real and imaginary parts in the frame of the brightest carrier of each entry, and goes back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = mlp(2 * width, 2 * width, 2 * width)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        mean = (z * (z.real.square() + z.imag.square()).square()).mean((1, 2), keepdim=True)
        frame = mean / mean.abs().clamp_min(1e-30)
        seen = z * frame.conj()
        re, im = self.net(torch.cat([seen.real, seen.imag], 1).mT).mT.chunk(2, 1)
        return z + 0.2 * torch.complex(re, im) * frame


class Amplifier(nn.Module):
    """Weaker where the whole ring is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.empty(1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        level = (z.real.square() + z.imag.square()).mean((1, 2), keepdim=True)
        return z * torch.rsqrt(0.5 + self.offset.square() + level)


class Limiter(nn.Module):
    """Saturates moduli."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * 1.4 * torch.rsqrt(1 + z.real.square() + z.imag.square())


class RingPass(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = Mix(width, width)
        self.dispersion = Dispersion(width)
        self.kerr = Kerr(width)
        self.carrier = Carrier(width)
        self.limiter = Limiter()
        self.amplifier = Amplifier()

    def forward(self, z: torch.Tensor, pump: torch.Tensor) -> torch.Tensor:
        z = self.dispersion(z + 0.5 * self.mix(z))
        return self.amplifier(self.limiter(self.carrier(self.kerr(z, pump))))


class RingNet(nn.Module):
    """The light after three rounds, its second harmonic, its idler, and how it beats with itself."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.couple = Mix(2, width)
        self.passes = nn.ModuleList(RingPass(width) for _ in range(3))
        self.out = Mix(width, 2)
        self.beats = nn.Linear(2 * width, 3)

    def forward(self, z: torch.Tensor, pump: torch.Tensor) -> dict[str, torch.Tensor]:
        inside = self.couple(z)
        for ring_pass in self.passes:
            inside = ring_pass(inside, pump)
        light = self.out(inside)
        beat = (inside * inside.roll(1, -1).conj()).mean(-1)
        return {
            "light": light,
            "harmonic": light[:, 0] * light[:, 1].roll(2, -1),
            "idler": light[:, 1] * light[:, 0].conj().square(),
            "beats": self.beats(torch.cat([beat.real, beat.imag], -1)),
        }


def pulses(seed: int) -> Inputs:
    random = generator(seed + 420)
    n = (10, 13, 12)[seed % 3]
    return {"z": torch.complex(normal(random, 2, 2, n), normal(random, 2, 2, n)), "pump": normal(random, 2, n)}


RING = Network(
    "split-step propagation of complex light in a ring with learned phases, 3 rounds",
    RingNet,
    "U(1) x T(1)",
    {"z": "batch channel length charge^1", "pump": "batch length"},
    {
        "light": "batch channel length charge^1",
        "harmonic": "batch length charge^2",
        "idler": "batch length charge^-1",
        "beats": "batch channel",
    },
    pulses,
    {"domain": "periodic"},
)
RING.healthy("held_ring")


@RING.bug(
    "held_ring_parts_clipped",
    "nonequivariant-nonlinearity",
    "passes.1.limiter",
    respected="C4 in U(1) x T(1)",
    severity="one of four channels: real and imaginary parts are clipped one by one, as converters do",
)
class PartsClipped(Limiter):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(z[:, :1]).clamp(-1.0, 1.0)
        return torch.cat([torch.view_as_complex(parts), super().forward(z[:, 1:])], 1)


@RING.bug(
    "held_ring_half_storage",
    "low-precision",
    "passes.1.kerr",
    least=1e-5,
    respected="C4 in U(1) x T(1)",
    severity="the light is stored in half precision before one of three steps of phases",
    verdict="NEEDS_ATTENTION",
)
class HalfStorage(Kerr):
    def store(self, z: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(z)
        return torch.view_as_complex(parts.half().to(parts.dtype))


@RING.bug(
    "held_ring_running_level",
    "state-drift",
    "passes.1.amplifier",
    evidence="calls",
    respected="U(1) x T(1)",
    severity="a gain follows the level of all calls before, in eval mode too",
    verdict="NEEDS_ATTENTION",
)
class RunningLevel(Amplifier):
    zero_level: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero_level", torch.zeros(1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        level = (z.real.square() + z.imag.square()).mean().detach()
        self.zero_level.lerp_(level[None], 0.2)
        return z * torch.rsqrt(0.5 + self.offset.square() + self.zero_level)


# Circular harmonics: complex fields of orders nought to two on squares, mixed by filters that are waves along circles

Orders = dict[int, torch.Tensor]


class WaveFilters(nn.Module):
    """Convolutions from each order to each; a filter winds as often as the orders differ."""

    def __init__(self, before: dict[int, int], after: dict[int, int], rings: int = 3) -> None:
        super().__init__()
        self.after = after
        self.profile = nn.ParameterDict(
            {f"{m}to{k}": nn.Parameter(torch.empty(after[k], before[m], rings, 2)) for m in before for k in after}
        )

    def basis(self, dtype: torch.dtype) -> torch.Tensor:
        """Waves along circles of three radii that wind -2 to 2 times, on five by five pixels; y is against the rows."""
        place = torch.arange(-2, 3, dtype=dtype)
        x, y = place.expand(5, 5), -place[:, None].expand(5, 5)
        radius = (x.square() + y.square()).sqrt()
        rings = torch.exp(-(radius - torch.arange(3, dtype=dtype)[:, None, None]).square() / 0.6)
        rings = rings / rings.sum((1, 2), keepdim=True)
        wave = torch.complex(x, y) / radius.clamp_min(1.0)
        once, twice = rings * wave, rings * wave.square()
        return torch.stack([twice.conj(), once.conj(), torch.complex(rings, 0 * rings), once, twice])

    def forward(self, fields: Orders) -> Orders:
        basis = self.basis(next(iter(self.profile.values())).dtype).flatten(2)

        def kernel(m: int, k: int) -> torch.Tensor:
            profile = torch.view_as_complex(self.profile[f"{m}to{k}"])
            return (profile @ basis[k - m + 2]).unflatten(-1, (5, 5))

        kernels = torch.cat([torch.cat([kernel(m, k) for m in fields], 1) for k in self.after])
        found = functional.conv2d(torch.cat(list(fields.values()), 1), 2 * kernels, padding=2)
        return dict(zip(self.after, found.split(list(self.after.values()), 1), strict=True))


class PowerNorm(nn.Module):
    """Divides each channel by the root of its running power."""

    running_var: torch.Tensor

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        power = f.real.square() + f.imag.square()
        if self.training:
            self.running_var.lerp_(power.mean((0, 2, 3)).detach(), 0.1)
            return f * torch.rsqrt(power.mean((0, 2, 3), keepdim=True) + 1e-3)
        return f * torch.rsqrt(self.running_var[:, None, None] + 1e-3)


class Vignette(nn.Module):
    """Darkens the corners; what it multiplies by depends on the distance from the centre alone."""

    def mask(self, n: int, dtype: torch.dtype) -> torch.Tensor:
        place = (torch.arange(n, dtype=dtype) - (n - 1) / 2).square()
        return torch.exp(-(place[:, None] + place) / 24)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return f * self.mask(f.shape[-1], f.real.dtype)


class Surround(nn.Module):
    """A coarser copy of the field, read at other pixels by linear weights, and back again."""

    def places(self, coarse: int, fine: int, dtype: torch.dtype) -> torch.Tensor:
        return (torch.arange(coarse, dtype=dtype) + 0.5) * fine / coarse - 0.5

    def weights(self, to: int, size: int, dtype: torch.dtype) -> torch.Tensor:
        wide = max(1.0, size / to)
        apart = self.places(to, size, dtype)[:, None] - torch.arange(size, dtype=dtype)
        hats = (1 - apart.abs() / wide).clamp_min(0)
        return hats / hats.sum(-1, keepdim=True)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        n, dtype = f.shape[-1], f.real.dtype
        both = self.weights(n, 5, dtype) @ self.weights(5, n, dtype)
        both = both.to(f.dtype)
        return f + 0.8 * both @ f @ both.mT


class Interplay(nn.Module):
    """Products of fields, whose orders add up, and gates by moduli."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Conv2d(3 * width, width, 1) for _ in range(3))

    def forward(self, fields: Orders) -> Orders:
        moduli = torch.cat([f.real.square() + f.imag.square() for f in fields.values()], 1)
        products = {
            0: fields[1] * fields[1].roll(1, 1).conj(),
            1: fields[1].conj() * fields[2],
            2: fields[1].square(),
        }
        return {
            k: (f + 0.5 * products[k] * torch.rsqrt(1 + moduli.mean(1, keepdim=True)))
            * torch.sigmoid(gate(torch.log1p(moduli)))
            for gate, (k, f) in zip(self.gates, sorted(fields.items()), strict=True)
        }


class HarmonicBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        widths = dict.fromkeys(range(3), width)
        self.filters = WaveFilters(widths, widths)
        self.norms = nn.ModuleList(PowerNorm(width) for _ in range(3))
        self.vignette = Vignette()
        self.surround = Surround()
        self.interplay = Interplay(width)

    def forward(self, fields: Orders) -> Orders:
        seen = self.filters(fields)
        seen = {k: self.norms[k](seen[k]) for k in range(3)}
        seen[0], seen[1] = self.vignette(seen[0]), self.surround(seen[1])
        new = self.interplay(seen)
        return {k: fields[k] + new[k] for k in range(3)}


class HarmonicNet(nn.Module):
    """A direction and a line at each pixel, and classes of the whole."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.lift = WaveFilters({0: 2}, dict.fromkeys(range(3), width))
        self.blocks = nn.ModuleList(HarmonicBlock(width) for _ in range(3))
        self.heads = WaveFilters(dict.fromkeys(range(3), width), {1: 1, 2: 1})
        self.classes = nn.Linear(3 * width, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        fields = self.lift({0: torch.complex(x, torch.zeros_like(x))})
        for block in self.blocks:
            fields = block(fields)
        out = self.heads(fields)
        power = torch.cat([(f.real.square() + f.imag.square()).mean((-2, -1)) for f in fields.values()], 1)
        return {
            "direction": torch.cat([out[1].real, out[1].imag], 1),
            "line": torch.cat([out[2].real, out[2].imag], 1),
            "classes": self.classes(torch.log1p(power)),
        }


def stamps(seed: int) -> Inputs:
    n = (9, 8, 7)[seed % 3]
    return {"x": normal(generator(seed + 430), 1, 2, n, n)}


HARMONIC = Network(
    "circular harmonics of complex fields, 3 blocks, directions and lines",
    HarmonicNet,
    "C4",
    {"x": "batch channel height width"},
    {"direction": "batch vector height width", "line": "batch @line height width", "classes": "batch classes"},
    stamps,
    {"representations": {"line": lambda g: g.matrix @ g.matrix}},
)
HARMONIC.healthy("held_harmonic")
HARMONIC.misdeclared(
    "held_harmonic_line_turns_once",
    "wrong-output-transform",
    options={"representations": {"line": lambda g: g.matrix}},
    repair={"representations": {"line": lambda g: g.matrix @ g.matrix}},
    respected=None,
    broken=("line",),
    severity="one of three outputs: the user's function turns a line by the angle and not by twice the angle",
)


@HARMONIC.bug(
    "held_harmonic_places_from_corner",
    "interpolation",
    "blocks.1.surround",
    also_right=("blocks.1",),
    respected=None,
    severity="places to read from are counted from the first pixel and not about the centre, in one of three blocks",
)
class CornerPlaces(Surround):
    def places(self, coarse: int, fine: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.arange(coarse, dtype=dtype) * fine / coarse


@HARMONIC.bug(
    "held_harmonic_mask_of_nine",
    "size-dependence",
    "blocks.1.vignette",
    also_right=("blocks.1",),
    respected=None,
    severity="images other than nine by nine alone: a mask is made for nine pixels and cut to size",
)
class MaskOfNine(Vignette):
    def mask(self, n: int, dtype: torch.dtype) -> torch.Tensor:
        return super().mask(9, dtype)[:n, :n]


@HARMONIC.bug(
    "held_harmonic_parts_norm",
    "batch-norm",
    "blocks.1.norms.1",
    also_right=("blocks.1.norms.1.norm",),
    respected=None,
    severity="fields of order one, one of three: running means and variances of real and imaginary parts",
)
class PartsNorm(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(2 * width)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        parts = torch.cat([f.real, f.imag], 1)[:, :, None]
        return torch.complex(*self.norm(parts)[:, :, 0].chunk(2, 1))


# Recordings with a sign and a unit, on a closed track: sparse by medians, read from the loudest place on


def nonzero(x: torch.Tensor) -> torch.Tensor:
    """One where it is zero, so that one may divide by it."""
    return torch.where(x == 0, 1.0, x)


class Bank(nn.Module):
    """Some filters for each channel, apart from the others, without offset."""

    def __init__(self, before: int, each: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(before * each, 1, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * functional.conv1d(functional.pad(x, (2, 2), mode="circular"), self.kernel, groups=x.shape[1])


class Loudness(nn.Module):
    """Weighs channels by their share of the root mean squares of an entry; a channel may be silent."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.weight = nn.Linear(width, width)

    def root(self, power: torch.Tensor) -> torch.Tensor:
        return torch.where(power > 0, nonzero(power).sqrt(), 0.0)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        loud = self.root(h.square().mean(-1))
        share = 4 * loud / nonzero(loud.sum(-1, keepdim=True))
        return 1.5 * h * torch.sigmoid(self.weight(share))[..., None]


class Shrink(nn.Module):
    """Takes from each sample a multiple of the median size in its channel, and no more than it has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.empty(width))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        size = h.abs()
        median = size.sort(-1).values[..., (h.shape[-1] - 1) // 2]
        return h - h.sgn() * torch.minimum(size, (torch.sigmoid(self.level) * median)[..., None])


class FromPeak(nn.Module):
    """Weights by place, counted from where an entry is loudest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.waves = nn.Parameter(torch.empty(width, 4))

    def energy(self, h: torch.Tensor) -> torch.Tensor:
        return h.square().mean(1)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        n = h.shape[-1]
        place = torch.arange(n)
        first = self.energy(h).argmax(-1, keepdim=True)
        order = ((place + first) % n)[:, None].expand_as(h)
        back = ((place - first) % n)[:, None].expand_as(h)
        angle = 2 * torch.pi * place.to(h.dtype) / n
        waves = torch.stack([angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()])
        return (h.gather(-1, order) * (1 + self.waves @ waves)).gather(-1, back)


class Volume(nn.Module):
    """A factor per channel."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h * self.weight[:, None]


class TrackBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.loudness = Loudness(width)
        self.shrink = Shrink(width)
        self.volume = Volume(width)
        self.peak = FromPeak(width)
        self.mix = nn.Conv1d(width, width, 3, padding=1, padding_mode="circular", bias=False)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.peak(self.shrink(self.volume(self.mix(self.loudness(h)))))


class TrackNet(nn.Module):
    """A cleaner recording, its level, its power, its largest samples, and classes by shape alone."""

    def __init__(self, channels: int = 3, width: int = 6) -> None:
        super().__init__()
        self.bank = Bank(channels, width // channels)
        self.blocks = nn.ModuleList(TrackBlock(width) for _ in range(3))
        self.clean = nn.Conv1d(width, channels, 1, bias=False)
        self.classes = mlp(width, width, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.bank(x)
        for block in self.blocks:
            h = block(h)
        power = h.square().mean(-1)
        size = h.abs().sort(-1, descending=True).values
        return {
            "clean": x + self.clean(h),
            "level": size.mean((1, 2)),
            "power": power,
            "largest": size[..., :3],
            "classes": self.classes(power / nonzero(size.mean(-1).square())),
        }


def tracks(seed: int) -> Inputs:
    n = (12, 15, 10)[seed % 3]
    return {"x": normal(generator(seed + 440), 3, 3, n)}


def silent(seed: int) -> Inputs:
    """One channel of one entry is dead."""
    x = tracks(seed)["x"]
    x[0, 1] = 0.0
    return {"x": x}


TRACKS = Network(
    "recordings with sign and unit, thresholds by medians, weights from the loudest place, 3 blocks",
    TrackNet,
    "T(1) x Z2 x Scale",
    {"x": "batch channel length sign scale^1"},
    {
        "clean": "batch channel length sign scale^1",
        "level": "batch scale^1",
        "power": "batch channel scale^2",
        "largest": "batch channel 3 scale^1",
        "classes": "batch classes",
    },
    tracks,
    {"domain": "periodic"},
)
TRACKS.healthy("held_tracks")


@TRACKS.bug(
    "held_tracks_taper",
    "positional-encoding",
    "blocks.1.volume",
    also_right=("blocks.1",),
    respected="Z2 x Scale",
    severity="a few thousandths: one of six channels is tapered towards the ends of the array, as windows are",
    verdict="NEEDS_ATTENTION",
)
class Taper(Volume):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        n = h.shape[-1]
        window = torch.sin(torch.pi * (torch.arange(n, dtype=h.dtype) + 0.5) / n)
        h = super().forward(h)
        return torch.cat([h[:, :4], h[:, 4:5] * (0.99 + 0.01 * window), h[:, 5:]], 1)


@TRACKS.but(inputs=silent).bug(
    "held_tracks_root_of_silence",
    "nan-gradient",
    "blocks.0.loudness",
    also_right=("blocks.0",),
    evidence="nan",
    respected="T(1) x Z2 x Scale",
    severity="forward exact; where a channel is silent the root of its power is masked after it was taken",
    options={"gradients": True},
)
class RootOfSilence(Loudness):
    def root(self, power: torch.Tensor) -> torch.Tensor:
        return torch.where(power > 0, power.sqrt(), 0.0)


@TRACKS.bug(
    "held_tracks_common_peak",
    "batch-cross-talk",
    "blocks.1.peak",
    also_right=("blocks.1",),
    evidence="batch",
    respected="T(1) x Z2 x Scale",
    severity="in one block the loudest place is sought in all entries together",
    verdict="NEEDS_ATTENTION",
)
class CommonPeak(FromPeak):
    def __init__(self) -> None:
        super().__init__(6)

    def energy(self, h: torch.Tensor) -> torch.Tensor:
        return super().energy(h).mean(0, keepdim=True).expand(len(h), -1)
