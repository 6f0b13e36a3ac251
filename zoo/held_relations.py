"""Relations held back: couriers and orders, formulas, tracks through frames of detections, vertices of events."""

from __future__ import annotations

import uuid
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, Pair, bumps, generator, mlp, normal, pairs

# Couriers bid for orders; rows and columns of bids are balanced, with a slack for those that stay idle


class Bids(nn.Module):
    """What couriers bid for orders: [batch, couriers, orders]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.offer = nn.Linear(width, width)
        self.wish = nn.Linear(width, width)

    def forward(self, a: torch.Tensor, b: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        return self.offer(a) @ self.wish(b).mT / a.shape[-1] ** 0.5 - cost


class SoftRanks(nn.Module):
    """The share of bids of a courier that are higher than this one, softly: [batch, couriers, orders]."""

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(2 * (s[..., None, :] - s[..., None])).mean(-1)


class Market(nn.Module):
    """Level and spread of all bids of an entry: [batch, 2]."""

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        level = s.mean((1, 2))
        spread = (0.01 + (s - level[:, None, None]).square().mean((1, 2))).sqrt()
        return torch.stack([level, spread], -1)


class Balance(nn.Module):
    """Sinkhorn's steps: rows and columns of the plan add up to less than 1; and the price of each order."""

    def forward(self, s: torch.Tensor) -> Pair:
        g = torch.zeros_like(s[:, 0])
        for _ in range(5):
            f = -torch.logsumexp(functional.pad(s + g[:, None], (0, 1)), -1)
            g = -torch.logsumexp(functional.pad(s + f[..., None], (0, 0, 0, 1)), 1)
        return torch.exp(s + f[..., None] + g[:, None]), -g


class Rivals(nn.Module):
    """Couriers look at each other: [batch, couriers, c]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def seen(self, a: torch.Tensor) -> torch.Tensor:
        return a

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        seen = self.seen(a)
        scores = self.query(a) @ self.key(seen).mT / a.shape[-1] ** 0.5
        return a + torch.tanh(torch.softmax(scores, -1) @ self.value(seen))


class DispatchRound(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bids = Bids(width)
        self.ranks = SoftRanks()
        self.market = Market()
        self.balance = Balance()
        self.couriers = nn.Linear(2 * width + 3, width)
        self.orders = nn.Linear(2 * width + 3, width)
        self.rivals = Rivals(width)

    def forward(self, a: torch.Tensor, b: torch.Tensor, cost: torch.Tensor) -> Pair:
        s = self.bids(a, b, cost)
        plan, price = self.balance(s)
        regret = (plan * self.ranks(s)).sum(2, keepdim=True)
        told = self.market(s)[:, None]
        to_couriers = torch.cat([a, plan @ b, regret, told.expand(-1, a.shape[1], -1)], -1)
        to_orders = torch.cat([b, plan.mT @ a, price[..., None], told.expand(-1, b.shape[1], -1)], -1)
        return self.rivals(a + torch.tanh(self.couriers(to_couriers))), b + torch.tanh(self.orders(to_orders))


class Dispatch(nn.Module):
    """Who takes which order, what orders are worth, and what the day will cost."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.courier = nn.Linear(3, width)
        self.order = nn.Linear(2, width)
        self.rounds = nn.ModuleList(DispatchRound(width) for _ in range(3))
        self.last = Bids(width)
        self.balance = Balance()
        self.delay = mlp(2 * width, width, 1)

    def forward(self, couriers: torch.Tensor, orders: torch.Tensor, cost: torch.Tensor) -> dict[str, torch.Tensor]:
        a, b = self.courier(couriers), self.order(orders)
        for step in self.rounds:
            a, b = step(a, b, cost)
        plan, price = self.balance(self.last(a, b, cost))
        delay = self.delay(torch.cat([a.mean(1), b.mean(1)], -1))[:, 0]
        return {"plan": plan, "price": price, "total": (plan * cost).sum((1, 2)) + functional.softplus(delay)}


def days(seed: int) -> Inputs:
    """Four days of as many couriers and orders each."""
    random = generator(seed + 1117)
    n, m = ((6, 5), (11, 7), (8, 9))[seed % 3]
    return {
        "couriers": normal(random, 4, n, 3) + 0.5 * normal(random, 4, 1, 3),
        "orders": normal(random, 4, m, 2) + 0.5 * normal(random, 4, 1, 2),
        "cost": normal(random, 4, n, m).abs() + 0.5 * normal(random, 4, 1, 1).abs(),
    }


