"""Images: circular convolutions, strides, patches, group convolutions by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .case import Inputs, entry, generator, mlp, normal

IMAGE: dict[str, str | None] = {"x": "batch channel height width"}
PERIODIC = {"domain": "periodic"}


def images(*sizes: tuple[int, int], channels: int = 2, batch: int = 2) -> Callable[[int], Inputs]:
    return lambda seed: {"x": normal(generator(seed), batch, channels, *sizes[seed % len(sizes)])}


PLAIN = images((7, 10), (9, 11), (10, 7))
EVEN = images((6, 10), (10, 8), (8, 12))
SQUARE = images((7, 7), (9, 9), (6, 6))


def circular(before: int, after: int, size: int = 3, **more: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, padding_mode="circular", **more)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = circular(5, 8), circular(8, 5)
        self.norm = nn.BatchNorm2d(5)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.activation(self.first(self.norm(x))))


@entry("resnet", "image", "T(2)", IMAGE, "batch channel height width", PLAIN, **PERIODIC)
class Resnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = circular(2, 5)
        self.blocks = nn.Sequential(*(Residual() for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.start(x))


@entry("unet", "image", "2T(2)", IMAGE, "batch channel height width", EVEN, **PERIODIC)
class Unet(nn.Module):
    """Maxima of 2 x 2, half the resolution, transposed convolution, skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = circular(2, 5), circular(5, 9), circular(10, 3)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(9, 5, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = torch.relu(self.first(x))
        coarse = torch.relu(self.second(self.pool(fine)))
        return self.last(torch.cat([fine, self.up(coarse)], 1))


@entry("strided_classifier", "image", "4T(2)", IMAGE, "batch classes", images((12, 8), (8, 16), (12, 12)), **PERIODIC)
class StridedClassifier(nn.Module):
    """Two strides, then the mean over pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(circular(2, 5, stride=2), nn.ReLU(), circular(5, 9, stride=2), nn.ReLU())
        self.head = mlp(9, 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


class Padding(nn.Module):
    """Wraps the edges: [b, c, h, w] -> [b, c, h + 2, w + 2]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular")


@entry("padded_by_hand", "image", "T(2)", IMAGE, "batch channel", PLAIN, **PERIODIC)
class PaddedByHand(nn.Module):
    """Padding in a module of its own, before valid convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((2, 5), (5, 5), (5, 8)):
            layers += [Padding(), nn.Conv2d(before, after, 3), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).amax((2, 3))


class ChannelsLast(nn.Module):
    """Depthwise convolution, then norm and linear maps of channels in [b, h, w, c]."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = circular(5, 5, 5, groups=5)
        self.norm = nn.LayerNorm(5)
        self.mlp = mlp(5, 12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return x + y.permute(0, 3, 1, 2)


@entry("convnext", "image", "T(2)", IMAGE, "batch channel height width", PLAIN, **PERIODIC)
class Convnext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(2, 5, 1)
        self.blocks = nn.ModuleList(ChannelsLast() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        for block in self.blocks:
            x = block(x)
        return x


class Tokens(nn.Module):
    """Attention of patches without positions: [b, patches, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.feed = mlp(8, 12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        return x + self.feed(x)


@entry(
    "patches",
    "image",
    "3T(2)",
    IMAGE,
    ("batch channel", "batch channel height width"),
    images((9, 12), (12, 6), (6, 15)),
    **PERIODIC,
)
class Patches(nn.Module):
    """Patches of 3 x 3 as tokens in one row, and back to pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(2, 8, 3, stride=3)
        self.layers = nn.Sequential(Tokens(), Tokens())
        self.sew = nn.ConvTranspose2d(8, 2, 3, stride=3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches = self.cut(x)
        tokens = self.layers(patches.flatten(2).transpose(1, 2))
        return tokens.mean(1), self.sew(tokens.transpose(1, 2).reshape(patches.shape))


class Fourier2(nn.Module):
    """A filter in Fourier space that depends on the frequency, and power spectra as invariants."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(5))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        f = torch.fft.fft2(x)
        h, w = x.shape[-2:]
        k = torch.fft.fftfreq(h)[:, None].square() + torch.fft.fftfreq(w).square()
        f = f * torch.exp(-3 * k.to(x.dtype) * (1 + self.scale.square())[:, None, None])
        return torch.fft.ifft2(f).real, f.abs().square().mean((2, 3)) / (h * w)


@entry(
    "fourier_filters",
    "image",
    "T(2)",
    IMAGE,
    {"x": "batch channel height width", "power": "batch channel"},
    PLAIN,
    **PERIODIC,
)
class FourierFilters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(2, 5, 1)
        self.filters = nn.ModuleList(Fourier2() for _ in range(2))
        self.mix = nn.ModuleList(nn.Conv2d(5, 5, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.start(x)
        power = x.new_zeros(len(x), 5)
        for filter_, mix in zip(self.filters, self.mix, strict=True):
            y, more = filter_(x)
            x, power = x + torch.tanh(mix(y)), power + more
        return {"x": x, "power": power}


# --- group convolutions by hand --------------------------------------------------------------------------------------


def conv(x: torch.Tensor, kernel: torch.Tensor, mode: str) -> torch.Tensor:
    pad = kernel.shape[-1] // 2
    return torch.nn.functional.conv2d(torch.nn.functional.pad(x, (pad,) * 4, mode=mode), kernel)


class Lift(nn.Module):
    """[b, c, h, w] -> [b, d, 4, h, w]: the kernel at each quarter turn."""

    def __init__(self, before: int, after: int, mode: str = "circular") -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(after, before, 3, 3))
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([conv(x, self.kernel.rot90(k, (2, 3)), self.mode) for k in range(4)], 2)


class GroupConv(nn.Module):
    """[b, c, 4, h, w] -> [b, d, 4, h, w]: at each turn the kernel is turned and its group axis shifted."""

    def __init__(self, before: int, after: int, mode: str = "circular") -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(after, before, 4, 3, 3))
        self.bias = nn.Parameter(torch.zeros(after))
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1, 2)
        turned = [self.kernel.rot90(k, (3, 4)).roll(k, 2).flatten(1, 2) for k in range(4)]
        out = torch.stack([conv(flat, kernel, self.mode) for kernel in turned], 2)
        return out + self.bias[:, None, None, None]


@entry("c4_regular", "image", "C4 x T(2)", IMAGE, "batch channel regular height width", SQUARE, **PERIODIC)
class C4Regular(nn.Module):
    """A group axis of its own, under turns and shifts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Lift(2, 5), nn.ReLU(), GroupConv(5, 5), nn.ReLU(), GroupConv(5, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class FlatRegular(nn.Module):
    """A module on [b, c, 4, h, w] as one on [b, 4 c, h, w]."""

    def __init__(self, inner: nn.Module, lifts: bool = False) -> None:
        super().__init__()
        self.inner, self.lifts = inner, lifts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x if self.lifts else x.unflatten(1, (-1, 4))).flatten(1, 2)


class FieldNorm(nn.Module):
    """Statistics of a channel over its four turns."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm3d(5, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


@entry("c4_flattened", "image", "C4", IMAGE, {"x": "batch channel height width", "classes": "batch classes"}, SQUARE)
class C4Flattened(nn.Module):
    """Channels times four turns on one axis; zeros beyond the edge."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            FlatRegular(Lift(2, 5, "constant"), lifts=True), FlatRegular(FieldNorm()), nn.ReLU(),
            FlatRegular(GroupConv(5, 5, "constant")), nn.ReLU(), FlatRegular(GroupConv(5, 5, "constant")), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.layers(x).unflatten(1, (5, 4)).amax(2)
        return {"x": x, "classes": self.head(x.mean((2, 3)))}


class VectorField(nn.Module):
    """Regular channels -> a field of vectors: component along x, then y; a turn of (1, 0) is (0, 1)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, :, 0] - x[:, :, 2], x[:, :, 1] - x[:, :, 3]], 2)


@entry("c4_vector_field", "image", "C4", IMAGE, "batch channel vector height width", SQUARE)
class C4VectorField(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Lift(2, 5, "constant"), nn.Tanh(), GroupConv(5, 3, "constant"), nn.Tanh())
        self.vectors = VectorField()
        self.gate = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = self.vectors(self.layers(x))
        return v * torch.sigmoid(self.gate(v.square().sum(2)))[:, :, None]


def dihedral(kernel: torch.Tensor) -> list[torch.Tensor]:
    """The kernel under the eight elements, turns first."""
    return [turned.rot90(k, (-2, -1)) for turned in (kernel, kernel.flip(-1)) for k in range(4)]


#: Row g, column h: the element g^-1 h, of (turns, flipped) as numbered in ``dihedral``.
TABLE = torch.tensor(
    [[((h - g) % 4 if g < 4 else (g - h) % 4) + (0 if (g < 4) == (h < 4) else 4) for h in range(8)] for g in range(8)]
)


class D4Lift(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(after, before, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([conv(x, kernel, "constant") for kernel in dihedral(self.kernel)], 1)


class D4Conv(nn.Module):
    """[b, 8 c, h, w] -> [b, 8 d, h, w], the group slowest."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(after, 8, before, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernels = dihedral(self.kernel)
        return torch.cat([conv(x, kernels[g][:, TABLE[g]].flatten(1, 2), "constant") for g in range(8)], 1)


@entry("d4_flattened", "image", "D4", IMAGE, "batch channel height width", SQUARE)
class D4Flattened(nn.Module):
    """Reflections too; the group is the slow part of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(D4Lift(2, 5), nn.ReLU(), D4Conv(5, 5), nn.ReLU(), D4Conv(5, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).unflatten(1, (8, 3)).mean(1)


@entry("c4_average", "image", "C4", IMAGE, "batch channel height width", SQUARE)
class C4Average(nn.Module):
    """A plain network with zero padding, called for each turn."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.SiLU(), nn.Conv2d(5, 3, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(self.net(x.rot90(k, (2, 3))).rot90(-k, (2, 3)) for k in range(4)) / 4


class SymmetricKernel(nn.Module):
    """Kernels that depend on the distance from the centre alone."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.rings = nn.Parameter(torch.zeros(after, before, 3))
        self.register_buffer("ring", torch.tensor([[2, 1, 2], [1, 0, 1], [2, 1, 2]]))
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, self.rings[..., self.ring] / 2, self.bias, padding=1)


@entry("isotropic_kernels", "image", "D4", IMAGE, "batch channel height width", SQUARE)
class IsotropicKernels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            SymmetricKernel(2, 5),
            nn.GroupNorm(1, 5),
            nn.SiLU(),
            SymmetricKernel(5, 5),
            nn.SiLU(),
            SymmetricKernel(5, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
