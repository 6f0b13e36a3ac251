"""Deep graph, set, grid and Lorentz networks; `bug` plants at most one fault (None: clean)."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from nets_fields import ConvP4, LiftP4, dihedral, psi


# D. graph network on adjacency, 8 layers
class Neighbours(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.eps = nn.Parameter(torch.tensor(0.2))

    def forward(self, x, adj):
        return (1 + self.eps) * x + torch.bmm(adj, x) / (1 + adj.sum(-1, keepdim=True))


class SeenSoFar(Neighbours):
    def forward(self, x, adj):
        a = adj.tril()
        return (1 + self.eps) * x + torch.bmm(a, x) / (1 + a.sum(-1, keepdim=True))


class EdgeScores(nn.Module):
    def __init__(self, c, slope=0.0):
        super().__init__()
        self.q, self.k = nn.Linear(c, 7), nn.Linear(c, 7)
        self.slope = slope

    def forward(self, x, adj):
        s = self.q(x) @ self.k(x).mT / 7**0.5
        if self.slope:
            s = s + self.slope * torch.arange(x.shape[1], dtype=x.dtype)
        return s.masked_fill((adj <= 0) & ~torch.eye(adj.shape[-1], dtype=torch.bool), -1e4)


class GinLayer(nn.Module):
    def __init__(self, c, agg=Neighbours, slope=0.0):
        super().__init__()
        self.agg = agg(c)
        self.scores = EdgeScores(c, slope)
        self.value = nn.Linear(c, c)
        self.mlp = nn.Sequential(nn.Linear(c, 24), nn.ReLU(), nn.Linear(24, c))
        self.norm = nn.LayerNorm(c)

    def forward(self, x, adj):
        y = self.norm(x)
        y = self.mlp(self.agg(y, adj)) + torch.softmax(self.scores(y, adj), -1) @ self.value(y)
        return x + y


class Trunk(nn.Module):
    def __init__(self, c, depth, bug):
        super().__init__()
        self.layers = nn.ModuleList(
            GinLayer(
                c,
                agg=SeenSoFar if (bug == "order" and i == 2) else Neighbours,
                slope=0.05 if (bug == "leak" and i == 5) else 0.0,
            )
            for i in range(depth)
        )
        self.virtual = nn.ModuleList(nn.Linear(2 * c, c) for _ in range(depth))
        self.first_only = bug == "index"

    def forward(self, x, adj):
        vn = torch.zeros_like(x[:, :1])
        for i, (layer, vlin) in enumerate(zip(self.layers, self.virtual, strict=False)):
            x = layer(x + vn, adj)
            pooled = x.mean(1, keepdim=True)
            if self.first_only and i == 6:
                pooled = x[:, 0:1]
            vn = vn + torch.tanh(vlin(torch.cat([vn, pooled], -1)))
        return x


class DeepGraph(nn.Module):
    def __init__(self, bug=None, f=5, c=18, depth=8):
        super().__init__()
        self.inp = nn.Linear(f, c)
        self.trunk = Trunk(c, depth, bug)
        self.node_head, self.graph_head = nn.Linear(c, 4), nn.Linear(c, 6)

    def forward(self, x, adj):
        h = self.trunk(self.inp(x), adj=adj)
        return {"nodes": self.node_head(h), "graph": self.graph_head(h.mean(1))}


# E. set network, 6 layers
class MomentPool(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.lin = nn.Linear(2 * c, c)

    def summary(self, x):
        return x.mean(1)

    def forward(self, x):
        m = self.summary(x)
        return self.lin(torch.cat([m, (x - x.mean(1, keepdim=True)).square().mean(1)], -1))


class HeadlinePool(MomentPool):
    def summary(self, x):
        m = x.mean(1)
        return torch.cat([m[:, :3], x[:, 0, 3:4], m[:, 4:]], -1)


class RecurrentPool(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.cell = nn.GRU(c, c, batch_first=True)

    def forward(self, x):
        return self.cell(x)[1][0]


class SetLayer(nn.Module):
    def __init__(self, c, pool=MomentPool):
        super().__init__()
        self.pool = pool(c)
        self.own = nn.Linear(c, c)
        self.film = nn.Linear(c, 2 * c)
        self.norm = nn.LayerNorm(c)

    def forward(self, x):
        y = self.norm(x)
        g, b = self.film(self.pool(y)).unsqueeze(1).chunk(2, -1)
        return x + F.gelu(self.own(y) * (1 + g) + b)


class Encoder(nn.Module):
    def __init__(self, c, depth, bug):
        super().__init__()
        where = {"order": (3, RecurrentPool), "channel": (4, HeadlinePool)}.get(bug, (None, None))
        self.stack = nn.ModuleList(SetLayer(c, where[1] if i == where[0] else MomentPool) for i in range(depth))
        self.lo = 1 if bug == "dropped" else 0

    def forward(self, x):
        for i, lay in enumerate(self.stack):
            x = lay(x)
            if i == 2:
                x = x - 0.5 * x[:, self.lo :].mean(dim=1, keepdim=True)
        return x


class DeepSet(nn.Module):
    def __init__(self, bug=None, f=3, c=16, depth=6):
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(f, c), nn.Tanh())
        self.encoder = Encoder(c, depth, bug)
        self.final = nn.Linear(c, 5)

    def forward(self, items):
        return self.final(self.encoder(self.lift(items)))


# F. circular resnet, 7 blocks
class SpatialGate(nn.Module):
    def __init__(self, c, coord=0.0):
        super().__init__()
        self.conv = nn.Conv2d(c, 1, 1)
        self.coord = coord

    def forward(self, x):
        z = self.conv(x)
        if self.coord:
            z = z + self.coord * torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
        return x * torch.sigmoid(z)


class CircBlock(nn.Module):
    def __init__(self, c, mode="circular", coord=0.0, cut=False):
        super().__init__()
        self.cut = cut
        self.conv1 = nn.Conv2d(3 * c, c, 3, padding=1, padding_mode="circular")
        self.norm = nn.GroupNorm(2, c)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1, padding_mode=mode)
        self.gate = SpatialGate(c, coord)

    def forward(self, x):
        if self.cut:
            gx = F.pad(x[..., 1:] - x[..., :-1], (0, 1))
        else:
            gx = torch.roll(x, -1, dims=-1) - x
        gy = torch.roll(x, -1, dims=-2) - x
        y = F.silu(self.norm(self.conv1(torch.cat((x, gx, gy), dim=1))))
        return x + self.gate(self.conv2(y))


class CircResNet(nn.Module):
    def __init__(self, bug=None, c=6, depth=7):
        super().__init__()
        self.stem = nn.Conv2d(2, c, 1)
        self.blocks = nn.Sequential(
            *[
                CircBlock(
                    c,
                    mode="zeros" if (bug == "zeropad" and i == 3) else "circular",
                    coord=1.0 if (bug == "coord" and i == 5) else 0.0,
                    cut=bug == "wrap" and i == 1,
                )
                for i in range(depth)
            ]
        )
        self.head = nn.Conv2d(c, 4, 1)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


# G. p4 network, 6 blocks
class BackRolled(ConvP4):
    def filters(self):
        return torch.stack([torch.rot90(self.weight, r, (-2, -1)).roll(-r, 2) for r in range(4)], 1)


class FieldNorm(nn.Module):
    """One scale and shift per field, shared by the four orientations."""

    def __init__(self, c):
        super().__init__()
        self.g, self.b = nn.Parameter(1 + 0.2 * torch.randn(c)), nn.Parameter(0.2 * torch.randn(c))

    def affine(self):
        return self.g[:, None].expand(-1, 4), self.b[:, None].expand(-1, 4)

    def forward(self, x):
        m = x.mean((2, 3, 4), keepdim=True)
        s = x.var((2, 3, 4), keepdim=True).add(1e-5).sqrt()
        g, b = self.affine()
        return (x - m) / s * g[..., None, None] + b[..., None, None]


class FieldNorm2(FieldNorm):
    def affine(self):
        g, b = super().affine()
        b = b.clone()
        b[3, 1] = b[3, 1] + 0.3
        return g, b


class Blur(nn.Module):
    def __init__(self, shift=0):
        super().__init__()
        t = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("k", torch.outer(t, t)[None, None])
        self.shift = shift

    def forward(self, x):
        b, c, g, h, w = x.shape
        s = self.shift
        y = F.pad(x.reshape(b, c * g, h, w), (1 + s, 1 - s, 1, 1), mode="circular")
        return F.conv2d(y, self.k.expand(c * g, -1, -1, -1), groups=c * g).view(b, c, g, h, w)


class RegularBlock(nn.Module):
    def __init__(self, c, conv=ConvP4, norm=FieldNorm, shift=0):
        super().__init__()
        self.gconv, self.norm, self.smooth = conv(c, c), norm(c), Blur(shift)

    def forward(self, x):
        return x + F.relu(self.norm(self.gconv(self.smooth(x))))


class DeepP4(nn.Module):
    def __init__(self, bug=None, c=5, depth=6):
        super().__init__()
        self.lift = LiftP4(3, c)
        swaps = {
            "index": (3, {"conv": BackRolled}),
            "channel": (1, {"norm": FieldNorm2}),
            "offcentre": (4, {"shift": 1}),
        }
        at, kw = swaps.get(bug, (None, None))
        self.trunk = nn.Sequential(*(RegularBlock(c, **kw) if i == at else RegularBlock(c) for i in range(depth)))
        self.seg = nn.Conv2d(c, 1, 1)
        self.cls = nn.Linear(c, 7)

    def forward(self, img):
        y = self.trunk(self.lift(img)).mean(2)
        return {"mask": self.seg(y)[:, 0], "label": self.cls(y.amax((-2, -1)))}


# H. D4 network, zero padding, even grid, 6 blocks
class KernelD4(nn.Module):
    def __init__(self, a, b, k=3, views=8):
        super().__init__()
        self.free = nn.Parameter(torch.randn(b, a, k, k) * 0.9 / (a * k) ** 0.5)
        self.bias = nn.Parameter(torch.randn(b) * 0.1)
        self.views = views

    def forward(self, x):
        w = torch.stack([t for t, _ in dihedral(self.free)][: self.views]).mean(0)
        return F.conv2d(x, w, self.bias, padding="same")


class Window(nn.Module):
    """Soft radial window about the middle of the grid."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = shift

    def forward(self, x):
        h, w = x.shape[-2:]
        y = torch.arange(h, dtype=x.dtype) - (h - 1) / 2 - self.shift
        z = torch.arange(w, dtype=x.dtype) - (w - 1) / 2 - self.shift
        r2 = y[:, None] ** 2 + z[None] ** 2
        return x * torch.exp(-r2 / (0.5 * h * w))