DISPATCH = Network(
    "couriers and orders matched by balanced bids with ranks and prices, 3 rounds",
    Dispatch,
    "S(couriers) x S(orders)",
    {"couriers": "batch couriers features", "orders": "batch orders features", "cost": "batch couriers orders"},
    {"plan": "batch couriers orders", "price": "batch orders", "total": "batch"},
    days,
)
DISPATCH.healthy("dispatch")


@DISPATCH.bug(
    "dispatch_landmarks",
    "size-dependence",
    "rounds.1.rivals",
    respected="S(orders)",
    severity="above eight couriers alone: attention is to eight landmarks at equal steps along the list, in one round",
)
class Landmarks(Rivals):
    def seen(self, a: torch.Tensor) -> torch.Tensor:
        if a.shape[1] <= 8:
            return a
        return a[:, torch.linspace(0, a.shape[1] - 1, 8).long()]


@DISPATCH.bug(
    "dispatch_market_reshaped",
    "batch-cross-talk",
    "rounds.1.market",
    evidence="batch",
    respected="S(couriers) x S(orders)",
    severity="levels and spreads are stacked and reshaped, not transposed: days get each other's; one alone is right",
    verdict="NEEDS_ATTENTION",
)
class ReshapedMarket(Market):
    def forward(self, s: torch.Tensor) -> torch.Tensor:
        level = s.mean((1, 2))
        spread = (0.01 + (s - level[:, None, None]).square().mean((1, 2))).sqrt()
        return torch.stack([level, spread]).reshape(-1, 2)


class PairedRanks(torch.autograd.Function):
    """Soft ranks that look at each pair once; the backward tells the first of the pair alone."""

    @staticmethod
    def forward(ctx: Any, s: torch.Tensor) -> torch.Tensor:
        m = s.shape[-1]
        i, j = torch.triu_indices(m, m, 1)
        ahead = torch.sigmoid(2 * (s[..., i] - s[..., j]))
        ctx.save_for_backward(ahead, i, j)
        ranks = torch.full_like(s, 0.5).index_add(-1, j, ahead)
        return ranks.index_add(-1, i, 1 - ahead) / m

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        ahead, i, j = ctx.saved_tensors
        grad = grads[0] / grads[0].shape[-1]
        slope = 2 * ahead * (1 - ahead) * (grad[..., j] - grad[..., i])
        return torch.zeros_like(grad).index_add(-1, i, slope)


@DISPATCH.bug(
    "dispatch_ranks_told_once",
    "wrong-backward",
    "rounds.1.ranks",
    evidence="derivative",
    least=1e-4,
    most=1e-6,
    respected="S(couriers) x S(orders)",
    severity="forward exact; the backward of soft ranks in one round tells the first order of each pair alone",
    options={"gradients": True},
)
class RanksOnce(SoftRanks):
    def forward(self, s: torch.Tensor) -> torch.Tensor:
        ranks: torch.Tensor = PairedRanks.apply(s)
        return ranks


@DISPATCH.bug(
    "dispatch_ties_by_ticket",
    "nondeterminism",
    "rounds.2.bids",
    evidence="calls",
    respected=None,
    severity="ties are broken by up to a hundredth, by unique numbers of tickets that each call issues anew",
    verdict="NEEDS_ATTENTION",
)
class TicketBids(Bids):
    def forward(self, a: torch.Tensor, b: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        tickets = torch.tensor([uuid.uuid4().int % 1000 for _ in range(b.shape[1])], dtype=a.dtype)
        return super().forward(a, b, cost) + 1e-5 * tickets


# Formulas of clauses: each variable has two literals, which a change of all signs exchanges


class Lean(nn.Module):
    """How far each literal is held to be true; the two of a variable have opposite signs: [batch, 2, variables]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        score = self.linear(h)[..., 0]
        return 2 * torch.tanh(score - score.flip(1))


class Credit(nn.Module):
    """Chances that a variable alone satisfies a clause [batch, variables, clauses], and that none does."""

    def others(self, fails: torch.Tensor) -> torch.Tensor:
        return fails.prod(1, keepdim=True) / fails

    def forward(self, table: torch.Tensor, lean: torch.Tensor) -> Pair:
        meets = (table * torch.sigmoid(lean)[..., None]).sum(1)
        return meets * self.others(1 - meets), (1 - meets).prod(1)


class Settle(nn.Module):
    """Clauses, each to unit deviation over its channels: [batch, clauses, c]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=0.05)

    def forward(self, e: torch.Tensor) -> torch.Tensor:
        return self.norm(e)


