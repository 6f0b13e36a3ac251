"""Networks of eight layers with one bug planted at a chosen depth, and the module that is to be blamed for it.

Each ``*_network`` function returns a ``LayerNetwork``: the model, the keyword arguments of ``equicheck.audit`` that go
with it, and the qualified name of the module whose own code breaks the symmetry. Kinds of bug, in every library:

- ``"nonlinearity"``: a componentwise tanh or SiLU, a module of its own class in place of the right one;
- ``"norm"``: a plain LayerNorm, or statistics of single components, in place of the right one;
- ``"linear"``: a plain linear map that mixes components;
- ``"bias"``: a constant vector is added to all components;
- ``"container"``: functional code between two children, in the forward of the layer that holds them.

``strength`` scales what is wrong, 1 being the plain mistake; a bug's size at the output is proportional to it where
it is small. Every bug leaves all other parameters of the network as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from e3nn import o3
from e3nn.nn import BatchNorm, FullyConnectedNet, Gate
from torch import nn

from networks.case import default_dtype, generator

BUGS = ("nonlinearity", "norm", "linear", "bias", "container")
LAYERS = 8
#: Where a bug is planted unless told otherwise: errors have layers before and after it.
DEPTH = 3


@dataclass(frozen=True)
class LayerNetwork:
    """``model, options = network`` too.

    options: keyword arguments of ``equicheck.audit``.
    expected: the module to be blamed, as in ``named_modules``; None for a healthy network.
    """

    model: nn.Module
    options: dict[str, Any]
    expected: str | None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.options))


def place(bug: str | None, at: int | None) -> int | None:
    """The layer of the bug, checked."""
    if bug is None:
        if at is not None:
            raise ValueError("`at` is the place of a bug: say which")
        return None
    if bug not in BUGS:
        raise ValueError(f"no bug `{bug}`; there are {', '.join(BUGS)}")
    at = DEPTH if at is None else at
    if not 0 <= at < LAYERS:
        raise ValueError(f"at={at}: layers are numbered from 0 to {LAYERS - 1}")
    return at


def normal(*shape: int, random: torch.Generator) -> torch.Tensor:
    """In single precision, whatever the default dtype is."""
    return torch.randn(shape, generator=random, dtype=torch.float32)


def redraw(model: nn.Module, seed: int) -> None:
    """Draws all parameters and statistics of norms anew, e3nn's weights from N(0, 1), as it does itself."""
    random = generator(seed)

    def draw(tensor: torch.Tensor, mean: float, deviation: float) -> None:
        drawn = torch.randn(tensor.shape, generator=random, dtype=torch.float64)
        tensor.copy_(mean + deviation * drawn)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm):
                for tensor in (module.running_mean, module.bias):
                    draw(tensor, 0, 0.3)
                for tensor in (module.running_var, module.weight):
                    draw(tensor, 0, 0.2)
                    tensor.exp_()
            elif isinstance(module, nn.Linear):
                draw(module.weight, 0, module.in_features**-0.5)
                if module.bias is not None:
                    draw(module.bias, 0, 0.3)
            else:
                for parameter in module.parameters(recurse=False):
                    draw(parameter, 0, 1)


# --- e3nn ------------------------------------------------------------------------------------------------------------

#: Copies of each degree, of parity (-1)^l.
COPIES = (8, 4, 4, 2, 2)


def irreps(lmax: int) -> o3.Irreps:
    return o3.Irreps([(COPIES[degree], (degree, (-1) ** degree)) for degree in range(lmax + 1)])


def gate(lmax: int) -> Gate:
    hidden = irreps(lmax)
    gates = o3.Irreps([(sum(COPIES[1 : lmax + 1]), "0e")]) if lmax else o3.Irreps("")
    silu = torch.nn.functional.silu
    return Gate(hidden[:1], [silu], gates, [torch.sigmoid] * len(gates), hidden[1:])


class ScalarBias(nn.Module):
    """A learned bias on the scalars: healthy, and nothing that a library knows of."""

    def __init__(self, features: o3.Irreps) -> None:
        super().__init__()
        self.scalars = sum(mul for mul, irrep in features if irrep.is_scalar())
        # The gate's input is sorted: scalars come first.
        self.bias = nn.Parameter(torch.zeros(self.scalars))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., : self.scalars] + 0.3 * self.bias, x[..., self.scalars :]], -1)


