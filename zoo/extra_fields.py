"""Extra fields and graphs: recurrent convolutions, axial attention, pairs with triangles, states of directed edges."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, gathered, generator, mlp, normal

# Frames of a periodic domain, read one after the other by recurrent convolutions


class Wrap(nn.Module):
    """One pixel more on each side, from the opposite edge."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, (1, 1, 1, 1), mode="circular")


class WrappedConv(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.pad = Wrap()
        self.conv = nn.Conv2d(before, after, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.pad(x))


class Peephole(nn.Module):
    """What the gates see of the state itself: a weight per channel."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return 3 * self.scale[:, None, None] * state


class Cell(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = WrappedConv(2 * width, 2 * width)
        self.peephole = Peephole(width)
        self.candidate = WrappedConv(2 * width, width)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        update, reset = self.gates(torch.cat([x, state], 1)).chunk(2, 1)
        update = torch.sigmoid(update + self.peephole(state))
        new = torch.tanh(self.candidate(torch.cat([x, torch.sigmoid(reset) * state], 1)))
        return state + update * (new - state)


class Surroundings(nn.Module):
    """A convolution over every second pixel around each: channels [b, c, h, w], kept apart."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(width, 1, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.pad(x, (2, 2, 2, 2), mode="circular")
        return functional.conv2d(x, self.kernel, dilation=2, groups=len(self.kernel))


class Forecast(nn.Module):
    """The next frame, and a class of the whole sequence."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Conv2d(2, width, 1)
        self.cells = nn.ModuleList(Cell(width) for _ in range(2))
        self.surroundings = Surroundings(width)
        self.mix = nn.Conv2d(2 * width, width, 1)
        self.frame = nn.Conv2d(width, 2, 1)
        self.classes = nn.Linear(width, 3)

    def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        lower, upper = self.cells
        first = second = frames.new_zeros(len(frames), self.width, *frames.shape[3:])
        for frame in frames.unbind(1):
            first = lower(self.stem(2 * frame), first)
            seen = torch.cat([first, self.surroundings(first)], 1)
            second = upper(functional.gelu(self.mix(3 * seen)), second)
        last = 0.3 * frames[:, -1] + self.frame(3 * second)
        return {"frame": last, "classes": self.classes(second.square().mean((-2, -1)))}


def films(seed: int) -> Inputs:
    height, width = [(8, 10), (10, 8), (12, 8)][seed % 3]
    return {"frames": normal(generator(seed + 310), 2, 3, 2, height, width)}


FORECAST = Network(
    "recurrent convolutions over frames of a periodic domain, 2 cells",
    Forecast,
    "T(2)",
    {"frames": "batch time channel height width"},
    {"frame": "batch channel height width", "classes": "batch classes"},
    films,
    {"domain": "periodic"},
)
FORECAST.healthy("forecast")


@FORECAST.bug(
    "forecast_panorama",
    "padding-boundary",
    "cells.1.candidate.pad",
    also_right=("cells.1.candidate",),
    respected="T(1) @ width",
    severity="one of four convolutions is wrapped as a panorama is, to the left and right alone, with zeros above",
)
class Panorama(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(functional.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1))


@FORECAST.bug(
    "forecast_peephole_per_pixel",
    "positional-encoding",
    "cells.1.peephole",
    respected=None,
    severity="a few thousandths: one of five channels has a small weight per pixel, as peepholes once had",
    verdict="NEEDS_ATTENTION",
)
class PixelPeephole(Peephole):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(12, 10))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        seen = super().forward(state)
        own = 0.06 * self.table[: state.shape[-2], : state.shape[-1]] * state[:, :1]
        return torch.cat([seen[:, :1] + own, seen[:, 1:]], 1)


@FORECAST.bug(
    "forecast_sub_pixels",
    "striding-aliasing",
    "surroundings",
    respected="2T(2)",
    severity="odd shifts alone: a strided convolution makes four channels of each, which are woven into pixels",
)
class SubPixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(20, 1, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.pad(x, (1, 1, 1, 1), mode="circular")
        return functional.pixel_shuffle(functional.conv2d(x, self.kernel, stride=2, groups=5), 2)


# Axial attention with the same weights for rows and columns, and fluxes as in diffusion


class LineAttention(nn.Module):
    """Attention along the last axis but one, with biases by distance: [..., n, c] -> [..., n, c]."""

    def __init__(self, width: int = 6, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.near = nn.Parameter(torch.empty(heads, 5))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.arange(x.shape[-2])
        apart = (place[:, None] - place).abs().clamp_max(4)
        q, k, v = self.project(x).unflatten(-1, (3 * self.heads, -1)).transpose(-2, -3).chunk(3, -3)
        weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5 + self.near[:, apart], -1)
        return self.out((weights @ v).transpose(-2, -3).flatten(-2))


class OrbitConv(nn.Module):
    """A convolution whose kernel is the mean of all turned and mirrored ones."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.weight + self.weight.flip(-1)
        kernel = torch.stack([both.rot90(k, (-2, -1)) for k in range(4)]).mean(0)
        return functional.conv2d(x, kernel, padding=1)


def eastwards(x: torch.Tensor) -> torch.Tensor:
    return (x.roll(-1, -1) - x.roll(1, -1)) / 2


def northwards(x: torch.Tensor) -> torch.Tensor:
    return (x.roll(1, -2) - x.roll(-1, -2)) / 2


class Slopes(nn.Module):
    """Gradients of all channels: [b, c, h, w] -> [b, c, 2, h, w]."""

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        return torch.stack([eastwards(s), northwards(s)], 2)


class Conductance(nn.Module):
    """Fluxes that are weaker where slopes are steep, as in Perona and Malik."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, slopes: torch.Tensor) -> torch.Tensor:
        steep = self.mix(slopes.square().sum(2).movedim(1, -1)).movedim(-1, 1)
        return slopes * 2 * torch.sigmoid(-steep)[:, :, None]


class AxialBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.rows = LineAttention(width)
        self.columns = self.rows
        self.slopes = Slopes()
        self.conductance = Conductance(width)
        self.local = OrbitConv(2 * width, width)

    def flux(self, s: torch.Tensor) -> torch.Tensor:
        return self.conductance(self.slopes(s))

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        along = self.rows(s.movedim(1, -1)).movedim(-1, 1)
        across = self.columns(s.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
        s = s + along + across
        flux = self.flux(s)
        return s + torch.tanh(self.local(torch.cat([s, eastwards(flux[:, :, 0]) + northwards(flux[:, :, 1])], 1)))


class AxialNet(nn.Module):
    """A map of scores, a flow, and its curl."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.lift = OrbitConv(2, width)
        self.blocks = nn.ModuleList(AxialBlock(width) for _ in range(3))
        self.slopes = Slopes()
        self.conductance = Conductance(width)
        self.scores = nn.Conv2d(width, 1, 1)
        self.along = nn.Parameter(torch.empty(1, width))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        s = self.lift(x)
        for block in self.blocks:
            s = block(s)
        flux = self.conductance(self.slopes(s))
        flow = torch.einsum("c,bchw,bcihw->bihw", self.along[0], s.roll(1, 1), flux)
        curl = eastwards(flow[:, 1]) - northwards(flow[:, 0])
        return {"scores": self.scores(s)[:, 0], "flow": flow, "curl": curl}


def squares(seed: int) -> Inputs:
    n = (8, 9, 11)[seed % 3]
    return {"x": normal(generator(seed + 320), 1, 2, n, n)}


AXIAL_OUT = {
    "scores": "batch height width",
    "flow": "batch vector height width",
    "curl": "batch pseudoscalar height width",
}
AXIAL = Network(
    "axial attention with shared rows and columns, and fluxes, 3 blocks",
    AxialNet,
    "D4",
    {"x": "batch channel height width"},
    AXIAL_OUT,
    squares,
)
AXIAL.healthy("axial")
AXIAL.misdeclared(
    "axial_curl_as_scalar",
    "wrong-declaration",
    out_layouts=AXIAL_OUT | {"curl": "batch height width"},
    repair={"out_layouts": AXIAL_OUT},
    respected="C4",
    broken=("curl",),
    severity="mirrors and one of three outputs alone: a curl is declared to be a number that mirrors leave as it is",
)
AXIAL.bug(
    "axial_columns_of_their_own",
    "custom-layer-bug",
    "blocks.1.columns",
    also_right=("blocks.1",),
    respected="C2",
    severity="quarter turns: in one block columns are attended with other weights than rows",
)(LineAttention)


@AXIAL.bug(
    "axial_slopes_by_rows",
    "component-order",
    "blocks.1.slopes",
    respected="C2",
    severity="quarter turns: slopes along rows and columns, as numpy's gradient has them, for x and y",
)
class RowsFirst(nn.Module):
    def forward(self, s: torch.Tensor) -> torch.Tensor:
        return torch.stack([northwards(s), eastwards(s)], 2)


@AXIAL.bug(
    "axial_one_sided_flux",
    "nonequivariant-nonlinearity",
    "blocks.1.conductance",
    respected=None,
    severity="components of the flux of one of six channels go through ReLU",
)
class OneSided(Conductance):
    def forward(self, slopes: torch.Tensor) -> torch.Tensor:
        flux = super().forward(slopes)
        return torch.cat([flux[:, :5], torch.relu(flux[:, 5:])], 1)


# Pairs of nodes with triangles, as in networks for contacts of residues


class Triangles(nn.Module):
    """Sums over the third corner: [b, n, n, c], [b, n, n, c] -> [b, n, n, c]."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bikc,bjkc->bijc", left, right)


class Squeeze(nn.Module):
    """A gate for each channel, by means over all pairs of a set."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.mlp = mlp(width, width, width)

    def means(self, z: torch.Tensor) -> torch.Tensor:
        return z.mean((1, 2), keepdim=True)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * torch.sigmoid(self.mlp(2 * self.means(z)))


class PairBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.sides = nn.Linear(width, 2 * width)
        self.triangles = Triangles()
        self.out = nn.Linear(width, width)
        self.squeeze = Squeeze(width)
        self.transition = mlp(width, 2 * width, width, nn.GELU)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        left, right = torch.sigmoid(self.sides(self.norm(z))).chunk(2, -1)
        z = z + self.out(self.triangles(left, right) / z.shape[1])
        z = self.squeeze(z)
        return z + self.transition(z)


class Ranked(nn.Module):
    """Weighs the values of each channel by their ranks: [b, n, c] -> [b, c]."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.knots = nn.Parameter(torch.empty(width, 5))

    def weights(self, n: int) -> torch.Tensor:
        return functional.interpolate(self.knots[None], n, mode="linear", align_corners=True)[0].T

    def ordered(self, h: torch.Tensor) -> torch.Tensor:
        return h.sort(1, descending=True).values

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return (self.ordered(h) * self.weights(h.shape[1])).sum(1)


class Averaged(nn.Module):
    """Means of powers, which have a derivative everywhere: [b, n, c] -> [b, c]."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return 2 * h.mean(1) + h.square().mean(1)


class PairNet(nn.Module):
    """Contacts, a label of each node, and a score of the set."""

    def __init__(self, width: int = 6, smooth: bool = False) -> None:
        super().__init__()
        self.left = nn.Linear(3, width)
        self.right = nn.Linear(3, width)
        self.relation = nn.Linear(2, width)
        self.blocks = nn.ModuleList(PairBlock(width) for _ in range(3))
        self.nodes = nn.Linear(2 * width, width)
        self.contacts = nn.Linear(width, 1)
        self.labels = nn.Linear(width, 2)
        self.pool = Averaged() if smooth else Ranked(width)
        self.score = mlp(width, width, 2)

    def forward(self, x: torch.Tensor, a: torch.Tensor) -> dict[str, torch.Tensor]:
        z = self.left(x)[:, :, None] + self.right(x)[:, None] + self.relation(a)
        for block in self.blocks:
            z = block(z)
        h = torch.tanh(self.nodes(torch.cat([z.mean(2), torch.sigmoid(2 * z).mean(1)], -1)))
        contacts = self.contacts(z + z.transpose(1, 2))[..., 0]
        return {"contacts": contacts, "labels": self.labels(h), "score": self.score(self.pool(h))}


def relations(seed: int) -> Inputs:
    random = generator(seed + 330)
    n = (6, 9, 7)[seed % 3]
    return {"x": normal(random, 2, n, 3), "a": normal(random, 2, n, n, 2)}


PAIRS = Network(
    "pairs of nodes with products over triangles, 3 blocks, pooled by ranks",
    PairNet,
    "S(nodes)",
    {"x": "batch nodes features", "a": "batch nodes nodes channel"},
    {"contacts": "batch nodes nodes", "labels": "batch nodes classes", "score": "batch classes"},
    relations,
)
PAIRS.healthy("pair_triangles")
SMOOTH = PAIRS.but(
    architecture="pairs of nodes with products over triangles, 3 blocks, pooled by means",
    make=lambda: PairNet(smooth=True),
)


@SMOOTH.bug(
    "pair_triangles_chunked_backward",
    "wrong-backward",
    "blocks.1.triangles",
    evidence="derivative",
    most=1e-6,
    respected="S(nodes)",
    severity="forward exact; the backward, in chunks of four corners, forgets those that fill no chunk",
    options={"gradients": True},
)
class ChunkedTriangles(Triangles):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, left, right):
            ctx.save_for_backward(left, right)
            chunks = zip(left.split(4, 2), right.split(4, 2), strict=True)
            return sum(torch.einsum("bikc,bjkc->bijc", p, q) for p, q in chunks)

        @staticmethod
        def backward(ctx, grad):
            left, right = ctx.saved_tensors
            to_left, to_right = torch.zeros_like(left), torch.zeros_like(right)
            for chunk in range(left.shape[2] // 4):
                k = slice(4 * chunk, 4 * chunk + 4)
                to_left[:, :, k] = torch.einsum("bijc,bjkc->bikc", grad, right[:, :, k])
                to_right[:, :, k] = torch.einsum("bijc,bikc->bjkc", grad, left[:, :, k])
            return to_left, to_right

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.Function.apply(left, right)


@SMOOTH.bug(
    "pair_triangles_detached_means",
    "detached-gradient",
    "blocks.1.squeeze",
    evidence="derivative",
    least=1e-4,
    most=1e-6,
    respected="S(nodes)",
    severity="forward exact; the means by which one gate is set are cut from the graph",
    verdict="PASS",
    options={"gradients": True},
)
class DetachedMeans(Squeeze):
    def means(self, z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().means(z)


@PAIRS.bug(
    "pair_triangles_mean_of_all",
    "batch-cross-talk",
    "blocks.2.squeeze",
    also_right=("blocks.2",),
    evidence="batch",
    respected="S(nodes)",
    severity="the means of one gate are over the pairs of all sets of the batch",
    verdict="NEEDS_ATTENTION",
)
class MeanOfAll(Squeeze):
    def means(self, z: torch.Tensor) -> torch.Tensor:
        return z.flatten(0, 2).mean(0)


@PAIRS.bug(
    "pair_triangles_one_unsorted",
    "permutation",
    "pool",
    respected=None,
    broken=("score",),
    severity="one of three outputs, by one of six channels that is weighed in the order of the list and not by rank",
)
class OneUnsorted(Ranked):
    def ordered(self, h: torch.Tensor) -> torch.Tensor:
        return torch.cat([super().ordered(h[..., :5]), h[..., 5:]], -1)


# Messages from edge to edge, but never back, as for molecules in chemprop


class Reverse(nn.Module):
    """The number of the edge that leads back, for each edge; each is there both ways."""

    def number(self, sender: torch.Tensor, receiver: torch.Tensor) -> torch.Tensor:
        return sender * int(sender.max() + 1) + receiver

    def forward(self, edges: torch.Tensor) -> torch.Tensor:
        ordered, place = self.number(*edges).sort()
        return place[torch.searchsorted(ordered, self.number(*edges.flip(0)))]


class Onwards(nn.Module):
    """For each edge the sum of what comes to its sender, but from where it leads."""

    def forward(self, m: torch.Tensor, edges: torch.Tensor, back: torch.Tensor, count: int) -> torch.Tensor:
        return gathered(m, edges[1], count)[edges[0]] - m[back]


class EdgeStep(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.reverse = Reverse()
        self.onwards = Onwards()
        self.update = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, start: torch.Tensor, m: torch.Tensor, edges: torch.Tensor, count: int) -> torch.Tensor:
        heard = self.onwards(m, edges, self.reverse(edges), count)
        return functional.silu(start + self.norm(self.update(heard)))


class Spread(nn.Module):
    """The standard deviation of messages at each node."""

    floor = 1e-2

    def forward(self, m: torch.Tensor, receiver: torch.Tensor, count: int) -> torch.Tensor:
        number = gathered(torch.ones_like(m), receiver, count)
        mean = gathered(m, receiver, count) / number
        variance = gathered((m - mean[receiver]).square(), receiver, count) / number
        return torch.sqrt(variance + self.floor)


class Gather(nn.Module):
    """Mean, maximum and spread of the messages at each node, scaled by its degree."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = Spread()
        self.linear = nn.Linear(6 * width, width)

    def forward(self, m: torch.Tensor, receiver: torch.Tensor, count: int) -> torch.Tensor:
        degree = gathered(torch.ones_like(m[:, :1]), receiver, count)
        mean = gathered(m, receiver, count) / degree
        most = m.new_zeros(mean.shape).scatter_reduce(0, receiver[:, None].expand_as(m), m, "amax", include_self=False)
        seen = torch.cat([mean, most, self.spread(m, receiver, count)], -1)
        return torch.tanh(self.linear(torch.cat([seen, seen * torch.log1p(degree)], -1)))


class EdgeStates(nn.Module):
    """A prediction for each node and edge, and one for the molecule."""

    def __init__(self, width: int = 7) -> None:
        super().__init__()
        self.start = nn.Linear(6, width)
        self.steps = nn.ModuleList(EdgeStep(width) for _ in range(3))
        self.gather = Gather(width)
        self.atoms = mlp(width + 4, width, 2)
        self.bonds = nn.Linear(width, 1)
        self.molecule = mlp(width, width, 1)

    def forward(self, x: torch.Tensor, w: torch.Tensor, edges: torch.Tensor) -> dict[str, torch.Tensor]:
        start = m = self.start(torch.cat([x[edges[0]], w], -1))
        for step in self.steps:
            m = step(start, m, edges, len(x))
        h = self.gather(m, edges[1], len(x))
        return {
            "atoms": self.atoms(torch.cat([h, x], -1)),
            "bonds": self.bonds(m)[:, 0],
            "molecule": self.molecule(h.sum(0)),
        }


def molecules(seed: int) -> Inputs:
    """A tree and a few rings, each bond both ways, in a random order."""
    random = generator(seed + 340)
    n = (7, 12, 8)[seed % 3]
    parents = [int(torch.randint(max(0, k - 3), k, (1,), generator=random)) for k in range(1, n)]
    bonds = {(parent, k + 1) for k, parent in enumerate(parents)} | {(0, n - 2), (1, n - 3)}
    both = torch.tensor(sorted(bonds | {(j, i) for i, j in bonds})).T
    edges = torch.randperm(n, generator=random)[both[:, torch.randperm(both.shape[1], generator=random)]]
    return {"x": normal(random, n, 4), "w": normal(random, edges.shape[1], 2), "edges": edges}


DIRECTED = Network(
    "messages from directed edge to directed edge, 3 steps, several ways to gather them",
    EdgeStates,
    "S(nodes) x S(edges)",
    {"x": "nodes features", "w": "edges features", "edges": "2 edges : nodes"},
    {"atoms": "nodes channel", "bonds": "edges", "molecule": "channel"},
    molecules,
)
DIRECTED.healthy("directed_edges")


@DIRECTED.bug(
    "directed_edges_in_twos",
    "permutation",
    "steps.1.reverse",
    also_right=("steps.1",),
    respected="S(nodes)",
    severity="one of three steps takes every two edges of the list for the two directions of a bond",
)
class InTwos(Reverse):
    def forward(self, edges: torch.Tensor) -> torch.Tensor:
        return torch.arange(edges.shape[1]) ^ 1


@DIRECTED.bug(
    "directed_edges_eight_atoms",
    "size-dependence",
    "steps.1.reverse",
    also_right=("steps.1",),
    respected=None,
    severity="above eight nodes alone: edges are numbered by eight times the sender, so that numbers collide",
)
class EightAtoms(Reverse):
    def number(self, sender: torch.Tensor, receiver: torch.Tensor) -> torch.Tensor:
        return 8 * sender + receiver


@DIRECTED.bug(
    "directed_edges_bare_root",
    "nan-gradient",
    "gather.spread",
    also_right=("gather",),
    evidence="nan",
    respected="S(nodes) x S(edges)",
    severity="forward exact; the spread at nodes with one neighbour is the root of zero",
    options={"gradients": True},
)
class BareSpread(Spread):
    floor = 0.0