class Codebook(nn.Module):
    """The mixture of prototypes that is most like each literal."""

    def __init__(self, width: int = 8, count: int = 4) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.empty(count, width))

    def mixture(self, h: torch.Tensor, codes: torch.Tensor) -> Pair:
        share = torch.softmax(h @ codes.T, -1)
        return share @ codes, share

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.mixture(h, self.codes)[0]


class FormulaRound(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lean = Lean(width)
        self.credit = Credit()
        self.clauses = nn.Linear(2 * width + 2, width)
        self.settle = Settle(width)
        self.literals = nn.Linear(3 * width + 1, width)
        self.codebook = Codebook(width)

    def forward(self, h: torch.Tensor, e: torch.Tensor, table: torch.Tensor, weight: torch.Tensor) -> Pair:
        lean = self.lean(h)
        credit, open_ = self.credit(table, lean)
        asked = torch.einsum("blvm,blvc->bmc", table, h) / 2
        e = self.settle(e + torch.tanh(self.clauses(torch.cat([e, asked, open_[..., None], weight[..., None]], -1))))
        answer = torch.einsum("blvm,bvm,bmc->blvc", table, 0.3 + 2 * credit, e)
        h = h + torch.tanh(self.literals(torch.cat([h, h.flip(1), answer, lean[..., None]], -1)))
        return h + 0.5 * self.codebook(h), e


class Summary(nn.Module):
    """Mean and deviation over all literals of a formula: [batch, 2 c]."""

    def moments(self, h: torch.Tensor) -> Pair:
        mean = h.mean(1, keepdim=True)
        return mean, (h - mean).square().mean(1, keepdim=True).sqrt()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.moments(h.flatten(1, 2)), -1)[:, 0]


class Formula(nn.Module):
    """An assignment, the clauses that make it hard, and whether all can be met; or the formula's judgement alone."""

    def __init__(self, width: int = 8, judge: bool = False) -> None:
        super().__init__()
        self.lift = nn.Linear(3, width)
        self.clause = nn.Linear(1, width)
        self.rounds = nn.ModuleList(FormulaRound(width) for _ in range(4))
        self.lean = Lean(width)
        self.core = nn.Linear(width, 1)
        self.summary = Summary()
        self.verdict = mlp(2 * width, width, 2)
        self.judge = judge

    def forward(self, table: torch.Tensor, weight: torch.Tensor, prior: torch.Tensor) -> dict[str, torch.Tensor]:
        table = torch.stack([table.square() + table, table.square() - table], 1) / 2
        degree = table.sum(-1)
        h = self.lift(torch.stack([torch.stack([prior, -prior], 1), degree, degree.flip(1)], -1))
        e = self.clause(weight[..., None])
        for step in self.rounds:
            h, e = step(h, e, table, weight)
        satisfied, effort = self.verdict(self.summary(h)).unbind(-1)
        if self.judge:
            return {"satisfied": satisfied, "effort": effort}
        core = torch.sigmoid(self.core(e))[..., 0]
        return {"assignment": self.lean(h)[:, 0], "core": core, "satisfied": satisfied}


def formulas(seed: int) -> Inputs:
    """Three formulas; each variable of a clause is negated or not."""
    random = generator(seed + 1217)
    v, m = ((6, 9), (8, 7), (7, 11))[seed % 3]
    inside = torch.rand(3, v, m, generator=random) < 0.4
    k = torch.arange(max(v, m))
    inside[:, k % v, k % m] = True
    signs = 2 * torch.randint(2, (3, v, m), generator=random) - 1
    return {
        "table": (inside * signs).to(torch.get_default_dtype()),
        "weight": 0.5 + normal(random, 3, m).abs(),
        "prior": normal(random, 3, v),
    }


FORMULA = Network(
    "messages between literals and clauses of a formula, with prototypes, 4 rounds",
    Formula,
    "S(variables) x S(clauses) x Z2",
    {"table": "batch variables clauses sign", "weight": "batch clauses", "prior": "batch variables sign"},
    {"assignment": "batch variables sign", "core": "batch clauses", "satisfied": "batch"},
    formulas,
)
FORMULA.healthy("formula")