class VectorBias(nn.Module):
    """A learned bias on all components, those of vectors and tensors too."""

    def __init__(self, healthy: ScalarBias, size: int, strength: float, seed: int) -> None:
        super().__init__()
        bias = torch.randn(size, generator=generator(seed), dtype=torch.float64) * strength
        bias[: healthy.scalars] = 0.3 * healthy.bias.detach().double()
        self.bias = nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias


class ComponentwiseTanh(nn.Module):
    """The gate in plain code, followed by tanh of every component: a leaf without metadata."""

    def __init__(self, healthy: Gate, strength: float) -> None:
        super().__init__()
        self.scalars = healthy.irreps_scalars.dim
        self.gates = healthy.irreps_gates.dim
        self.degrees = [(mul, irrep.dim) for mul, irrep in healthy.irreps_gated]
        self.strength = strength

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scalars, gates, gated = x.split([self.scalars, self.gates, x.shape[-1] - self.scalars - self.gates], -1)
        factors = torch.cat(
            [
                part.repeat_interleave(dim, -1)
                for part, (_, dim) in zip(gates.split([mul for mul, _ in self.degrees], -1), self.degrees, strict=True)
            ],
            -1,
        )
        y = torch.cat([torch.nn.functional.silu(scalars), factors.sigmoid() * gated], -1)
        return y + self.strength * (torch.tanh(2 * y) - y)


class WeakLayerNorm(nn.LayerNorm):
    """LayerNorm over all components, as much of it as ``strength`` says."""

    strength: float

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.strength * (super().forward(x) - x)


def layer_norm(size: int, strength: float) -> nn.LayerNorm:
    if strength == 1:
        return nn.LayerNorm(size)
    norm = WeakLayerNorm(size)
    norm.strength = strength
    return norm


def mixing(healthy: o3.Linear, strength: float, seed: int) -> nn.Linear:
    """A plain linear layer with the matrix of e3nn's and, relative to its norm, ``strength`` of another."""
    with torch.no_grad():
        matrix = healthy(torch.eye(healthy.irreps_in.dim, dtype=healthy.weight.dtype)).T
        other = torch.randn(matrix.shape, generator=generator(seed), dtype=torch.float64).to(matrix)
        plain = nn.Linear(*reversed(matrix.shape), bias=False)
        plain.weight.copy_(matrix + strength * other * (matrix.norm() / other.norm()))
    return plain


def ramp(x: torch.Tensor, strength: float) -> torch.Tensor:
    """Multiplies component i by a factor of its own: what stands between two children by mistake."""
    return x * (1 + strength * torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype))


def plant(layer: nn.Module, bug: str, strength: float, seed: int) -> str:
    """Puts the bug into a layer of either e3nn network; the name of the culprit, relative to the layer."""
    width = layer.gate.irreps_in.dim
    if bug == "nonlinearity":
        layer.gate = ComponentwiseTanh(layer.gate, strength)
        return "gate"
    if bug == "norm":
        layer.norm = layer_norm(width, strength)
        return "norm"
    if bug == "linear":
        layer.linear = mixing(layer.linear, strength, seed)
        return "linear"
    if bug == "bias":
        layer.shift = VectorBias(layer.shift, width, strength, seed)
        return "shift"
    layer.ramp = strength
    return ""


def culprit(layer: str, inside: str) -> str:
    return f"{layer}.{inside}" if inside else layer


class Block(nn.Module):
    """[..., irreps] -> [..., irreps]: product with itself, linear, norm, bias, gate."""

    def __init__(self, lmax: int) -> None:
        super().__init__()
        features = irreps(lmax)
        self.gate: nn.Module = gate(lmax)
        self.product = o3.FullyConnectedTensorProduct(features, features, features)
        self.linear: nn.Module = o3.Linear(features, self.gate.irreps_in)
        self.norm: nn.Module = BatchNorm(self.gate.irreps_in)
        self.shift: nn.Module = ScalarBias(self.gate.irreps_in)
        self.ramp = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # All irreps by one number: the product is quadratic and would run away.
        x = x / (1e-3 + x.square().mean(-1, keepdim=True)).sqrt()
        x = self.linear(x + 0.5 * self.product(x, x))
        if self.ramp:
            x = ramp(x, self.ramp)
        return self.gate(self.shift(self.norm(x)))


