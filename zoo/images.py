"""Images: periodic CNN, Fourier neural operator, CNN on rotations by right angles, flow fields."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, generator, normal


def pictures(sizes: tuple[tuple[int, int], ...], channels: int = 2, batch: int = 2) -> Callable[[int], Inputs]:
    def inputs(seed: int) -> Inputs:
        return {"x": normal(generator(seed + 61), batch, channels, *sizes[seed % len(sizes)])}

    return inputs


# A CNN on the torus


def periodic_sinc(n: int, dtype: torch.dtype) -> torch.Tensor:
    """Interpolates n samples of a period at 2 n places: [2 n, n]."""
    k = torch.arange(-(n // 2), n // 2 + 1, dtype=dtype)
    weight = torch.ones_like(k)
    if n % 2 == 0:
        weight[0] = weight[-1] = 0.5
    at = torch.arange(2 * n, dtype=dtype)[:, None] / 2 - torch.arange(n, dtype=dtype)
    return (torch.cos(2 * torch.pi / n * at[..., None] * k) * weight).sum(-1) / n


class Finer(nn.Module):
    """Twice the resolution, by band-limited interpolation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (periodic_sinc(n, x.dtype) for n in x.shape[-2:])
        return rows @ x @ columns.T


class Smooth(nn.Module):
    """Means over two by two pixels of the torus, at each pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + x.roll(1, -1)
        return (x + x.roll(1, -2)) / 4


class Blur(nn.Module):
    """A learned kernel along the width, for each channel, on the torus."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(width, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = self.kernel[:, :, None, None]
        return k[:, 0] * x.roll(1, -1) + k[:, 1] * x + k[:, 2] * x.roll(-1, -1)


def circular(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="circular")


class TorusBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = circular(width, width)
        self.finer = Finer()
        self.smooth = Smooth()
        self.blur = Blur(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.finer(self.conv(x)))[..., ::2, ::2]
        return x + self.blur(self.smooth(y))