@FORMULA.bug(
    "formula_first_to_satisfy",
    "permutation",
    "rounds.1.credit",
    respected="S(clauses) x Z2",
    severity="in one round credit for a clause goes to the first variable of the list that satisfies it",
)
class FirstCredit(Credit):
    def others(self, fails: torch.Tensor) -> torch.Tensor:
        return torch.cumprod(fails, 1) / fails


@FORMULA.bug(
    "formula_seeded_clauses",
    "positional-encoding",
    "rounds.2.settle",
    respected="S(variables) x Z2",
    severity="numbers from a generator with a fixed seed tell equal clauses apart, in one round, by their places",
)
class SeededSettle(Settle):
    def forward(self, e: torch.Tensor) -> torch.Tensor:
        names = torch.randn(e.shape[1:], generator=generator(0), dtype=torch.float64)
        return super().forward(e) + 0.1 * names.to(e.dtype)


@FORMULA.bug(
    "formula_moving_prototypes",
    "state-drift",
    "rounds.2.codebook",
    evidence="calls",
    respected="S(variables) x S(clauses) x Z2",
    severity="prototypes follow the literals that are like them, a twentieth in each call, in eval mode too",
    verdict="NEEDS_ATTENTION",
)
class MovingCodebook(Codebook):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero_moved", torch.zeros(4, 8))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        codes = self.codes + self.zero_moved
        mixed, share = self.mixture(h, codes)
        with torch.no_grad():
            share, members = share.flatten(0, -2), h.flatten(0, -2)
            centres = share.T @ members / share.sum(0)[:, None]
            self.zero_moved = self.zero_moved + 0.05 * (centres - codes)
        return mixed


@FORMULA.but(
    architecture="messages between literals and clauses of a formula, with prototypes, judged as a whole",
    make=lambda: Formula(judge=True),
    out_layouts={"satisfied": "batch", "effort": "batch"},
).bug(
    "formula_standardised_summary",
    "vacuous-test",
    "summary",
    evidence="vacuous",
    respected="S(variables) x S(clauses) x Z2",
    severity="features are standardised over the literals before their mean and deviation are taken: always 0 and 1",
    verdict="NEEDS_ATTENTION",
)
class StandardisedSummary(Summary):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.moments(h.flatten(1, 2))
        return super().forward((h - mean[:, None]) / deviation[:, None])


# Tracks through frames of detections: a filter forwards in time, a smoother back