class Stack(nn.Module):
    """Layers one after the other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Convolution(nn.Module):
    """[nodes, irreps] and edges -> [nodes, irreps]: messages by a product with harmonics, then as ``Block``."""

    def __init__(self, lmax: int, radial: int) -> None:
        super().__init__()
        features = irreps(lmax)
        harmonics = o3.Irreps.spherical_harmonics(lmax)
        self.gate: nn.Module = gate(lmax)
        middle: list[tuple[int, o3.Irrep]] = []
        instructions = []
        for i, (mul, irrep) in enumerate(features):
            for j, (_, harmonic) in enumerate(harmonics):
                for product in irrep * harmonic:
                    if product.l <= lmax and product.p == (-1) ** product.l:
                        instructions.append((i, j, len(middle), "uvu", True))
                        middle.append((mul, product))
        messages, permutation, _ = o3.Irreps(middle).sort()
        instructions = [(i, j, permutation[k], mode, weighed) for i, j, k, mode, weighed in instructions]
        self.product = o3.TensorProduct(
            features, harmonics, messages, instructions, shared_weights=False, internal_weights=False
        )
        self.radial = FullyConnectedNet([radial, 16, self.product.weight_numel], torch.nn.functional.silu)
        self.message = o3.Linear(messages.simplify(), self.gate.irreps_in)
        self.linear: nn.Module = o3.Linear(features, self.gate.irreps_in)
        self.norm: nn.Module = BatchNorm(self.gate.irreps_in)
        self.shift: nn.Module = ScalarBias(self.gate.irreps_in)
        self.ramp = 0.0

    def forward(
        self, h: torch.Tensor, edges: torch.Tensor, harmonics: torch.Tensor, distance: torch.Tensor
    ) -> torch.Tensor:
        receiver, sender = edges
        h = h / (1e-3 + h.square().mean(-1, keepdim=True)).sqrt()
        messages = self.product(h[sender], harmonics, self.radial(distance))
        if self.ramp:
            messages = ramp(messages, self.ramp)
        received = h.new_zeros(len(h), messages.shape[-1]).index_add(0, receiver, messages)
        h = self.linear(h) + self.message(received) / 2
        return self.gate(self.shift(self.norm(h)))


class MessageNetwork(nn.Module):
    """positions [nodes, 3], attributes [nodes, 4], edges [2, edges] -> [nodes, irreps]."""

    RADIAL = 6
    ATTRIBUTES = 4

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.width = irreps(lmax).dim
        self.harmonics = o3.SphericalHarmonics(
            o3.Irreps.spherical_harmonics(lmax), normalize=True, normalization="component"
        )
        self.embedding = nn.Linear(self.ATTRIBUTES, COPIES[0])
        self.layers = nn.ModuleList(copies(Convolution(lmax, self.RADIAL)))

    def forward(self, positions: torch.Tensor, attributes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        difference = positions[edges[0]] - positions[edges[1]]
        length = difference.square().sum(-1, keepdim=True).sqrt()
        harmonics = self.harmonics(difference)
        distance = torch.exp(-(length - 0.8 * torch.arange(self.RADIAL, dtype=length.dtype)).square())
        scalars = self.embedding(attributes)
        h = torch.cat([scalars, scalars.new_zeros(len(scalars), self.width - scalars.shape[-1])], -1)
        for layer in self.layers:
            h = layer(h, edges, harmonics, distance)
        return h


def copies(layer: nn.Module) -> list[nn.Module]:
    # e3nn generates code: a copy is far quicker than another construction.
    return [layer, *(deepcopy(layer) for _ in range(LAYERS - 1))]


@cache
def built(kind: str, lmax: int, dtype: torch.dtype) -> nn.Module:
    """A network with constants rounded to ``dtype``, as e3nn does under this default dtype."""
    with default_dtype(dtype):
        model = Stack(copies(Block(lmax))) if kind == "stack" else MessageNetwork(lmax)
        return model.eval()


def e3nn_model(
    kind: str, bug: str | None, at: int | None, lmax: int, seed: int, strength: float, dtype: torch.dtype
) -> tuple[nn.Module, str | None]:
    model = deepcopy(built(kind, lmax, dtype))
    redraw(model, seed)
    expected = None
    if bug is not None and at is not None:
        expected = culprit(f"layers.{at}", plant(model.layers[at], bug, strength, seed + 1))
    return model.eval().to(dtype), expected


def e3nn_factory(arguments: tuple[Any, ...], dtype: torch.dtype) -> nn.Module:
    return e3nn_model(*arguments, dtype)[0]


def e3nn_network(
    bug: str | None = None, at: int | None = None, lmax: int = 2, seed: int = 0, strength: float = 1.0
) -> LayerNetwork:
    """A stack of blocks on [nodes, irreps], node by node; lmax from 1 to 4."""
    arguments = ("stack", bug, place(bug, at), lmax, seed, strength)
    model, expected = e3nn_model(*arguments, torch.float32)
    random = generator(100 + seed)
    layout = f"nodes {irreps(lmax)}"
    options = {
        "inputs": [{"x": normal(nodes, irreps(lmax).dim, random=random)} for nodes in (7, 6, 10)],
        "group": "O(3) x S(nodes)",
        "in_layouts": {"x": layout},
        "out_layouts": layout,
        "factory": partial(e3nn_factory, arguments),
    }
    return LayerNetwork(model, options, expected)


def e3nn_message_network(
    bug: str | None = None, at: int | None = None, lmax: int = 2, seed: int = 0, strength: float = 1.0
) -> LayerNetwork:
    """Message passing over given edges, by products with spherical harmonics of their vectors; lmax from 1 to 4."""
    arguments = ("message", bug, place(bug, at), lmax, seed, strength)
    model, expected = e3nn_model(*arguments, torch.float32)
    random = generator(100 + seed)
    inputs = []
    for nodes in (7, 6, 10):
        pairs = (~torch.eye(nodes, dtype=torch.bool)).nonzero()
        chosen = torch.randperm(len(pairs), generator=random)[: 4 * nodes].sort().values
        inputs.append(
            {
                "positions": 1.2 * normal(nodes, 3, random=random) + normal(3, random=random),
                "attributes": normal(nodes, MessageNetwork.ATTRIBUTES, random=random),
                "edges": pairs[chosen].T.contiguous(),
            }
        )
    options = {
        "inputs": inputs,
        "group": "E(3) x S(nodes)",
        "in_layouts": {"positions": "nodes point", "attributes": "nodes features", "edges": "2 edges : nodes"},
        "out_layouts": f"nodes {irreps(lmax)}",
        "factory": partial(e3nn_factory, arguments),
    }
    return LayerNetwork(model, options, expected)


# --- escnn -----------------------------------------------------------------------------------------------------------

#: Two regular fields of C4 and three of frequency 1, whose components change sign under turns.
REGULAR, TURNING = 2, 3
ORDER = 4
WIDTH = ORDER * REGULAR + 2 * TURNING


def symmetrised(kernel: torch.Tensor, before: Any, after: Any) -> torch.Tensor:
    """The mean of a kernel [out, in, height, width] over C4, each orbit being equal to the last bit.

    escnn rounds the basis of its kernels to single precision, which leaves 1e-6 of an error in double precision.
    """
    turned = []
    for element in before.gspace.fibergroup.elements:
        # The matrices of these fields are signed permutations.
        rho_in, rho_out = (
            torch.from_numpy(fields.representation(element)).round().to(kernel) for fields in (before, after)
        )
        quarters = element.to("int")
        turned.append(torch.einsum("ij,jkhw,lk->ilhw", rho_out, kernel.rot90(quarters, (2, 3)), rho_in))
    a, b, c, d = turned
    # In this order a cyclic shift of the terms does not change the sum.
    mean = ((a + c) + (b + d)) / ORDER
    assert (mean - kernel).norm() < 1e-5 * kernel.norm()
    return mean


def escnn_network(
    bug: str | None = None, at: int | None = None, seed: int = 0, strength: float = 1.0, rounded: bool = False
) -> LayerNetwork:
    """Steerable convolutions under C4 on images of odd size, [batch, 2, height, width] to regular and turning fields.

    rounded: keep escnn's own kernels, whose basis is rounded to single precision: 1e-6 in double precision.
    """
    # escnn cannot be built under another default dtype.
    with default_dtype(torch.float32):
        return _escnn_network(bug, place(bug, at), seed, strength, rounded)


def _escnn_network(bug: str | None, at: int | None, seed: int, strength: float, rounded: bool) -> LayerNetwork:
    from planar_escnn import enn, gspaces

    plane = gspaces.rot2dOnR2(ORDER)
    colours = enn.FieldType(plane, 2 * [plane.trivial_repr])
    fields = enn.FieldType(plane, REGULAR * [plane.regular_repr] + TURNING * [plane.irrep(1)])

    def with_tensor(x: Any, tensor: torch.Tensor) -> Any:
        return enn.GeometricTensor(tensor, x.type)

    class FieldBias(nn.Module):
        """A learned constant for each regular field: healthy."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(REGULAR))

        def forward(self, x: Any) -> Any:
            bias = 0.3 * torch.cat([self.bias.repeat_interleave(ORDER), self.bias.new_zeros(2 * TURNING)])
            return with_tensor(x, x.tensor + bias[:, None, None])

    class ChannelBias(nn.Module):
        """A learned constant for each channel."""

        def __init__(self, healthy: FieldBias) -> None:
            super().__init__()
            bias = torch.zeros(WIDTH)
            bias[: ORDER * REGULAR] = 0.3 * healthy.bias.detach().repeat_interleave(ORDER)
            self.bias = nn.Parameter(bias + strength * normal(WIDTH, random=planted))

        def forward(self, x: Any) -> Any:
            return with_tensor(x, x.tensor + self.bias[:, None, None])

    def squashed(tensor: torch.Tensor) -> torch.Tensor:
        # escnn's own for several kinds of fields return float32 whatever they take, or blow up short vectors.
        regular, turning = tensor.split([ORDER * REGULAR, 2 * TURNING], 1)
        pairs = turning.unflatten(1, (TURNING, 2))
        pairs = pairs / (1 + pairs.square().sum(2, keepdim=True)).sqrt()
        return torch.cat([torch.nn.functional.silu(regular), pairs.flatten(1, 2)], 1)

    class Squash(enn.EquivariantModule):
        """SiLU on regular fields, lengths up to 1 for those that turn."""

        def __init__(self) -> None:
            super().__init__()
            self.in_type = self.out_type = fields

        def forward(self, x: Any) -> Any:
            return with_tensor(x, squashed(x.tensor))

        def evaluate_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
            return shape

    class ComponentwiseSilu(nn.Module):
        """SiLU on components that change sign under turns too."""

        def forward(self, x: Any) -> Any:
            right = squashed(x.tensor)
            return with_tensor(x, right + strength * (torch.nn.functional.silu(x.tensor) - right))

    class PlainBatchNorm(nn.BatchNorm2d):
        """Statistics, factors and constants of single channels."""

        def forward(self, x: Any) -> Any:
            return with_tensor(x, super().forward(x.tensor))

    class PlainConvolution(nn.Conv2d):
        """A kernel without symmetry."""

        def forward(self, x: Any) -> Any:
            return enn.GeometricTensor(super().forward(x.tensor), fields)

    class Layer(nn.Module):
        """Convolution, norm, constants, nonlinearity."""

        def __init__(self, before: Any) -> None:
            super().__init__()
            self.convolution: nn.Module = enn.R2Conv(before, fields, 3, padding=1, bias=False)
            self.norm: nn.Module = enn.IIDBatchNorm2d(fields)
            self.shift: nn.Module = FieldBias()
            self.nonlinearity: nn.Module = Squash()
            self.ramp = 0.0

        def forward(self, x: Any) -> Any:
            x = self.norm(self.convolution(x))
            if self.ramp:
                x = with_tensor(x, ramp(x.tensor.movedim(1, -1), self.ramp).movedim(-1, 1))
            return self.nonlinearity(self.shift(x))

    class Images(nn.Module):
        """Takes and returns plain tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Layer(colours if depth == 0 else fields) for depth in range(LAYERS))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = enn.GeometricTensor(x, colours)
            for layer in self.layers:
                x = layer(x)
            return x.tensor

    planted = generator(seed + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Images()
    random = generator(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FieldBias):
                module.bias.copy_(normal(REGULAR, random=random))
            elif isinstance(module, enn.R2Conv):
                module.weights.mul_(2)  # nonlinearities halve what passes
        # Here escnn makes its kernels, which could not be copied if they had a history.
        model.eval()
        for module in model.modules():
            if isinstance(module, enn.R2Conv) and not rounded:
                module.filter.copy_(symmetrised(module.filter, module.in_type, module.out_type))
    expected = None
    if bug is not None and at is not None:
        layer = model.layers[at]
        inside = ""
        if bug == "nonlinearity":
            layer.nonlinearity, inside = ComponentwiseSilu(), "nonlinearity"
        elif bug == "norm":
            layer.norm, inside = PlainBatchNorm(WIDTH), "norm"
            with torch.no_grad():
                for tensor in (layer.norm.weight, layer.norm.bias, layer.norm.running_mean):
                    tensor.add_(0.5 * strength * normal(WIDTH, random=planted))
        elif bug == "linear":
            kernel = layer.convolution.filter.detach()
            other = normal(*kernel.shape, random=planted)
            plain = PlainConvolution(kernel.shape[1], WIDTH, 3, padding=1, bias=False)
            with torch.no_grad():
                plain.weight.copy_(kernel + strength * other * (kernel.norm() / other.norm()))
            layer.convolution, inside = plain, "convolution"
        elif bug == "bias":
            layer.shift, inside = ChannelBias(layer.shift), "shift"
        else:
            layer.ramp = strength
        expected = culprit(f"layers.{at}", inside)
        with torch.no_grad():
            model.eval()
    random = generator(100 + seed)
    options = {
        "inputs": [{"x": normal(2, 2, size, size, random=random)} for size in (9, 7, 11)],
        "group": "C4",
        "in_layouts": {"x": colours},
        "out_layouts": fields,
    }
    return LayerNetwork(model, options, expected)


# --- plain torch -----------------------------------------------------------------------------------------------------


class Vectors(nn.Module):
    """[nodes, 3, channel] -> the same: vectors treated right, or as ``bug`` says. Healthy: an equivariant squash."""

    def __init__(self, bug: str | None = None, strength: float = 0.0, width: int = 4) -> None:
        super().__init__()
        self.bug, self.strength = bug, strength
        if bug == "bias":
            self.bias = nn.Parameter(torch.tensor([[1.0], [-0.5], [2.0]]).expand(3, width).clone())

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        right = v / (1 + v.square().sum(1, keepdim=True)).sqrt()
        wrong = right
        if self.bug == "nonlinearity":
            wrong = v.tanh()
        elif self.bug == "norm":
            wrong = torch.nn.functional.layer_norm(v, v.shape[1:])
        elif self.bug == "linear":
            wrong = right.roll(1, 1)  # a permutation of x, y, z
        elif self.bug == "bias":
            wrong = right + self.bias
        return right + self.strength * (wrong - right)


class VectorLayer(nn.Module):
    """Scalars [nodes, width] and vectors [nodes, 3, width], messages over all pairs, as in PaiNN."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(2 * width + 1, width), nn.SiLU(), nn.Linear(width, 3 * width))
        self.squash = Vectors(width=width)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU())
        self.ramp = 0.0

    def forward(self, h: torch.Tensor, v: torch.Tensor, difference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n = len(h)
        length = difference.square().sum(-1, keepdim=True)
        pairs = torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), torch.exp(-length / 4)], -1)
        scalars, own, along = self.message(pairs).chunk(3, -1)
        v = v + (own[:, :, None] * v[None] + along[:, :, None] * difference[..., None]).mean(1)
        if self.ramp:
            v = ramp(v.transpose(1, 2), self.ramp).transpose(1, 2)
        v = self.squash(v)
        return h + self.update(torch.cat([scalars.mean(1), v.square().sum(1)], -1)), v


