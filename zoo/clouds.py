"""Point clouds: EGNN, vector neurons, frame averaging, edge frames, PointNet with voxels, DGCNN."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from .case import Inputs, Network, Pair, bumps, cloud, generator, mlp, normal, pairs


def offsets(x: torch.Tensor) -> Pair:
    """x_i - x_j [n, n, 3], and squares of their lengths [n, n]."""
    d = x[:, None] - x[None]
    return d, d.square().sum(-1)


# EGNN


class Neighbours(nn.Module):
    """Weights of pairs [n, n], which go to zero smoothly at the cutoff."""

    def __init__(self, cutoff: float = 4.0) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        r2 = offsets(x)[1] / self.cutoff**2
        return (1 - r2).clamp_min(0).square() * (1 - torch.eye(len(x), dtype=x.dtype))


class Geometry(nn.Module):
    """Offsets divided by a length [n, n, 3], and functions of distance [n, n, 4]."""

    def forward(self, x: torch.Tensor) -> Pair:
        d, r2 = offsets(x)
        return d / (1 + r2[..., None]), bumps(r2)


class LimitedStep(nn.Module):
    """Keeps steps [n, 3] shorter than one, by their length."""

    def forward(self, step: torch.Tensor) -> torch.Tensor:
        return step / (1 + step.square().sum(-1, keepdim=True)).sqrt()


class EgnnLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.geometry = Geometry()
        self.message = mlp(2 * width + 4, width, width)
        self.shift = mlp(width, width, 1)
        self.limit = LimitedStep()
        self.update = mlp(2 * width, width, width)

    def forward(self, h: torch.Tensor, x: torch.Tensor, weights: torch.Tensor) -> Pair:
        d, functions = self.geometry(x)
        m = self.message(pairs(h, functions)) * weights[..., None]
        x = x + self.limit((d * self.shift(m) * weights[..., None]).sum(1))
        return h + self.update(torch.cat([h, m.sum(1)], -1)), x


class Egnn(nn.Module):
    """Moves points, and gives an energy."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.neighbours = Neighbours()
        self.embedding = nn.Linear(4, width)
        self.layers = nn.ModuleList(EgnnLayer(width) for _ in range(4))
        self.readout = mlp(width, width, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        weights = self.neighbours(x)
        h = self.embedding(h)
        for layer in self.layers:
            h, x = layer(h, x, weights)
        return {"x": x, "energy": self.readout(h).sum()}


EGNN = Network(
    "EGNN, 4 layers, smooth cutoff",
    Egnn,
    "E(3) x S(nodes)",
    {"x": "nodes point", "h": "nodes features"},
    {"x": "nodes point", "energy": ""},
    cloud(),
)
EGNN.healthy("egnn")
EGNN.misdeclared(
    "egnn_points_as_vectors",
    "wrong-declaration",
    out_layouts={"x": "nodes vector", "energy": ""},
    repair={"out_layouts": EGNN.out_layouts},
    respected="O(3) x S(nodes)",
    broken=("x",),
    severity="one of two outputs: positions are declared vectors, which a translation leaves alone",
)


@EGNN.bug(
    "egnn_tanh_step",
    "nonequivariant-nonlinearity",
    "layers.2.limit",
    also_right=("layers.2",),
    respected="Oh x T(3) x S(nodes)",
    severity="gross; each component of a step on its own, so that right angles pass",
)
class TanhStep(nn.Module):
    def forward(self, step: torch.Tensor) -> torch.Tensor:
        return (4 * step).tanh()


@EGNN.bug(
    "egnn_absolute_distance",
    "translation-leak",
    "layers.1.geometry",
    respected="O(3) x S(nodes)",
    severity="a leak of 1e-3: one distance function also sees how far a point is from the origin",
    verdict="NEEDS_ATTENTION",
)
class LeakyGeometry(Geometry):
    def forward(self, x: torch.Tensor) -> Pair:
        d, functions = super().forward(x)
        leak = 1e-3 * x.square().sum(-1).sqrt()[:, None, None].expand(len(x), len(x), 1)
        return d, torch.cat([functions[..., :3], functions[..., 3:] + leak], -1)


@EGNN.bug(
    "egnn_neighbour_cap",
    "neighbour-cap",
    "neighbours",
    respected="E(3)",
    severity="at most 4 neighbours each, the first by number, as of a list that is cut",
)
class CappedNeighbours(Neighbours):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = super().forward(x)
        rank = (weights > 0).cumsum(1)
        return weights * (rank <= 4)


@EGNN.bug(
    "egnn_box_cutoff",
    "custom-layer-bug",
    "neighbours",
    respected="Oh x T(3) x S(nodes)",
    severity="far pairs alone, and no right angle shows it: a second cutoff by the largest component, from 2 to 3",
)
class BoxNeighbours(Neighbours):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (3 - offsets(x)[0].abs().amax(-1)).clamp(0, 1)


@EGNN.bug(
    "egnn_jitter",
    "randomness",
    "layers.1.limit",
    evidence="calls",
    respected=None,
    severity="steps are drawn around their mean, in eval mode too",
    verdict="NEEDS_ATTENTION",
)
class Jitter(LimitedStep):
    def forward(self, step: torch.Tensor) -> torch.Tensor:
        return super().forward(step + 0.05 * torch.randn_like(step))


@EGNN.bug(
    "egnn_detached_offsets",
    "detached-gradient",
    "layers.2.geometry",
    evidence="derivative",
    most=1e-6,
    respected="E(3) x S(nodes)",
    severity="forward exact; one layer's offsets are cut from the graph",
    verdict="PASS",
    options={"gradients": True},
)
class DetachedGeometry(Geometry):
    def forward(self, x: torch.Tensor) -> Pair:
        d, functions = super().forward(x)
        return d.detach(), functions


# Vector neurons


class VectorLinear(nn.Module):
    """Mixes channels of vectors: [batch, points, c, 3]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...ck,dc->...dk", v, self.weight)


class VectorNorm(nn.Module):
    """Batch norm of the lengths."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        length = (v.square().sum(-1) + 1e-6).sqrt()
        scaled = self.norm(length.flatten(0, 1)).unflatten(0, length.shape[:2])
        return v * (scaled.sigmoid() / length)[..., None]


class VectorReLU(nn.Module):
    """Cuts what points against a learned direction."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.direction = VectorLinear(channels, channels)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        k = self.direction(v)
        along = (v * k).sum(-1, keepdim=True)
        return v - along.clamp_max(0) / (k.square().sum(-1, keepdim=True) + 1e-3) * k


class VectorMix(nn.Module):
    """Adds to each vector the mean over points, turned by nothing."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.linear = VectorLinear(channels, channels)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v + self.linear(v.mean(1, keepdim=True))


class ChannelDrop(nn.Module):
    """Dropout of whole vectors, the same for all points and entries."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return v
        keep = torch.rand(v.shape[2], dtype=v.dtype) < 0.7
        return v * keep[:, None] / 0.7


class Centre(nn.Module):
    """Takes the centroid away."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v - v.mean(1, keepdim=True)


class VectorBlock(nn.Module):
    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.linear = VectorLinear(before, channels)
        self.norm = VectorNorm(channels)
        self.act = VectorReLU(channels)
        self.mix = VectorMix(channels)
        self.drop = ChannelDrop()

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.drop(self.mix(self.act(self.norm(self.linear(v)))))


class VectorNeurons(nn.Module):
    """[batch, points, 2, 3] -> a vector and invariant features per entry."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = Centre()
        self.blocks = nn.ModuleList(VectorBlock(before, 6) for before in (2, 6, 6))
        self.head = VectorLinear(6, 1)
        self.classify = mlp(6, 8, 3)

    def forward(self, v: torch.Tensor) -> dict[str, torch.Tensor]:
        v = self.centre(v)
        for block in self.blocks:
            v = block(v)
        v = v.mean(1)
        return {"axis": self.head(v)[:, 0], "classes": self.classify(v.square().sum(-1))}


def shapes(seed: int) -> Inputs:
    return {"v": normal(generator(seed + 3), 3, (7, 8, 6)[seed % 3], 2, 3) + 0.3}


NEURONS = Network(
    "vector neurons, 3 blocks",
    VectorNeurons,
    "O(3) x S(points)",
    {"v": "batch points channel vector"},
    {"axis": "batch vector", "classes": "batch classes"},
    shapes,
)
NEURONS.healthy("vector_neurons")


@NEURONS.bug(
    "vector_neurons_batchnorm",
    "batch-norm",
    "blocks.1.norm",
    also_right=("blocks.1.norm.norm",),
    respected="S(points)",
    severity="gross; running statistics of each component",
)
class ComponentNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(18)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.norm(v.flatten(2).flatten(0, 1)).view_as(v)


@NEURONS.bug(
    "vector_neurons_cross",
    "parity",
    "blocks.1.mix",
    respected="SO(3) x S(points)",
    severity="a cross product of two true vectors is added to one of six channels",
)
class CrossMix(VectorMix):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        mixed = super().forward(v)
        axial = torch.linalg.cross(v[..., 0, :], mixed[..., 1, :])
        return torch.cat([mixed[..., :5, :], mixed[..., 5:, :] + axial[..., None, :]], -2)


@NEURONS.bug(
    "vector_neurons_dropout",
    "train-eval-difference",
    "blocks.1.drop",
    respected=None,
    severity="train mode alone: dropout of components",
    options={
        "mode": "train",
        "randomness": "transform",
        "noise_layouts": ["channel", "batch points channel 3", "channel"],
    },
    repair={"noise_layouts": ["channel", "channel", "channel"]},
)
class ComponentDrop(nn.Dropout):
    def __init__(self) -> None:
        super().__init__(0.3)


@NEURONS.bug(
    "vector_neurons_running_centre",
    "train-eval-difference",
    "centre",
    respected="S(points)",
    severity="eval mode alone: the centroid is taken away in training, a running mean of centroids after it",
)
class RunningCentre(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(2, 3))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return v - self.running_mean
        mean = v.mean(1, keepdim=True)
        self.running_mean.lerp_(mean.detach().mean((0, 1)), 0.1)
        return v - mean


# Frame averaging


class PrincipalFrames(nn.Module):
    """All frames [8, 3, 3] along the principal axes, of both signs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes = torch.linalg.eigh(x.T @ x)[1].T
        signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)), dtype=x.dtype)
        return signs[:, :, None] * axes


class PointNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.local = mlp(7, 12, 12)
        self.head = mlp(24, 12, 3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        f = self.local(torch.cat([x, h.expand(len(x), -1, -1)], -1))
        return self.head(torch.cat([f, f.amax(1, keepdim=True).expand_as(f)], -1))


class FrameAverage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frames = PrincipalFrames()
        self.net = PointNet()

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(0)
        frames = self.frames(x)
        local = self.net(torch.einsum("fak,nk->fna", frames, x), h)
        return torch.einsum("fak,fna->nk", frames, local) / len(frames)


FRAMES = Network(
    "PointNet in principal frames",
    FrameAverage,
    "E(3) x S(nodes)",
    {"x": "nodes point", "h": "nodes features"},
    "nodes vector",
    cloud(),
)
FRAMES.healthy("frame_averaging")


@FRAMES.bug(
    "frame_of_one_sign",
    "discontinuity",
    "frames",
    also_right=("",),
    respected="T(3) x S(nodes)",
    severity="one frame, with the signs of eigenvectors that LAPACK happens to give",
)
class OneFrame(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigh(x.T @ x)[1].T[None]


# Edge frames, as in networks that turn each edge onto the pole


class EdgeFrames(nn.Module):
    """A rotation [n, n, 3, 3] for each pair, whose last row is the direction of the pair; smooth nowhere needed."""

    def forward(self, d: torch.Tensor) -> torch.Tensor:
        u = d / d.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        helper = torch.zeros_like(u)
        helper.scatter_(-1, u.abs().argmin(-1, keepdim=True), 1.0)
        a = torch.linalg.cross(helper, u)
        a = a / a.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        return torch.stack([a, torch.linalg.cross(u, a), u], -2)


class Circular(nn.Module):
    """Mixes in a frame what turns alike about its pole: channels along it, and pairs across it as complex numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.along = nn.Linear(channels, channels, bias=False)
        self.real = nn.Linear(channels, channels, bias=False)
        self.imaginary = nn.Linear(channels, channels, bias=False)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        x, y, z = v.unbind(-1)
        re = self.real(x) - self.imaginary(y)
        im = self.imaginary(x) + self.real(y)
        return torch.stack([re, im, self.along(z)], -1)


class EdgeFrameLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frames = EdgeFrames()
        self.mix = Circular(channels)
        self.radial = mlp(4, 8, channels)

    def forward(self, v: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        n = len(v)
        frames = self.frames(d)
        local = torch.einsum("ijak,jck->ijca", frames, v)
        mixed = self.mix(local) * self.radial(bumps(d.square().sum(-1)))[..., None]
        message = torch.einsum("ijak,ijca->ijck", frames, mixed)
        return v + (message * (1 - torch.eye(n, dtype=v.dtype))[..., None, None]).mean(1)


class EdgeFrameNet(nn.Module):
    def __init__(self, channels: int = 5) -> None:
        super().__init__()
        self.start = mlp(4, 8, channels)
        self.layers = nn.ModuleList(EdgeFrameLayer(channels) for _ in range(3))
        self.head = VectorLinear(channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d, r2 = offsets(x)
        v = torch.einsum("ijc,ijk->ick", self.start(bumps(r2)), d / (1 + r2[..., None]))
        for layer in self.layers:
            v = layer(v, d)
        return self.head(v)[:, 0]


EDGE_FRAMES = Network(
    "vectors in frames of edges, mixed about the edge",
    EdgeFrameNet,
    "SE(3) x S(nodes)",
    {"x": "nodes point"},
    "nodes vector",
    cloud(features=0),
)
EDGE_FRAMES.healthy("edge_frames")


def far(seed: int) -> Inputs:
    return {"x": cloud(features=0)(seed)["x"] + 100}


EDGE_FRAMES.but(inputs=far).rounding(
    "edge_frames_far_away",
    "numerical-precision",
    least=5e-6,
    severity="exact in double precision; points a hundred times as far from the origin as from each other",
    verdict="PASS",
)


@EDGE_FRAMES.bug(
    "edge_frames_pole",
    "chart-singularity",
    "layers.1.frames",
    respected="SO(2) @ (0,1,0) x T(3) x S(nodes)",
    severity="edges within 8 degrees of the y axis alone: the sine of the polar angle is clamped",
    elements=16,
)
class PolarFrames(nn.Module):
    def forward(self, d: torch.Tensor) -> torch.Tensor:
        u = d / d.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        x, _, z = u.unbind(-1)
        sine = (x.square() + z.square()).sqrt().clamp_min(0.14)
        a = torch.stack([z / sine, torch.zeros_like(x), -x / sine], -1)
        return torch.stack([a, torch.linalg.cross(u, a), u], -2)


# PointNet with a branch that smooths features in space


class RadialSmoothing(nn.Module):
    """Means of features over a ball: [n, 3], [n, c] -> [n, c]."""

    def forward(self, x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        weights = torch.exp(-offsets(x)[1])
        return weights @ f / weights.sum(1, keepdim=True)


class PointVoxelLayer(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.points = mlp(before, 12, after)
        self.smooth = RadialSmoothing()
        self.merge = nn.Linear(2 * after, after)

    def forward(self, x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        f = self.points(f)
        return torch.tanh(self.merge(torch.cat([f, 3 * self.smooth(x, f)], -1)))


class PointVoxelNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([PointVoxelLayer(4, 10), PointVoxelLayer(10, 10), PointVoxelLayer(10, 10)])
        self.parts = nn.Linear(10, 3)
        self.shape = mlp(10, 8, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        for layer in self.layers:
            h = layer(x, h)
        return {"parts": self.parts(h), "shape": self.shape(h.amax(0))}


POINT_VOXEL = Network(
    "PointNet with a branch of neighbourhoods, 3 layers",
    PointVoxelNet,
    "E(3) x S(points)",
    {"x": "points point", "h": "points features"},
    {"parts": "points classes", "shape": "classes"},
    cloud((12, 15, 10), spread=0.9),
)


@POINT_VOXEL.bug(
    "point_voxel_trilinear",
    "interpolation",
    "layers.1.smooth",
    respected="Oh x S(points)",
    severity="features go through a grid of voxels and back, by trilinear weights",
)
class Voxels(nn.Module):
    def forward(self, x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        ticks = 1.6 * torch.arange(-6.0, 7.0, dtype=x.dtype)
        tents = (1 - (x[:, None] - ticks[:, None]).abs() / 1.6).clamp_min(0)
        weights = torch.einsum("na,nb,nc->nabc", *tents.unbind(-1)).flatten(1)
        sums, mass = weights.T @ f, weights.sum(0)[:, None]
        return weights @ (sums / mass.clamp_min(1e-6))


# DGCNN on regular lattices


class RadiusGraph(nn.Module):
    """All that are nearer than a radius that no distance of the lattice is close to: [n, n]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (offsets(x)[1] < 1.2**2).to(x.dtype)


class EdgeConv(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mlp = mlp(2 * before + 4, 12, after)

    def forward(self, f: torch.Tensor, functions: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        return (self.mlp(pairs(f, functions)) * near[..., None]).sum(1) / 4


class Dgcnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.near = RadiusGraph()
        self.convs = nn.ModuleList([EdgeConv(4, 8), EdgeConv(8, 8), EdgeConv(8, 8)])
        self.classify = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        near, functions = self.near(x), bumps(offsets(x)[1])
        for conv in self.convs:
            h = conv(h, functions, near)
        return self.classify(h)


def lattice(seed: int) -> Inputs:
    """Points of a cubic lattice, with random features."""
    sizes = [(2, 3, 3), (3, 3, 3), (2, 2, 4)][seed % 3]
    axes = [torch.arange(n, dtype=torch.get_default_dtype()) for n in sizes]
    x = torch.cartesian_prod(*axes)
    return {"x": x + 0.3, "h": normal(generator(seed), len(x), 4)}


DGCNN = Network(
    "DGCNN on a lattice",
    Dgcnn,
    "E(3) x S(points)",
    {"x": "points point", "h": "points features"},
    "points classes",
    lattice,
)
DGCNN.healthy("dgcnn_lattice")


@DGCNN.bug(
    "dgcnn_ties",
    "neighbour-cap",
    "near",
    respected="Oh",
    severity="the 4 nearest of up to 6 at equal distance: rounding chooses, in double precision too",
    verdict="NEEDS_ATTENTION",
)
class Nearest(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        r2 = offsets(x)[1]
        return torch.zeros_like(r2).scatter(1, r2.topk(5, largest=False).indices, 1.0)