class D4Block(nn.Module):
    def __init__(self, c, views=8, shift=0.0, top=False):
        super().__init__()
        self.conv, self.conv2 = KernelD4(c, c, 5, views), KernelD4(c, c, 3)
        self.window = Window(shift)
        self.se = nn.Linear(c, c)
        self.top = top

    def forward(self, x):
        y = self.window(F.silu(self.conv(x)))
        rows = y.shape[-2] // 2 if self.top else y.shape[-2]
        ctx = y[..., :rows, :].mean((-2, -1))
        return x + torch.sigmoid(3 * self.se(ctx))[..., None, None] * self.conv2(y) + 0.2 * ctx[..., None, None]


class DeepD4(nn.Module):
    def __init__(self, bug=None, c=9, depth=6):
        super().__init__()
        self.first = KernelD4(2, c)
        mods = []
        for i in range(depth):
            mods.append(
                D4Block(
                    c,
                    views=4 if (bug == "dropped" and i == 2) else 8,
                    shift=0.5 if (bug == "offcentre" and i == 5) else 0.0,
                    top=bug == "index" and i == 3,
                )
            )
        self.body = nn.Sequential(*mods)
        self.read = nn.Conv2d(c, 4, 1)

    def forward(self, x):
        return self.read(self.body(self.first(x)))


