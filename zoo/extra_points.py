"""Point clouds by hand: moment tensors of atoms, clustering trees of jets, agents in the plane, induced dipoles."""

from __future__ import annotations

import torch
from torch import nn

from .case import Inputs, Network, Pair, bumps, generator, mlp, normal

# Moment tensors of atoms' surroundings, contracted to invariants, with forces


class Envelope(nn.Module):
    """Weights of distances, from their squares, which vanish smoothly at the cutoff."""

    def __init__(self, cutoff: float = 3.2) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, r2: torch.Tensor) -> torch.Tensor:
        return (1 - r2 / self.cutoff**2).clamp_min(0) ** 3


class Radial(nn.Module):
    """Functions of offsets by the kinds of both atoms: [n, n, 3], [n, k] -> [n, n, c]."""

    def __init__(self, kinds: int, channels: int) -> None:
        super().__init__()
        self.envelope = Envelope()
        self.table = nn.Parameter(torch.empty(channels, kinds * 4))

    def forward(self, d: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        r2 = d.square().sum(-1)
        functions = bumps(r2) * (self.envelope(r2) * (1 - torch.eye(len(d), dtype=d.dtype)))[..., None]
        both = torch.einsum("jk,ijf->ijkf", species, functions).flatten(2)
        return 2 * both @ self.table.T


class Moments(nn.Module):
    """Moments of degrees 0, 1 and 2: [n, n, c] weights and offsets [n, n, 3]."""

    def forward(self, weights: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        first = torch.einsum("ijc,ijx->icx", weights, d)
        second = torch.einsum("ijc,ijx,ijy->icxy", weights, d, d)
        return weights.sum(1), first, second


class Contractions(nn.Module):
    """Invariants of moments of one atom; the last one is a volume's square."""

    def volume(self, first: torch.Tensor) -> torch.Tensor:
        return torch.linalg.det(first[:, :3]).square()

    def forward(self, zeroth: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        lengths = first.square().sum(-1)
        traces = second.diagonal(dim1=-2, dim2=-1).sum(-1)
        squares = second.square().sum((-2, -1))
        quadratic = torch.einsum("icx,icxy,icy->ic", first, second, first)
        volume = self.volume(first)[:, None]
        return torch.tanh(torch.cat([zeroth, lengths, traces, squares, quadratic, volume], -1))


class MomentLayer(nn.Module):
    def __init__(self, width: int, channels: int = 4) -> None:
        super().__init__()
        self.radial = Radial(width, channels)
        self.moments = Moments()
        self.contractions = Contractions()
        self.update = mlp(width + 5 * channels + 1, width, width)

    def forward(self, h: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        invariants = self.contractions(*self.moments(self.radial(d, h), d))
        return h + torch.tanh(self.update(torch.cat([h, invariants], -1)))


class Offsets(nn.Module):
    """[n, 3] -> [n, n, 3], in units of two."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[None] - x[:, None]) / 2


class MomentPotential(nn.Module):
    def __init__(self, width: int = 6, forces: bool = True) -> None:
        super().__init__()
        self.species = nn.Embedding(4, width)
        self.offsets = Offsets()
        self.layers = nn.ModuleList(MomentLayer(width) for _ in range(3))
        self.energy = mlp(width, width, 1)
        self.forces = forces

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.forces and not x.requires_grad:
            x = x.detach().requires_grad_()
        with torch.enable_grad():
            h = torch.tanh(2 * self.species(z))
            d = 2 * self.offsets(x)
            for layer in self.layers:
                h = layer(h, d)
            energy = self.energy(h).sum()
            if not self.forces:
                return {"energy": energy}
            return {"energy": energy, "forces": -torch.autograd.grad(energy, x, create_graph=True)[0]}


def atoms(seed: int) -> Inputs:
    random = generator(seed + 211)
    n = (7, 9, 8)[seed % 3]
    return {"x": 1.2 * normal(random, n, 3) - 0.7, "z": torch.randint(4, (n,), generator=random)}


MOMENTS = Network(
    "moment tensors contracted to invariants, 3 layers, energy and forces",
    MomentPotential,
    "E(3) x S(atoms)",
    {"x": "atoms point", "z": "atoms"},
    {"energy": "", "forces": "atoms vector"},
    atoms,
)
MOMENTS.healthy("moment_potential")


@MOMENTS.bug(
    "moment_potential_detached_envelope",
    "detached-gradient",
    "layers.1.radial.envelope",
    also_right=("layers.1.radial",),
    evidence="claim",
    least=1e-4,
    most=1e-6,
    respected="E(3) x S(atoms)",
    severity="forces turn as they must, and miss a third: the slope of one layer's envelope",
    options={"gradients": True},
)
class DetachedEnvelope(Envelope):
    def forward(self, r2: torch.Tensor) -> torch.Tensor:
        return super().forward(r2).detach()


@MOMENTS.bug(
    "moment_potential_handed",
    "parity",
    "layers.1.contractions",
    respected="SE(3) x S(atoms)",
    severity="one invariant of 21 in the middle layer: a volume with its sign",
)
class HandedContractions(Contractions):
    def volume(self, first: torch.Tensor) -> torch.Tensor:
        return torch.linalg.det(first[:, :3])


class QuickSquares(torch.autograd.Function):
    """First and second moments whose backward takes the second for diagonal."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weights: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights, d)
        return torch.einsum("ijc,ijx,ijy->icxy", weights, d, d)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> Pair:
        weights, d = ctx.saved_tensors  # type: ignore[attr-defined]
        grad = grads[0]
        diagonal = grad.diagonal(dim1=-2, dim2=-1)
        by_weights = torch.einsum("icxy,ijx,ijy->ijc", grad, d, d)
        return by_weights, 2 * torch.einsum("icx,ijc,ijx->ijx", diagonal, weights, d)


@MOMENTS.but(
    architecture="moment tensors contracted to invariants, 3 layers, energy alone",
    make=lambda: MomentPotential(forces=False),
    out_layouts={"energy": ""},
).bug(
    "moment_potential_diagonal_backward",
    "wrong-backward",
    "layers.1.moments",
    evidence="derivative",
    least=1e-4,
    most=1e-6,
    respected="E(3) x S(atoms)",
    severity="forward exact; the hand-written backward of the second moments leaves out what is off the diagonal",
    options={"gradients": True},
)
class QuickMoments(Moments):
    def forward(self, weights: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        zeroth, first, _ = super().forward(weights, d)
        second: torch.Tensor = QuickSquares.apply(weights, d)
        return zeroth, first, second


# Jets: particles are merged pair by pair, and a network goes up the tree


def lorentz(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """t t' - x x' - y y' - z z' over the last axis."""
    metric = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=p.dtype)
    return (p * q * metric).sum(-1)


class Measure(nn.Module):
    """By what pairs are chosen, the smallest first: the square of what a merger adds to the masses [n, n]."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return 2 * lorentz(p[:, None], p[None])


class Kinematics(nn.Module):
    """Invariants of two momenta [4], the same for both orders."""

    def forward(self, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        masses = torch.stack([lorentz(p, p), lorentz(q, q)])
        return torch.log1p(torch.stack([masses.sum(), masses.prod(), lorentz(p, q)]).abs())


class Children(nn.Module):
    """Features of a parent by those of its two children [c]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.each = nn.Linear(width, width)
        self.both = nn.Linear(width, width)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.each(a)) + torch.tanh(self.each(b)) + self.both(a * b)


class Recoil(nn.Module):
    """The momentum of a parent [4]: the sum, lengthened by a learned gate."""

    def forward(self, p: torch.Tensor, q: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return (p + q) * (0.7 + 0.3 * torch.sigmoid(gate))


class Merger(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.kinematics = Kinematics()
        self.join = Children(width)
        self.scale = nn.Linear(3, width)
        self.gate = nn.Linear(width, 1)
        self.recoil = Recoil()

    def forward(self, h: Pair, p: Pair) -> Pair:
        merged = self.join(*h) + self.scale(self.kinematics(*p))
        merged = torch.tanh(merged)
        return merged, self.recoil(*p, self.gate(merged))


class ClusterTree(nn.Module):
    """Merges the nearest pair until one is left; the sum over the tree and the root's momentum are told."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = mlp(3, width, width)
        self.measure = Measure()
        self.merger = Merger(width)
        self.score = mlp(2 * width, width, 3)

    def nearest(self, p: torch.Tensor) -> tuple[int, int]:
        measure = self.measure(p)
        lower = torch.ones_like(measure).tril().bool()
        i, j = divmod(int(measure.masked_fill(lower, torch.inf).argmin()), len(p))
        return i, j

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        total = h.sum(0)
        while len(p) > 1:
            i, j = self.nearest(p)
            parent, momentum = self.merger((h[i], h[j]), (p[i], p[j]))
            total = total + parent
            left = [k for k in range(len(p)) if k not in (i, j)]
            h, p = torch.cat([h[left], parent[None]]), torch.cat([p[left], momentum[None]])
        return {"score": self.score(torch.cat([h[0], 0.3 * total])), "axis": p[0]}


def shower(seed: int) -> Inputs:
    """Particles of one jet, of masses about one and one main direction."""
    random = generator(seed + 57)
    n = (6, 7, 5)[seed % 3]
    along = normal(random, 3)
    k = 0.6 * normal(random, n, 3) + along
    mass2 = (0.7 + normal(random, n, 1).abs()).square()
    return {"p": torch.cat([(k.square().sum(-1, keepdim=True) + mass2).sqrt(), k], -1), "h": normal(random, n, 3)}


TREE = Network(
    "recursive network along a clustering tree of a jet",
    ClusterTree,
    "O(1,3) x S(particles)",
    {"p": "particles vector", "h": "particles features"},
    {"score": "classes", "axis": "vector"},
    shower,
)
TREE.healthy("cluster_tree")


@TREE.bug(
    "cluster_tree_left_and_right",
    "permutation",
    "merger.join",
    also_right=("merger",),
    respected="O(1,3)",
    severity="the child with the smaller number is weighted as the left one",
)
class LeftRight(Children):
    def __init__(self) -> None:
        super().__init__(8)
        self.right = nn.Linear(8, 8)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.each(a)) + torch.tanh(self.right(b)) + self.both(a * b)


@TREE.bug(
    "cluster_tree_durham",
    "lab-frame-constant",
    "measure",
    respected="O(3) x S(particles)",
    severity="pairs are chosen by energies and angles in the laboratory, as in Durham's measure; boosts alone break",
)
class Durham(nn.Module):
    def forward(self, p: torch.Tensor) -> torch.Tensor:
        energy, k = p[:, 0].abs(), p[:, 1:]
        unit = k / k.norm(dim=-1, keepdim=True)
        return torch.minimum(energy[:, None], energy[None]).square() * (1 - unit @ unit.T)


@TREE.bug(
    "cluster_tree_soft_clip",
    "nonequivariant-nonlinearity",
    "merger.recoil",
    also_right=("merger",),
    respected="S(particles)",
    severity="components of a parent's momentum are squashed smoothly at forty, so that fast jets break most",
)
class ClippedRecoil(Recoil):
    def forward(self, p: torch.Tensor, q: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return 40 * torch.tanh(super().forward(p, q, gate) / 40)


# Agents in the plane: each is seen from the others in their own frames


class Headings(nn.Module):
    """Right-handed frames of agents [n, 2, 2], as rows: along the last step and across it."""

    def forward(self, tracks: torch.Tensor) -> torch.Tensor:
        step = tracks[:, -1] - tracks[:, -2]
        along = step / step.norm(dim=-1, keepdim=True)
        return torch.stack([along, torch.stack([-along[:, 1], along[:, 0]], -1)], 1)


class TrackEncoder(nn.Module):
    """A recurrent network along the steps of each agent, in its frame: [n, t, 2], [n, 2, 2] -> [n, c]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, width)

    def start(self, count: int, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(count, self.cell.hidden_size)

    def forward(self, tracks: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        steps = torch.einsum("nax,ntx->nta", frames, tracks[:, 1:] - tracks[:, :-1])
        state = self.start(len(tracks), tracks)
        for step in steps.unbind(1):
            state = self.cell(step, state)
        return state


class Relative(nn.Module):
    """Where agents and their headings are in the frames of others: [n, n, 6]."""

    def forward(self, place: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        offsets = torch.einsum("iax,ijx->ija", frames, place[None] - place[:, None])
        squash = 1 + offsets.square().sum(-1, keepdim=True)
        turned = torch.einsum("iax,jbx->ijab", frames, frames)[..., 0, :]
        near = torch.exp(-offsets.square().sum(-1, keepdim=True) / torch.tensor([4.0, 25.0]).to(offsets.dtype))
        return torch.cat([offsets * squash.rsqrt(), turned, near], -1)


class Visible(nn.Module):
    """A mask of who attends to whom [n, n]: all do."""

    def forward(self, n: int) -> torch.Tensor:
        return torch.ones(n, n, dtype=torch.bool)


class Interaction(nn.Module):
    """Attention among agents, with keys and values that know the relative place."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.relative = Relative()
        self.visible = Visible()
        self.queries = nn.Linear(width, width)
        self.keys = nn.Linear(width + 6, width)
        self.values = nn.Linear(width + 6, width)
        self.norm = nn.LayerNorm(width)
        self.feed = mlp(width, 2 * width, width, nn.GELU)

    def forward(self, h: torch.Tensor, place: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        n = len(h)
        seen = torch.cat([h.expand(n, n, -1), self.relative(place, frames)], -1)
        q = self.queries(h).unflatten(-1, (self.heads, -1))
        k, v = (f(seen).unflatten(-1, (self.heads, -1)) for f in (self.keys, self.values))
        logits = torch.einsum("ihc,ijhc->hij", q, k) / q.shape[-1] ** 0.5
        weights = torch.softmax(logits.masked_fill(~self.visible(n), -torch.inf), -1)
        h = h + torch.einsum("hij,ijhc->ihc", weights, v).flatten(1)
        return h + self.feed(self.norm(h))


class Lanes(nn.Module):
    """Directions of lanes [n, 2] in the frames of the agents on them, as features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2, width)

    def forward(self, lanes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(torch.einsum("nax,nx->na", frames, lanes)))


class Forecaster(nn.Module):
    """Modes of future places of each agent, and how likely they are."""

    def __init__(self, width: int = 8, modes: int = 2, horizon: int = 3) -> None:
        super().__init__()
        self.headings = Headings()
        self.encoder = TrackEncoder(width)
        self.lanes = Lanes(width)
        self.layers = nn.ModuleList(Interaction(width) for _ in range(3))
        self.future = mlp(width, 2 * width, modes * horizon * 2, nn.GELU)
        self.likely = nn.Linear(width, modes)
        self.shape = (modes, horizon, 2)

    def forward(self, tracks: torch.Tensor, lanes: torch.Tensor) -> dict[str, torch.Tensor]:
        place, frames = tracks[:, -1], self.headings(tracks)
        h = self.encoder(tracks, frames) + self.lanes(lanes, frames)
        for layer in self.layers:
            h = layer(h, place, frames)
        steps = self.future(h).unflatten(-1, self.shape)
        places = place[:, None, None] + torch.einsum("nax,nmta->nmtx", frames, steps).cumsum(2)
        return {"places": places, "likely": torch.softmax(self.likely(h), -1)}


def traffic(seed: int) -> Inputs:
    """Agents that move at about unit steps, in bends."""
    random = generator(seed + 301)
    n = (6, 9, 7)[seed % 3]
    turn = normal(random, n, 1) + 0.2 * normal(random, n, 5).cumsum(1)
    speed = 0.7 + 0.3 * normal(random, n, 5).abs()
    steps = torch.stack([speed * torch.cos(3 * turn), speed * torch.sin(3 * turn)], -1)
    start = 3 * normal(random, n, 1, 2) + 1.5
    lanes = normal(random, n, 2)
    return {"tracks": start + torch.cat([torch.zeros_like(start), steps.cumsum(1)], 1), "lanes": lanes}


TRAFFIC = Network(
    "forecaster of agents in the frames of their headings, 3 layers of attention",
    Forecaster,
    "SE(2) x S(agents)",
    {"tracks": "agents time point", "lanes": "agents vector"},
    {"places": "agents classes time point", "likely": "agents classes"},
    traffic,
)
TRAFFIC.healthy("forecaster")
TRAFFIC.misdeclared(
    "forecaster_lanes_as_features",
    "untransformed-input",
    in_layouts={"tracks": "agents time point", "lanes": "agents features"},
    repair={"in_layouts": TRAFFIC.in_layouts},
    respected="T(2) x S(agents)",
    severity="directions of lanes are declared features of agents: they stay where all else turns",
)


@TRAFFIC.bug(
    "forecaster_windows",
    "size-dependence",
    "layers.1.visible",
    also_right=("layers.1",),
    respected="SE(2)",
    severity="scenes of more than seven agents alone: attention within windows of seven, in one layer",
)
class Windows(Visible):
    def forward(self, n: int) -> torch.Tensor:
        window = torch.arange(n) // 7
        return window[:, None] == window[None]


@TRAFFIC.bug(
    "forecaster_stateful",
    "state-drift",
    "encoder",
    evidence="calls",
    respected="SE(2) x S(agents)",
    severity="the recurrent state of a call is where the next one starts, for as many agents",
    verdict="NEEDS_ATTENTION",
)
class StatefulEncoder(TrackEncoder):
    zero_state: torch.Tensor

    def __init__(self) -> None:
        super().__init__(8)
        self.register_buffer("zero_state", torch.zeros(16, 8))

    def forward(self, tracks: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        state = super().forward(tracks, frames)
        self.zero_state[: len(state)] = state.detach()
        return state

    def start(self, count: int, like: torch.Tensor) -> torch.Tensor:
        return self.zero_state[:count].clone()


@TRAFFIC.bug(
    "forecaster_fast_path",
    "train-eval-difference",
    "layers.1.relative",
    also_right=("layers.1",),
    respected="T(2) x S(agents)",
    severity="eval mode alone: a faster path leaves offsets in the axes of the map in one layer",
)
class FastRelative(Relative):
    def forward(self, place: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        seen = super().forward(place, frames)
        if self.training:
            return seen
        offsets = place[None] - place[:, None]
        return torch.cat([offsets * (1 + offsets.square().sum(-1, keepdim=True)).rsqrt(), seen[..., 2:]], -1)


# Induced dipoles of sites in a field: what acts along a pair and across it has its own strength


class Across(nn.Module):
    """Two unit vectors at right angles to each of the unit vectors [n, n, 3]; which two is not seen afterwards."""

    def forward(self, u: torch.Tensor) -> Pair:
        helper = torch.zeros_like(u).scatter(-1, u.abs().argmin(-1, keepdim=True), 1.0)
        a = torch.linalg.cross(helper, u)
        a = a / a.norm(dim=-1, keepdim=True).clamp_min(0.1)  # of the zeros of the diagonal alone
        return a, torch.linalg.cross(u, a)


class Coupling(nn.Module):
    """Fields at sites by the dipoles of others, along pairs and across them: [n, c, 3] -> [n, c, 3]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.across = Across()
        self.along = nn.Linear(4, channels)
        self.aside = nn.Linear(4, channels)

    def forward(self, v: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        r2 = d.square().sum(-1)
        eye = torch.eye(len(d), dtype=d.dtype)
        u = d / (r2 + eye).sqrt()[..., None]
        functions = bumps(r2) * (1 - eye)[..., None]
        a, b = self.across(u)
        field = torch.einsum("ijc,ijx,ijy,jcy->icx", self.along(functions), u, u, v)
        for w in (a, b):
            field = field + torch.einsum("ijc,ijx,ijy,jcy->icx", self.aside(functions), w, w, v)
        return 2 * field / len(d)


class Channels(nn.Module):
    """Mixes channels of vectors [n, c, 3]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels, bias=False)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.linear(v.mT).mT


class LengthNorm(nn.Module):
    """Vectors [n, c, 3] over the root of the mean square of their lengths, of each site."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * (0.3 + v.square().sum(-1).mean(-1)).rsqrt()[:, None, None]


class Principal(nn.Module):
    """Vectors [n, c, 3] by the principal axes of the cloud, up to the signs that axes do not have: [n, 3 c]."""

    def forward(self, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        _, axes = torch.linalg.eigh(x.T @ x / len(x))
        return self.seen(v @ axes).flatten(1)

    def seen(self, parts: torch.Tensor) -> torch.Tensor:
        return parts.square()


class DipoleLayer(nn.Module):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.coupling = Coupling(channels)
        self.mix = Channels(channels)
        self.norm = LengthNorm()
        self.principal = Principal()
        self.update = mlp(width + 3 * channels, width, width)
        self.polarise = nn.Linear(width, 2 * channels)

    def forward(self, s: torch.Tensor, v: torch.Tensor, x: torch.Tensor, field: torch.Tensor) -> Pair:
        local = self.coupling(v, x[:, None] - x[None])
        s = s + torch.tanh(self.update(torch.cat([s, self.principal(local, x)], -1)))
        keep, take = torch.sigmoid(self.polarise(s))[..., None].chunk(2, 1)
        return s, self.norm(keep * self.mix(v) + take * (local + field))


class Response(nn.Module):
    """What the dipoles answer to the field: an energy, a tensor of the whole, and torques on sites."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.energy = mlp(width, width, 1)
        self.weights = nn.Linear(width, channels)
        self.moment = nn.Linear(channels, 1, bias=False)

    def forward(self, s: torch.Tensor, v: torch.Tensor, field: torch.Tensor) -> dict[str, torch.Tensor]:
        moment = self.moment(v.mT)[..., 0]
        energy = self.energy(s).sum() - (moment @ field).sum()
        tensor = torch.einsum("nc,ncx,ncy->xy", self.weights(s), v, v)
        torque = torch.linalg.cross(moment, field.expand_as(moment))
        return {"energy": energy, "tensor": tensor, "torque": torque}


class Dipoles(nn.Module):
    def __init__(self, width: int = 8, channels: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.charges = nn.Linear(width, channels)
        self.layers = nn.ModuleList(DipoleLayer(width, channels) for _ in range(3))
        self.response = Response(width, channels)

    def forward(self, x: torch.Tensor, h: torch.Tensor, field: torch.Tensor) -> dict[str, torch.Tensor]:
        s, x = torch.tanh(self.embedding(h)), x - x.mean(0)
        v = self.charges(s)[..., None] * x[:, None]
        for layer in self.layers:
            s, v = layer(s, v, x, field)
        return self.response(s, v, field)


def sites(seed: int) -> Inputs:
    """Places of unequal spread along axes that no coordinate has."""
    random = generator(seed + 409)
    n = (8, 7, 10)[seed % 3]
    shape = torch.tensor([[1.3, 0.4, 0.2], [-0.3, 1.0, 0.3], [0.1, -0.3, 0.6]]).to(torch.get_default_dtype())
    return {"x": normal(random, n, 3) @ shape + 0.8, "h": normal(random, n, 3), "field": normal(random, 3)}


DIPOLES = Network(
    "induced dipoles in a field, 3 rounds",
    Dipoles,
    "E(3) x S(sites)",
    {"x": "sites point", "h": "sites features", "field": "vector"},
    {"energy": "", "tensor": "vector vector", "torque": "sites pseudovector"},
    sites,
)
DIPOLES.healthy("induced_dipoles")


@DIPOLES.bug(
    "induced_dipoles_near_y",
    "chart-singularity",
    "layers.1.coupling.across",
    also_right=("layers.1.coupling",),
    respected="O(2) @ (0,1,0) x T(3) x S(sites)",
    severity="pairs within 30 degrees of the y axis alone: the product with it is divided by no less than a half",
)
class FromY(Across):
    def forward(self, u: torch.Tensor) -> Pair:
        y = torch.tensor([0, 1, 0], dtype=u.dtype)
        a = torch.linalg.cross(y.expand_as(u), u)
        a = a / a.norm(dim=-1, keepdim=True).clamp_min(0.5)
        return a, torch.linalg.cross(u, a)


@DIPOLES.bug(
    "induced_dipoles_signed_axes",
    "discontinuity",
    "layers.1.principal",
    respected="T(3) x S(sites)",
    severity="one of four channels: coordinates along principal axes, whose signs are as the eigensolver returns them",
)
class SignedPrincipal(Principal):
    def seen(self, parts: torch.Tensor) -> torch.Tensor:
        return torch.cat([parts[:, :3].square(), parts[:, 3:]], 1)


@DIPOLES.bug(
    "induced_dipoles_copies_last",
    "component-order",
    "layers.1.mix",
    respected="T(3) x S(sites)",
    severity="gross; four copies of three components are read as three of four in one layer",
)
class CopiesLast(Channels):
    def __init__(self) -> None:
        super().__init__(4)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.linear(v.flatten(1).unflatten(1, (3, -1))).mT


@DIPOLES.bug(
    "induced_dipoles_batch_norm",
    "batch-norm",
    "layers.1.norm",
    also_right=("layers.1.norm.batch",),
    respected="T(3) x S(sites)",
    severity="gross after training: components of four vectors are twelve channels of a batch norm",
)
class ComponentNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.batch = nn.BatchNorm1d(12)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.batch(v.flatten(1)).view_as(v)