class TorusCnn(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = circular(2, width)
        self.blocks = nn.ModuleList(TorusBlock(width) for _ in range(4))
        self.map = nn.Conv2d(width, 2, 1)
        self.classify = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return {"map": self.map(x), "classes": self.classify(x.square().mean((-1, -2)))}


TORUS = Network(
    "CNN on the torus, 4 blocks, activations at twice the resolution",
    TorusCnn,
    "T(2)",
    {"x": "batch channel height width"},
    {"map": "batch channel height width", "classes": "batch classes"},
    pictures(((8, 10), (12, 8), (10, 10))),
    {"domain": "periodic"},
)
TORUS.healthy("torus_cnn")


@TORUS.bug(
    "torus_zero_padding",
    "padding-boundary",
    "blocks.2.conv",
    respected=None,
    severity="pixels at the border alone: one of five convolutions pads with zeros",
)
def zero_padded() -> nn.Module:
    return nn.Conv2d(6, 6, 3, padding=1)


@TORUS.bug(
    "torus_strided_pooling",
    "striding-aliasing",
    "blocks.1.smooth",
    respected="2T(2)",
    severity="odd shifts alone: pooled by two and repeated",
)
class StridedPool(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2)


@TORUS.bug(
    "torus_aligned_corners",
    "interpolation",
    "blocks.1.finer",
    respected=None,
    severity="bilinear interpolation with aligned corners: its phase drifts across the image",
)
class AlignedCorners(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


@TORUS.bug(
    "torus_blur_backward",
    "wrong-backward",
    "blocks.2.blur",
    evidence="derivative",
    most=1e-6,
    respected="T(2)",
    severity="forward exact; the backward of one blur pads with zeros",
    options={"gradients": True},
)
class BlurFunction(Blur):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, kernel):
            ctx.save_for_backward(x, kernel)
            k = kernel[:, :, None, None]
            return k[:, 0] * x.roll(1, -1) + k[:, 1] * x + k[:, 2] * x.roll(-1, -1)

        @staticmethod
        def backward(ctx, grad):
            x, kernel = ctx.saved_tensors
            padded = functional.pad(grad, (1, 1))
            k = kernel[:, :, None, None]
            left, right = padded[..., 2:], padded[..., :-2]
            to_x = k[:, 0] * left + k[:, 1] * grad + k[:, 2] * right
            to_kernel = torch.stack(
                [(left * x).sum((0, 2, 3)), (grad * x).sum((0, 2, 3)), (right * x).sum((0, 2, 3))], 1
            )
            return to_x, to_kernel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Function.apply(x, self.kernel)


# A Fourier neural operator


class Lift(nn.Module):
    """Fields to channels, pixel by pixel."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, width, 1)

    def extra(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x[:, :1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.cat([x, self.extra(x)], 1))


class Spectral(nn.Module):
    """Multiplies low frequencies by complex matrices; real and imaginary parts are two parameters."""

    modes = 3

    def __init__(self, width: int) -> None:
        super().__init__()
        self.real = nn.Parameter(torch.empty(width, width, 2 * self.modes - 1, self.modes))
        self.imaginary = nn.Parameter(torch.empty(width, width, 2 * self.modes - 1, self.modes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        m = self.modes
        spectrum = torch.fft.rfft2(x)
        low = torch.cat([spectrum[..., :m, :m], spectrum[..., 1 - m :, :m]], -2)
        mixed = torch.einsum("bchw,dchw->bdhw", low, 4 * torch.complex(self.real, self.imaginary))
        out = torch.zeros(x.shape[0], mixed.shape[1], *spectrum.shape[-2:], dtype=spectrum.dtype)
        out[..., :m, :m], out[..., 1 - m :, :m] = mixed[..., :m, :], mixed[..., m:, :]
        return torch.fft.irfft2(out, s=x.shape[-2:])


class OperatorLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.spectral = Spectral(width)
        self.local = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.spectral(x) + self.local(x))


class FourierOperator(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.lift = Lift(width)
        self.layers = nn.Sequential(*(OperatorLayer(width) for _ in range(3)))
        self.project = nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(self.layers(self.lift(x)))


OPERATOR = Network(
    "Fourier neural operator, 3 layers",
    FourierOperator,
    "T(2)",
    {"x": "batch channel height width"},
    "batch channel height width",
    pictures(((9, 8), (12, 11), (10, 10))),
    {"domain": "periodic"},
)
OPERATOR.healthy("fourier_operator")


@OPERATOR.bug(
    "fourier_operator_coordinates",
    "positional-encoding",
    "lift",
    respected="T(1) @ height",
    severity="shifts along the width alone: the column's coordinate is an input channel",
)
class CoordinateLift(Lift):
    def extra(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linspace(0, 1, x.shape[-1], dtype=x.dtype).expand_as(x[:, :1])


# A CNN on the group of right angles: channels [b, c, 4, h, w]


class LiftRight(nn.Module):
    """Correlates with a kernel in four positions."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, 3, 3))
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = [functional.conv2d(x, self.weight.rot90(k, (2, 3)), self.bias, padding=1) for k in range(4)]
        return torch.stack(turned, 2)


class RightConv(nn.Module):
    """A kernel [after, before, 4, 3, 3], turned in space and rolled along the group's axis."""

    def __init__(self, before: int = 4, after: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, 4, 3, 3))
        self.bias = nn.Parameter(torch.zeros(after))

    def turned(self, k: int) -> torch.Tensor:
        return self.weight.rot90(k, (3, 4)).roll(k, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1, 2)
        maps = [functional.conv2d(flat, self.turned(k).flatten(1, 2), self.bias, padding=1) for k in range(4)]
        return torch.stack(maps, 2)