# I. Lorentz network, 6 layers, components first: [4, n, c]
class Dot(nn.Module):
    def __init__(self, signs=(1, -1, -1, -1)):
        super().__init__()
        self.register_buffer("sig", torch.tensor(signs).to(torch.get_default_dtype()))

    def forward(self, a, b):
        return torch.tensordot(self.sig, a * b, dims=1)


class InvGate(nn.Module):
    def __init__(self, c, s):
        super().__init__()
        self.lin = nn.Linear(s, c)

    def forward(self, v, s):
        return v * torch.tanh(self.lin(s))


class InvGate2(InvGate):
    def forward(self, v, s):
        return torch.asinh(v) * torch.tanh(self.lin(s))


class Blend(nn.Module):
    def __init__(self, c, e16=False):
        super().__init__()
        self.w = nn.Parameter(torch.randn(c, c) / c**0.5)
        self.e16 = e16

    def forward(self, v):
        v = v @ self.w
        if self.e16:
            v = torch.cat([v[:1].half().to(v.dtype), v[1:]])
        return v


class DeepLorentzLayer(nn.Module):
    def __init__(self, c, s, *, signs=(1, -1, -1, -1), act=InvGate, e16=False):
        super().__init__()
        self.dot, self.act, self.blend = Dot(signs), act(c, s), Blend(c, e16)
        self.att = nn.Sequential(nn.Linear(c + 2 * s, 16), nn.SiLU(), nn.Linear(16, c))
        self.scal = nn.Sequential(nn.Linear(s + c, 16), nn.SiLU(), nn.Linear(16, s))

    def forward(self, state):
        v, s = state
        n = len(s)
        inv = psi(self.dot(v[:, :, None], v[:, None]))
        a = self.att(torch.cat([inv, s[:, None].expand(n, n, -1), s[None].expand(n, n, -1)], -1)).softmax(1)
        pulled = self.blend(torch.einsum("nmc,kmc->knc", a, v))
        s = s + self.scal(torch.cat([s, psi(self.dot(v, pulled))], -1))
        return v + 0.5 * self.act(pulled, s), s


class DeepLorentz(nn.Module):
    def __init__(self, bug=None, c=5, s=9, depth=6):
        super().__init__()
        self.up = nn.Linear(2, c, bias=False)
        self.s_in = nn.Linear(1, s)
        faults = {
            "sign": (2, {"signs": (1, -1, -1, 1)}),
            "nonlin": (4, {"act": InvGate2}),
            "half": (5, {"e16": True}),
        }
        at, kw = faults.get(bug, (-1, {}))
        self.layers = nn.Sequential(*[DeepLorentzLayer(c, s, **(kw if i == at else {})) for i in range(depth)])
        self.down = nn.Linear(c, 1, bias=False)
        self.cls = nn.Linear(s, 3)

    def forward(self, p, charge):
        both = torch.stack([p.t(), p.mean(0)[:, None].expand(-1, len(p))], -1)
        v = self.up(both)
        v, s = self.layers((v, self.s_in(charge)))
        return {"p_out": self.down(v).squeeze(-1).t(), "cls": self.cls(s.mean(0))}