class VectorNetwork(nn.Module):
    """positions [nodes, 3], attributes [nodes, 4] -> vectors [nodes, 3, 4]."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VectorLayer(width) for _ in range(LAYERS))

    def forward(self, positions: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        difference = positions[:, None] - positions[None]
        h, v = attributes, attributes.new_zeros(len(positions), 3, attributes.shape[-1])
        for layer in self.layers:
            h, v = layer(h, v, difference)
        return v


def vector_network(bug: str | None = None, at: int | None = None, seed: int = 0, strength: float = 1.0) -> LayerNetwork:
    """Scalars and vectors in plain torch, no metadata anywhere."""
    at = place(bug, at)
    model = VectorNetwork()
    with torch.no_grad():
        random = generator(seed)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(normal(*module.weight.shape, random=random) * module.in_features**-0.5)
                module.bias.copy_(0.3 * normal(*module.bias.shape, random=random))
    expected = None
    if bug is not None and at is not None:
        expected = f"layers.{at}"
        if bug == "container":
            model.layers[at].ramp = strength
        else:
            model.layers[at].squash = Vectors(bug, strength)
            expected += ".squash"
    random = generator(100 + seed)
    options = {
        "inputs": [
            {"positions": 1.2 * normal(n, 3, random=random), "attributes": normal(n, 4, random=random)}
            for n in (7, 6, 10)
        ],
        "group": "E(3) x S(nodes)",
        "in_layouts": {"positions": "nodes point", "attributes": "nodes features"},
        "out_layouts": "nodes vector channel",
    }
    return LayerNetwork(model.eval(), options, expected)