class RightNorm(nn.Module):
    """Batch norm that shares statistics among the four positions."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


class Isotropic(nn.Module):
    """A kernel that is a function of distance."""

    shells = torch.tensor([[2, 1, 2], [1, 0, 1], [2, 1, 2]])

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.profile = nn.Parameter(torch.empty(channels, 3))

    def kernel(self) -> torch.Tensor:
        return self.profile[:, self.shells]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, g, h, w = x.shape
        y = functional.conv2d(x.transpose(1, 2).reshape(-1, c, h, w), self.kernel()[:, None], padding=1, groups=c)
        return y.view(b, g, c, h, w).transpose(1, 2)


class RightLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = RightConv(channels, channels)
        self.norm = RightNorm(channels)
        self.blur = Isotropic(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.blur(torch.relu(self.norm(self.conv(x))))


class RightCnn(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.lift = LiftRight(2, channels)
        self.layers = nn.ModuleList(RightLayer(channels) for _ in range(3))
        self.pool: nn.Module = nn.AvgPool2d(2, 1)
        self.map = nn.Conv2d(channels, 2, 1)
        self.classify = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.lift(x)
        for layer in self.layers:
            x = layer(x)
        x = x.amax(2)
        return {"map": self.map(x), "classes": self.classify(self.pool(x).square().mean((-1, -2)))}


RIGHT = Network(
    "CNN on the group of right angles, 3 layers",
    RightCnn,
    "C4",
    {"x": "batch channel height width"},
    {"map": "batch channel height width", "classes": "batch classes"},
    pictures(((8, 8), (7, 7), (10, 10))),
)
RIGHT.healthy("right_angle_cnn")


@RIGHT.bug(
    "right_angle_roll",
    "custom-layer-bug",
    "layers.1.conv",
    respected=None,
    severity="the kernel for one of four positions is rolled the wrong way",
)
class WrongRoll(RightConv):
    def turned(self, k: int) -> torch.Tensor:
        return super().turned(k) if k != 3 else self.weight.rot90(k, (3, 4)).roll(-k, 2)


@RIGHT.bug(
    "right_angle_batchnorm",
    "batch-norm",
    "layers.1.norm",
    also_right=("layers.1.norm.norm",),
    respected=None,
    severity="running statistics of its own for each of the four positions",
)
class FlatNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.flatten(1, 2)).view_as(x)


@RIGHT.bug(
    "right_angle_instance_norm",
    "train-eval-difference",
    "layers.2.norm",
    also_right=("layers.2.norm.norm",),
    respected=None,
    severity="eval mode alone: in training each map has its own statistics, after it running ones of each position",
)
class TrackingNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(16, track_running_stats=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.flatten(1, 2)).view_as(x)


@RIGHT.bug(
    "right_angle_stride",
    "striding-aliasing",
    "pool",
    respected=None,
    broken=("classes",),
    severity="even sizes and one of two outputs alone: windows of three with stride two and padding one",
)
def strided() -> nn.Module:
    return nn.AvgPool2d(3, 2, 1)


@RIGHT.bug(
    "right_angle_odd_size",
    "size-dependence",
    "pool",
    respected=None,
    broken=("classes",),
    severity="odd sizes and one of two outputs alone: the pooling by two leaves out the last row and column",
)
def halved() -> nn.Module:
    return nn.MaxPool2d(2)


@RIGHT.bug(
    "right_angle_free_kernel",
    "unstable-parameters",
    "layers.1.blur",
    evidence="parameters",
    respected="C4",
    severity="exact at the start of training, when the part of a kernel that nothing ties is zero",
    options={"gradients": True},
)
class FreeKernel(Isotropic):
    def __init__(self) -> None:
        super().__init__()
        self.zero_rest = nn.Parameter(torch.zeros(4, 3, 3))

    def kernel(self) -> torch.Tensor:
        return super().kernel() + self.zero_rest


# Flow fields: (u, v) with v upwards, against the rows


class Invariants(nn.Module):
    """Divergence and speed: [b, 2, h, w] -> [b, 2, h, w]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([rightwards(x[:, 0]) + upwards(x[:, 1]), x.square().sum(1)], 1)


def rightwards(x: torch.Tensor) -> torch.Tensor:
    """Central differences along the width, with zeros beyond."""
    x = functional.pad(x, (1, 1))
    return (x[..., 2:] - x[..., :-2]) / 2


def upwards(x: torch.Tensor) -> torch.Tensor:
    x = functional.pad(x, (0, 0, 1, 1))
    return (x[..., :-2, :] - x[..., 2:, :]) / 2


class ShellConv(nn.Module):
    """A convolution whose kernels are functions of distance."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.profile = nn.Parameter(torch.empty(after, before, 3))
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.profile[:, :, Isotropic.shells], self.bias, padding=1)


class Gradient(nn.Module):
    """The gradient of a pressure, as a field."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return torch.stack([rightwards(p), upwards(p)], 1)


class FlowNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.invariants = Invariants()
        self.layers = nn.ModuleList([ShellConv(2, 6), ShellConv(6, 6), ShellConv(6, 6)])
        self.pressure = nn.Conv2d(6, 1, 1)
        self.gradient = Gradient()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.invariants(x)
        for layer in self.layers:
            y = torch.tanh(layer(y))
        return self.gradient(self.pressure(y)[:, 0])


FLOW = Network(
    "network of flow fields, by kernels that are functions of distance",
    FlowNet,
    "D4",
    {"x": "batch vector height width"},
    "batch vector height width",
    pictures(((9, 9), (8, 8), (7, 7)), batch=1),
)
FLOW.healthy("flow_field")


@FLOW.bug(
    "flow_curl",
    "parity",
    "invariants",
    respected="C4",
    severity="the curl, which a mirror turns round, is taken for an invariant beside the divergence",
)
class Curl(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        divergence = rightwards(x[:, 0]) + upwards(x[:, 1])
        curl = rightwards(x[:, 1]) - upwards(x[:, 0])
        return torch.stack([divergence, x.square().sum(1) + curl], 1)


class DownwardGradient(nn.Module):
    """The gradient in rows and columns, as arrays have it: the second component points down."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return torch.stack([rightwards(p), -upwards(p)], 1)


def flow_downwards() -> nn.Module:
    net = FlowNet()
    net.gradient = DownwardGradient()
    return net


FLOW.but(make=flow_downwards, group="C4").misdeclared(
    "flow_rows_point_down",
    "wrong-output-transform",
    also_right=("gradient",),
    respected="C2",
    severity="outputs turn by the inverse: their second component points along the rows, downwards",
    repair={"out_layouts": "batch @down height width", "representations": {"down": lambda g: g.matrix.T}},
)
