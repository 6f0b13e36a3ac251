"""More images: a U-net without decimation, patches with attention, a CNN on turns and mirrors, polar rings."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, generator, mlp, normal

# A U-net on the torus that keeps its resolution: coarser levels look farther


def wrapped(before: int, after: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, padding_mode="circular")


class Soften(nn.Module):
    """Maxima over four by four pixels of the torus, at each pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis in (-1, -2):
            x = x.maximum(x.roll(1, axis))
            x = x.maximum(x.roll(2, axis))
        return x


class UNet(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = wrapped(2, width)
        self.down = nn.ModuleList(wrapped(width, width, d) for d in (1, 2))
        self.soften = Soften()
        self.bottom = wrapped(width, width, 3)
        self.up = nn.ModuleList(wrapped(2 * width, width, d) for d in (2, 1))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        x = self.stem(x)
        for conv in self.down:
            kept.append(x)
            x = functional.silu(conv(x))
        x = functional.silu(self.bottom(self.soften(x)))
        for conv in self.up:
            x = functional.silu(conv(torch.cat([x, kept.pop()], 1)))
        return self.head(x)


def fields(sizes: tuple[tuple[int, int], ...], channels: int) -> object:
    def inputs(seed: int) -> Inputs:
        return {"x": normal(generator(seed + 170), 2, channels, *sizes[seed % len(sizes)])}

    return inputs


UNET = Network(
    "U-net on the torus, 3 levels without decimation",
    UNet,
    "T(2)",
    {"x": "batch channel height width"},
    "batch channel height width",
    fields(((16, 20), (20, 16), (24, 16)), 2),  # type: ignore[arg-type]
    {"domain": "periodic"},
)
UNET.healthy("u_net")


@UNET.bug(
    "u_net_reflects",
    "padding-boundary",
    "up.1",
    respected=None,
    severity="pixels at the border alone: the last of six convolutions reflects the image at its edge",
)
def reflecting() -> nn.Module:
    return nn.Conv2d(12, 6, 3, padding=1, padding_mode="reflect")


@UNET.bug(
    "u_net_pools_by_four",
    "striding-aliasing",
    "soften",
    respected="4T(2)",
    severity="shifts by other than multiples of four: maxima over blocks, repeated",
)
class BlockMaxima(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(functional.max_pool2d(x, 4), scale_factor=4)


@UNET.bug(
    "u_net_fused_in_eval",
    "train-eval-difference",
    "bottom",
    respected=None,
    severity="eval mode alone: a faster path of one convolution pads with zeros",
)
class FusedConv(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(6, 6, 3, padding=3, dilation=3, padding_mode="circular")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return super().forward(x)
        return functional.conv2d(x, self.weight, self.bias, padding=3, dilation=3)


# Patches of two by two pixels of the torus, with attention


class Place(nn.Module):
    """Adds a learned offset to patches [batch, h, w, c], the same everywhere."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset


class TorusBias(nn.Module):
    """A number for each pair of patches, by how far apart they are on the torus: [h w, h w]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(4, 4))

    def forward(self, h: int, w: int) -> torch.Tensor:
        def apart(n: int) -> torch.Tensor:
            d = torch.arange(n)[:, None] - torch.arange(n)
            return (d % n).minimum(-d % n).clamp_max(3)

        rows, columns = apart(h)[:, None, :, None], apart(w)[None, :, None, :]
        return self.table[rows, columns].reshape(h * w, h * w)


class PatchAttention(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, attn_mask=bias, need_weights=False)[0]


class PatchBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.place = Place(width)
        self.bias = TorusBias()
        self.norm = nn.LayerNorm(width)
        self.attention = PatchAttention(width)
        self.context = nn.MultiheadAttention(width, 2, batch_first=True)
        self.feed = mlp(width, 2 * width, width, nn.GELU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.place(x)
        h, w = x.shape[1:3]
        y = x.flatten(1, 2)
        y = y + self.attention(self.norm(y), self.bias(h, w))
        y = y + self.context(y, y, y, need_weights=False)[0]
        return (y + self.feed(y)).view_as(x)


class Squash(nn.Module):
    """Logits of classes that do not exclude each other to probabilities."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)


class Patches(nn.Module):
    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, width)
        self.blocks = nn.Sequential(*(PatchBlock(width) for _ in range(3)))
        self.head = nn.Linear(width, classes)
        self.squash = Squash()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).flatten(3)
        x = self.blocks(self.embedding(x))
        return self.squash(self.head(x.mean((1, 2))))


PATCHES = Network(
    "vision transformer on the torus, 3 blocks, patches of 2 by 2",
    Patches,
    "2T(2)",
    {"x": "batch channel height width"},
    "batch classes",
    fields(((8, 12), (12, 10), (10, 8)), 2),  # type: ignore[arg-type]
    {"domain": "periodic"},
)
PATCHES.healthy("patches")


@PATCHES.bug(
    "patches_learned_places",
    "positional-encoding",
    "blocks.1.place",
    respected=None,
    severity="a learned table of places, in the middle block",
)
class PlaceTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.empty(8))
        self.table = nn.Parameter(torch.empty(6, 6, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset + 8 * self.table[: x.shape[1], : x.shape[2]]


@PATCHES.bug(
    "patches_places_at_zero",
    "unstable-parameters",
    "blocks.2.place",
    evidence="parameters",
    respected="2T(2)",
    severity="exact as long as a learned table of places is zero, as it is at the start of training",
    options={"gradients": True},
)
class ZeroPlaces(Place):
    def __init__(self) -> None:
        super().__init__(8)
        self.zero_table = nn.Parameter(torch.zeros(6, 6, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.zero_table[: x.shape[1], : x.shape[2]]


@PATCHES.bug(
    "patches_batch_second",
    "batch-cross-talk",
    "blocks.1.context",
    also_right=("blocks.1.context.out_proj",),
    evidence="batch",
    respected="2T(2)",
    severity="attention that expects the batch on the second axis is given it on the first",
    verdict="NEEDS_ATTENTION",
)
def batch_second() -> nn.Module:
    return nn.MultiheadAttention(8, 2)


@PATCHES.but(architecture="vision transformer on the torus, 3 blocks, one class", make=lambda: Patches(classes=1)).bug(
    "patches_softmax_of_one",
    "vacuous-test",
    "squash",
    evidence="vacuous",
    least=1.0,
    respected="2T(2)",
    severity="softmax over one class: the probability is 1 for all images",
    verdict="NEEDS_ATTENTION",
)
class SoftmaxOfOne(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, -1)


# A CNN on turns and mirrors: maps [b, c, 8, h, w], for the elements R^k F^m at the place k + 4 m


def placed(weight: torch.Tensor, k: int, m: int) -> torch.Tensor:
    """A kernel [..., 3, 3], mirrored m times and then turned k times."""
    return (weight.flip(-2) if m else weight).rot90(k, (-2, -1))


def relative(k: int, m: int) -> torch.Tensor:
    """The places of g^-1 h, for g = R^k F^m and all h."""
    return torch.tensor([((j - k) * (-1) ** m) % 4 + 4 * ((m + n) % 2) for n in range(2) for j in range(4)])


def matrices(dtype: torch.dtype) -> torch.Tensor:
    """The matrices [8, 2, 2] of all elements in the plane, y upwards."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=dtype)
    mirror = torch.diag(torch.tensor([1.0, -1.0], dtype=dtype))
    return torch.stack(
        [torch.linalg.matrix_power(turn, k) @ torch.linalg.matrix_power(mirror, m) for m in range(2) for k in range(4)]
    )


class MirrorLift(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [functional.conv2d(x, placed(self.weight, k, m), padding=1) for m in range(2) for k in range(4)]
        return torch.stack(maps, 2)


class MirrorConv(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 8, 3, 3))
        self.bias = nn.Parameter(torch.empty(channels))

    def kernel(self, k: int, m: int) -> torch.Tensor:
        return placed(self.weight[:, :, relative(k, m)], k, m)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1, 2)
        kernels = [self.kernel(k, m).flatten(1, 2) for m in range(2) for k in range(4)]
        return torch.stack([functional.conv2d(flat, w, self.bias, padding=1) for w in kernels], 2)


class Context(nn.Module):
    """Tells each pixel the mean over the image and all elements."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((-3, -2, -1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 2 * torch.tanh(self.linear(self.mean(x)))[..., None, None, None]


class MirrorLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = MirrorConv(channels)
        self.context = Context(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.context(x + functional.silu(self.conv(x)))


class MirrorCnn(nn.Module):
    """A mask, and a field of vectors that is gathered from the elements' directions."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.lift = MirrorLift(2, channels)
        self.layers = nn.ModuleList(MirrorLayer(channels) for _ in range(3))
        self.mask = nn.Conv2d(channels, 1, 1)
        self.along = nn.Parameter(torch.empty(2, channels))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.lift(x)
        for layer in self.layers:
            x = layer(x)
        flow = torch.einsum("gij,jc,bcghw->bihw", matrices(x.dtype), self.along, x)
        return {"mask": self.mask(x.amax(2)), "flow": flow}


MIRRORS = Network(
    "CNN on the group of turns and mirrors, 3 layers, mask and flow",
    MirrorCnn,
    "D4",
    {"x": "batch channel height width"},
    {"mask": "batch channel height width", "flow": "batch @flow height width"},
    fields(((8, 8), (7, 7), (11, 11)), 2),  # type: ignore[arg-type]
    {"representations": {"flow": lambda g: g.matrix}},
)
MIRRORS.healthy("mirror_cnn")
MIRRORS.misdeclared(
    "mirror_cnn_inverse_flow",
    "wrong-output-transform",
    options={"representations": {"flow": lambda g: g.matrix.T}},
    repair={"representations": {"flow": lambda g: g.matrix}},
    respected="C2",
    broken=("flow",),
    severity="quarter turns and one of two outputs alone: the user's representation is that of the inverse",
)


@MIRRORS.bug(
    "mirror_cnn_turned_before",
    "custom-layer-bug",
    "layers.1.conv",
    respected="C2",
    severity="kernels of two of eight elements: mirrored after they are turned, and not before",
)
class TurnedBefore(MirrorConv):
    def kernel(self, k: int, m: int) -> torch.Tensor:
        weight = self.weight[:, :, relative(k, m)]
        return weight.rot90(k, (-2, -1)).flip(-2) if m else placed(weight, k, m)


@MIRRORS.bug(
    "mirror_cnn_corner_context",
    "size-dependence",
    "layers.0.context",
    respected=None,
    severity="images larger than eight pixels alone: the mean is over the first eight rows and columns",
)
class CornerContext(Context):
    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :8, :8].mean((-3, -2, -1))


# Images in polar coordinates: rings whose pixels go round


class RingFilter(nn.Module):
    """A kernel of five for each ring, applied by Fourier transforms: [batch, c, length]."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(channels, 5))

    def period(self, n: int) -> int:
        return n

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[-1]
        period = self.period(n)
        spectrum = torch.fft.rfft(x, period) * torch.fft.rfft(2 * self.kernel, period)
        return torch.fft.irfft(spectrum, period)[..., :n]


class Smoother(nn.Module):
    """Takes away waves shorter than four pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(x)
        waves = torch.arange(spectrum.shape[-1])
        return torch.fft.irfft(spectrum * (4 * waves < x.shape[-1]), x.shape[-1])


class RingLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = RingFilter(channels)
        self.smooth = Smoother()
        self.rings = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.rings(self.smooth(self.filter(x))))


class Rings(nn.Module):
    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(RingLayer(channels) for _ in range(3)))
        self.direction = nn.Conv1d(channels, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.direction(self.layers(x))


def rings(seed: int) -> Inputs:
    return {"x": normal(generator(seed + 180), 2, 6, (18, 24, 20)[seed % 3])}


RINGS = Network(
    "polar images, 3 layers of Fourier filters along rings",
    Rings,
    "T(1)",
    {"x": "batch channel length"},
    "batch channel length",
    rings,
    {"domain": "periodic"},
)
RINGS.healthy("polar_rings")


@RINGS.bug(
    "polar_rings_longer_transform",
    "padding-boundary",
    "layers.1.filter",
    respected=None,
    severity="four pixels at the start of each ring alone: the transform is twice as long as the data",
)
class LongFilter(RingFilter):
    def period(self, n: int) -> int:
        return 2 * n


@RINGS.bug(
    "polar_rings_fixed_size",
    "interpolation",
    "layers.1.smooth",
    respected=None,
    severity="resized to sixteen pixels and back, by linear interpolation",
)
class FixedSize(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.interpolate(x, size=16, mode="linear", align_corners=True)
        return functional.interpolate(y, size=x.shape[-1], mode="linear", align_corners=True)