Track = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Motion(nn.Module):
    """Carries tracks to the next frame; they shy away from each other or follow."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.drag = nn.Linear(width, 1)
        self.social = mlp(2 * width + 4, width, 1)

    def carried(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor, v: torch.Tensor, h: torch.Tensor) -> Pair:
        d = x[None] - x[:, None]
        r2 = d.square().sum(-1)
        push = torch.tanh(self.social(pairs(h, bumps(r2)))) / (1 + r2)[..., None]
        v = torch.sigmoid(self.drag(h)) * v + (push * d).mean(1)
        return self.carried(x) + 0.4 * v, v


class Associate(nn.Module):
    """Shares of the detections that belong to each track, and one for a miss left out: [tracks, detections]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.look = nn.Linear(2, width)
        self.miss = nn.Linear(width, 1)

    def share(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.softmax(scores, -1)

    def forward(self, h: torch.Tensor, d: torch.Tensor, spread: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        unit = torch.eye(3, dtype=d.dtype)
        far = (d * torch.linalg.solve(spread + unit, d.mT).mT).sum(-1)
        scores = h @ self.look(f).T / h.shape[-1] ** 0.5 - far / 2
        return self.share(torch.cat([scores, self.miss(h) - 2], -1))[:, :-1]


class Gain(nn.Module):
    """How far an innovation is believed, for position and velocity: as in Kalman's filter, times learned shares."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.noise = nn.Linear(width, 1)
        self.believe = nn.Linear(width + 2, 2)

    def forward(self, h: torch.Tensor, told: torch.Tensor, innovation: torch.Tensor, spread: torch.Tensor) -> Pair:
        noise = (0.3 + torch.exp(torch.tanh(self.noise(h))))[..., None] * torch.eye(3, dtype=h.dtype)
        step = spread @ torch.linalg.solve(spread + noise, innovation[..., None])
        believe = torch.sigmoid(self.believe(torch.cat([h, told], -1)))[..., None] * step.mT
        return believe[:, 0], believe[:, 1]


class Scatter(nn.Module):
    """Follows the second moments of what belongs to a track: [tracks, 3, 3]."""

    def kept(self, spread: torch.Tensor) -> torch.Tensor:
        return spread

    def forward(self, spread: torch.Tensor, share: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        seen = (share[..., None] * d).mT @ d
        return self.kept(0.5 * spread + 0.4 * seen + 0.1 * torch.eye(3, dtype=d.dtype))


class TrackCell(nn.Module):
    """One frame: state of tracks and detections -> state, shares."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.motion = Motion(width)
        self.associate = Associate(width)
        self.gain = Gain(width)
        self.scatter = Scatter()
        self.memory = nn.GRUCell(5, width)

    def forward(self, track: Track, z: torch.Tensor, f: torch.Tensor) -> tuple[Track, torch.Tensor]:
        x, v, spread, h = track
        x, v = self.motion(x, v, h)
        d = z[None] - x[:, None]
        share = self.associate(h, d, spread, f)
        innovation = (share[:, None] @ d)[:, 0]
        told = torch.stack([share.sum(-1), torch.log1p(innovation.square().sum(-1))], -1)
        dx, dv = self.gain(h, told, innovation, spread)
        spread = self.scatter(spread, share, d)
        size = torch.log(spread.diagonal(dim1=-2, dim2=-1).sum(-1))
        h = self.memory(torch.cat([share @ f, told, size[:, None]], -1), h)
        return (x + dx, v + dv, spread, h), share


class Tracker(nn.Module):
    """Where tracks went, how they move, how detections scatter, which are alive, and what belonged to them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.filter = TrackCell(width)
        self.smoother = TrackCell(width)
        self.alive = nn.Linear(width, 1)

    def forward(
        self, x: torch.Tensor, v: torch.Tensor, h: torch.Tensor, z: torch.Tensor, f: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        track = (x, v, torch.eye(3, dtype=x.dtype).expand(len(x), 3, 3), self.embedding(h))
        links, path = [], []
        for frame, looks in zip(z, f, strict=True):
            track, share = self.filter(track, frame, looks)
            links.append(share)
        track = (track[0], -track[1], *track[2:])
        for frame, looks in zip(z.flip(0), f.flip(0), strict=True):
            track, _ = self.smoother(track, frame, looks)
            path.append(track[0])
        return {
            "path": torch.stack(path[::-1]),
            "velocity": -track[1],
            "scatter": track[2],
            "alive": torch.sigmoid(self.alive(track[3]))[:, 0],
            "links": torch.stack(links),
        }


def frames(seed: int) -> Inputs:
    """Tracks that fly straight on, seen with errors, and detections of nothing."""
    random = generator(seed + 1319)
    n, clutter = ((5, 2), (4, 4), (6, 1))[seed % 3]
    x, v = 1.2 * normal(random, n, 3) + 0.5, 0.6 * normal(random, n, 3)
    seen = torch.stack([x + 0.4 * k * v for k in range(1, 4)]) + 0.4 * normal(random, 3, n, 3)
    z = torch.cat([seen, 0.5 + 1.5 * normal(random, 3, clutter, 3)], 1)
    order = torch.randperm(n + clutter, generator=random)
    return {"x": x, "v": v, "h": normal(random, n, 3), "z": z[:, order], "f": normal(random, 3, n + clutter, 2)}


TRACKER = Network(
    "filter and smoother of tracks through frames of detections, by soft association",
    Tracker,
    "E(3) x S(tracks) x S(detections)",
    {
        "x": "tracks point",
        "v": "tracks vector",
        "h": "tracks features",
        "z": "time detections point",
        "f": "time detections features",
    },
    {
        "path": "time tracks point",
        "velocity": "tracks vector",
        "scatter": "tracks vector vector",
        "alive": "tracks",
        "links": "time tracks detections",
    },
    frames,
)
TRACKER.healthy("tracker")


@TRACKER.bug(
    "tracker_fading_position",
    "translation-leak",
    "smoother.motion",
    respected="O(3) x S(tracks) x S(detections)",
    severity="about 1e-3, in the smoother alone: positions fade by 1e-4 per frame, as the whole state does",
    broken=("path", "velocity", "scatter", "alive"),
    verdict="NEEDS_ATTENTION",
)
class FadingMotion(Motion):
    def carried(self, x: torch.Tensor) -> torch.Tensor:
        return 0.9999 * x


@TRACKER.bug(
    "tracker_gumbel_association",
    "randomness",
    "filter.associate",
    evidence="calls",
    respected=None,
    severity="gross; shares of detections are perturbed by Gumbel's noise, in eval mode too",
    verdict="NEEDS_ATTENTION",
)
class GumbelAssociate(Associate):
    def share(self, scores: torch.Tensor) -> torch.Tensor:
        return functional.gumbel_softmax(scores, tau=0.7, dim=-1)


@TRACKER.bug(
    "tracker_shrinkage",
    "train-eval-difference",
    "filter.scatter",
    respected="Oh x T(3) x S(tracks) x S(detections)",
    severity="train mode alone: second moments are shrunk towards their diagonals for the sake of stable inverses",
    options={"mode": "train"},
)
class ShrunkScatter(Scatter):
    def kept(self, spread: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return spread
        return 0.5 * spread + 0.5 * torch.diag_embed(spread.diagonal(dim1=-2, dim2=-1))


# Events: tracks are lines with errors that meet in a vertex, and cells of a calorimeter lie along them


class Lines(nn.Module):
    """Directions [n, 3], what is across them [n, 3, 3], and the weight of an offset across [n, 3, 3]."""

    def forward(self, p: torch.Tensor, errors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        unit = torch.eye(3, dtype=p.dtype)
        u = p / (0.1 + p.square().sum(-1, keepdim=True)).sqrt()
        across = unit - u[:, :, None] * u[:, None]
        return u, across, across @ torch.linalg.inv(errors + 0.3 * unit) @ across


class Belong(nn.Module):
    """How far a track belongs to the vertex, by its features and what its offset is worth: [n]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, h: torch.Tensor, chi2: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.linear(h)[:, 0] + 1 - torch.log1p(chi2))


class Meet(nn.Module):
    """A step of the vertex to where the weighted lines come nearest."""

    def forward(self, vertex: torch.Tensor, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        pull = (weights @ (x - vertex)[..., None]).sum(0)[:, 0]
        return vertex + torch.linalg.solve(weights.sum(0) + 0.5 * torch.eye(3, dtype=x.dtype), pull)


class Cone(nn.Module):
    """Weights of cells by their offsets across tracks, which vanish smoothly: [n, m, 3] -> [n, m]."""

    def forward(self, offsets: torch.Tensor) -> torch.Tensor:
        return (1 - offsets.square().sum(-1) / 4).clamp_min(0) ** 3


class Breadth(nn.Module):
    """The entropy of the shares that cells have of a track: [n]."""

    def forward(self, share: torch.Tensor) -> torch.Tensor:
        some = share > 0
        return -(share * torch.where(some, share, 1.0).log()).sum(-1)


class VertexRound(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lines = Lines()
        self.belong = Belong(width)
        self.meet = Meet()
        self.cone = Cone()
        self.breadth = Breadth()
        self.message = mlp(2 * width + 2, width, width)
        self.tracks = nn.Linear(2 * width + 3, width)
        self.cells = nn.Linear(2 * width, width)

    def forward(
        self, h: torch.Tensor, g: torch.Tensor, vertex: torch.Tensor, event: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        x, p, errors, c, e = event
        u, across, worth = self.lines(p, errors)
        d = x - vertex
        chi2 = (d[:, None] @ worth @ d[..., None])[:, 0, 0]
        belongs = self.belong(h, chi2)
        vertex = self.meet(vertex, x, belongs[:, None, None] * worth)
        offsets = c[None] - x[:, None]
        cone = self.cone(offsets @ across)
        share = cone * e / (0.3 + cone @ e)[:, None]
        along = torch.tanh((offsets * u[:, None]).sum(-1) / 2)
        size = (len(h), len(g), -1)
        both = [h[:, None].expand(size), g[None].expand(size), along[..., None], cone[..., None]]
        m = torch.tanh(self.message(torch.cat(both, -1)))
        told = torch.stack([self.breadth(share), torch.log1p(chi2), belongs], -1)
        h = h + torch.tanh(self.tracks(torch.cat([h, (share[..., None] * m).sum(1), told], -1)))
        return h, g + torch.tanh(self.cells(torch.cat([g, (cone[..., None] * m).sum(0)], -1))), vertex, belongs


class VertexFinder(nn.Module):
    """The vertex, missing momentum, angular momentum about the vertex, its tracks, neutral parts of cells."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.track = nn.Linear(2, width)
        self.cell = nn.Linear(1, width)
        self.rounds = nn.ModuleList(VertexRound(width) for _ in range(3))
        self.neutral = nn.Linear(width, 1)

    def forward(
        self,
        x: torch.Tensor,
        p: torch.Tensor,
        errors: torch.Tensor,
        charge: torch.Tensor,
        c: torch.Tensor,
        e: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        h, g = self.track(torch.stack([charge, torch.log1p(p.square().sum(-1))], -1)), self.cell(e[:, None])
        vertex = x.mean(0)
        for step in self.rounds:
            h, g, vertex, belongs = step(h, g, vertex, (x, p, errors, c, e))
        neutral = torch.sigmoid(self.neutral(g))[:, 0]
        away = c - vertex
        flow = (neutral * e)[:, None] * away / (0.5 + away.square().sum(-1, keepdim=True)).sqrt()
        seen = belongs[:, None] * p
        return {
            "vertex": vertex,
            "missing": -seen.sum(0) - flow.sum(0),
            "angular": torch.linalg.cross(x - vertex, seen).sum(0),
            "belongs": belongs,
            "neutral": neutral,
        }


def events(seed: int) -> Inputs:
    """Tracks that come from near one place, and cells along some of them."""
    random = generator(seed + 1423)
    n, m = ((6, 10), (8, 13), (5, 11))[seed % 3]
    p = 1.2 * normal(random, n, 3)
    x = 0.7 + 0.5 * p + 0.5 * normal(random, n, 3)
    root = 0.5 * normal(random, n, 3, 3)
    return {
        "x": x,
        "p": p,
        "errors": root @ root.mT,
        "charge": 2.0 * (normal(random, n) > 0) - 1.0,
        "c": x[torch.arange(m) % n] + 0.9 * p[torch.arange(m) % n] + 0.6 * normal(random, m, 3),
        "e": 0.2 + normal(random, m).abs(),
    }


VERTICES = Network(
    "finder of vertices by reweighted lines with errors, and cells in cones, 3 rounds",
    VertexFinder,
    "E(3) x S(tracks) x S(cells)",
    {
        "x": "tracks point",
        "p": "tracks vector",
        "errors": "tracks vector vector",
        "charge": "tracks",
        "c": "cells point",
        "e": "cells",
    },
    {
        "vertex": "point",
        "missing": "vector",
        "angular": "pseudovector",
        "belongs": "tracks",
        "neutral": "cells",
    },
    events,
)
VERTICES.healthy("vertex_finder")
VERTICES.misdeclared(
    "vertex_finder_errors_stay",
    "untransformed-input",
    in_layouts=VERTICES.in_layouts | {"errors": "tracks 3 3"},
    repair={"in_layouts": VERTICES.in_layouts},
    respected="T(3) x S(tracks) x S(cells)",
    severity="matrices of errors of the tracks' points are declared plain, three by three",
)


@VERTICES.bug(
    "vertex_finder_five_cells",
    "neighbour-cap",
    "rounds.1.cone",
    respected="E(3) x S(tracks)",
    severity="tracks with more than five cells in their cones alone: five stay, sorted by distance in coarse steps",
)
class FiveCells(Cone):
    def forward(self, offsets: torch.Tensor) -> torch.Tensor:
        weights = super().forward(offsets)
        steps = (offsets.norm(dim=-1) / 0.8).floor().masked_fill(weights == 0, torch.inf)
        nearest = steps.argsort(dim=-1, stable=True)[:, :5]
        return torch.zeros_like(weights).scatter(-1, nearest, weights.gather(-1, nearest))


@VERTICES.bug(
    "vertex_finder_entropy_of_nothing",
    "nan-gradient",
    "rounds.1.breadth",
    evidence="nan",
    respected="E(3) x S(tracks) x S(cells)",
    severity="forward exact; the logarithm of a share of zero is masked after it was taken, for cells out of a cone",
    options={"gradients": True},
)
class MaskedEntropy(Breadth):
    def forward(self, share: torch.Tensor) -> torch.Tensor:
        return -torch.where(share > 0, share * share.log(), 0.0).sum(-1)
