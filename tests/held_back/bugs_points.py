"""Deep E(3) networks; `bug` plants at most one fault (None: clean)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from nets_points import mlp


# A. edge-list EGNN, vectors [n, 3c] between blocks, [n, c, 3] inside
class Geometry(nn.Module):
    def __init__(self, eps=0.0):
        super().__init__()
        self.eps = eps

    def forward(self, x, index):
        i, j = index
        rel = x[i] - x[j]
        d2 = rel.square().sum(-1, keepdim=True)
        if self.eps:
            d2 = d2 + self.eps * x[j].sum(-1, keepdim=True)  # absolute coordinates
        return rel, d2


class Aggregate(nn.Module):
    def __init__(self, decay=1.0):
        super().__init__()
        self.decay = decay

    def forward(self, msg, dst, num):
        if self.decay != 1.0:  # depends on the order of the edges
            w = self.decay ** torch.arange(len(msg), dtype=msg.dtype)
            msg = msg * w.view(-1, *[1] * (msg.dim() - 1))
        return msg.new_zeros(num, *msg.shape[1:]).index_add(0, dst, msg)


class Direction(nn.Module):
    def __init__(self, low=False):
        super().__init__()
        self.low = low

    def forward(self, rel, d2):
        u = rel / (1 + d2).sqrt()
        if self.low:
            u = torch.stack([u[:, 0], u[:, 1].half().to(u.dtype), u[:, 2]], -1)
        return u


class VecMix(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.w = nn.Parameter(torch.randn(cin, cout) / cin**0.5)

    def forward(self, v):
        return torch.tensordot(v, self.w, dims=([1], [0])).transpose(1, 2)


class EdgeBlock(nn.Module):
    def __init__(self, h, c, eps=0.0, decay=1.0, low=False):
        super().__init__()
        self.geometry, self.direction, self.pool = Geometry(eps), Direction(low), Aggregate(decay)
        self.message = mlp(2 * h + 1, 25, h)
        self.to_vec = nn.Linear(h, c)
        self.mix = VecMix(c, c)
        self.node = mlp(2 * h + c, 25, h)
        self.move = nn.Linear(h, c, bias=False)
        self.ln = nn.LayerNorm(h)

    def forward(self, h, v, x, index):
        v = v.unflatten(1, (-1, 3))
        rel, d2 = self.geometry(x, index)
        u = self.direction(rel, d2)
        m = self.message(torch.cat([h[index[0]], h[index[1]], torch.log1p(d2.abs())], 1))
        v = v + self.mix(self.pool(self.to_vec(m)[:, :, None] * u[:, None, :], index[0], num=len(h))) / 3
        agg = self.pool(m, index[0], num=len(h))
        h = h + self.node(torch.cat([self.ln(h), agg, v.norm(dim=-1)], 1))
        x = x + 0.1 * torch.einsum("nc,ncd->nd", torch.tanh(self.move(h)), v)
        return h, v.flatten(1), x


class DeepEGNN(nn.Module):
    def __init__(self, bug=None, h=16, c=6, depth=7):
        super().__init__()
        self.z = nn.Embedding(5, h)
        self.c = c
        self.blocks = nn.ModuleList()
        for k in range(depth):
            self.blocks.append(
                EdgeBlock(
                    h,
                    c,
                    eps=1e-3 if (bug == "leak" and k == 4) else 0.0,
                    decay=0.97 if (bug == "order" and k == 1) else 1.0,
                    low=bug == "half" and k == 6,
                )
            )
        self.out = nn.Linear(h, 4)
        self.force = VecMix(c, 1)

    def forward(self, species, pos, edge_index):
        h = self.z(species)
        v, x = h.new_zeros(len(h), 3 * self.c), pos
        for blk in self.blocks:
            h, v, x = blk(h, v, x, index=edge_index)
        return {"pos": x, "force": self.force(v.view(-1, self.c, 3))[:, 0], "feats": self.out(h)}


# B. batched dense PaiNN-like, vectors [b, n, 3, c]
class Pack(NamedTuple):
    s: torch.Tensor
    v: torch.Tensor


class Lengths(nn.Module):
    def __init__(self, planar=False):
        super().__init__()
        self.planar = planar

    def forward(self, v):
        sq = v.square()
        n2 = sq[:, :, 0] + sq[:, :, 1] if self.planar else sq.sum(2)
        return (n2 + 1e-6).sqrt()


class VecRMS(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.scale = nn.Parameter(1 + 0.1 * torch.randn(c))

    def forward(self, v):
        return v * self.scale / (v.square().sum(2, keepdim=True).mean(-1, keepdim=True) + 1e-5).sqrt()


class VecGate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.lin = nn.Linear(c, c)

    def forward(self, v, s):
        return v * torch.sigmoid(self.lin(s))[:, :, None]


class VecSwish(VecGate):
    def forward(self, v, s):
        return F.silu(v) * torch.sigmoid(self.lin(s))[:, :, None]


class PairConv(nn.Module):
    def __init__(self, c, k=8):
        super().__init__()
        self.register_buffer("mu", torch.linspace(0, 4, k))
        self.f = mlp(k, c, 3 * c)
        self.g = nn.Linear(c, 3 * c)

    def forward(self, pack, rel, dist):
        n = dist.shape[1]
        rbf = torch.exp(-2 * (dist[..., None] - self.mu) ** 2)
        off = 1 - torch.eye(n, dtype=dist.dtype)
        w = self.f(rbf) * self.g(pack.s)[:, None] * off[..., None]
        a, b, d = w.chunk(3, -1)
        dv = torch.einsum("bijc,bjkc->bikc", a, pack.v) + torch.einsum(
            "bijc,bijk->bikc", b, rel / (dist + 1)[..., None]
        )
        return d.sum(2) / n, dv / n


class PaiBlock(nn.Module):
    def __init__(self, c, **kw):
        super().__init__()
        self.norm = kw.get("norm", VecRMS)(c)
        self.snorm = nn.LayerNorm(c)
        self.conv = PairConv(c)
        self.lengths = Lengths(planar=kw.get("planar", False))
        self.gate = kw.get("gate", VecGate)(c)
        self.mix = nn.Linear(c, c, bias=False)
        self.up = mlp(2 * c, c, c)

    def forward(self, pack: Pack, rel, dist) -> Pack:
        normed = Pack(self.snorm(pack.s), self.norm(pack.v))
        ds, dv = self.conv(normed, rel, dist)
        s, v = pack.s + ds, pack.v + dv
        w = self.mix(v)
        s = s + self.up(torch.cat([s, self.lengths(w)], -1))
        return Pack(s, v + self.gate(w, s))


class DeepPai(nn.Module):
    def __init__(self, bug=None, c=14, depth=6):
        super().__init__()
        self.emb = nn.Linear(4, c)
        special = {
            "swish": (2, {"gate": VecSwish}),
            "layernorm": (4, {"norm": nn.LayerNorm}),
            "dropped": (0, {"planar": True}),
        }
        at, kw = special.get(bug, (None, {}))
        self.blocks = nn.ModuleList([PaiBlock(c, **(kw if i == at else {})) for i in range(depth)])
        self.vec = nn.Linear(c, 1, bias=False)
        self.energy = mlp(c, 10, 1)

    def forward(self, batch_pos, attr):
        rel = batch_pos[:, :, None] - batch_pos[:, None]
        dist = (rel.square().sum(-1) + 1e-10).sqrt()
        s = self.emb(attr)
        pack = Pack(s, (rel / (1 + dist[..., None])).mean(2)[..., None] * s[:, :, None])
        for b in self.blocks:
            pack = b(pack, rel=rel, dist=dist)
        return {"energy": self.energy(pack.s).sum((1, 2)), "forces": self.vec(pack.v)[..., 0]}


# C. polar and axial vectors, [c, n, 3]
class Cross(nn.Module):
    def __init__(self, sign=1.0):
        super().__init__()
        self.sign = sign

    def forward(self, a, b):
        ax, ay, az = a.unbind(-1)
        bx, by, bz = b.unbind(-1)
        return torch.stack([ay * bz - az * by, self.sign * (az * bx - ax * bz), ax * by - ay * bx], -1)


class Triple(nn.Module):
    """Squashed |a . (b x c)| per channel."""

    def __init__(self, bad=None):
        super().__init__()
        self.bad = bad

    def forward(self, a, b, c):
        t = torch.asinh(10 * torch.linalg.det(torch.stack([a, b, c], -1)))
        out = t.abs()
        if self.bad is not None:
            out = torch.cat([out[: self.bad], t[self.bad : self.bad + 1], out[self.bad + 1 :]], 0)
        return out


class Mix(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a) / a**0.5)

    def forward(self, v):
        return torch.einsum("oa,ank->onk", self.weight, v)


class TorqueLayer(nn.Module):
    def __init__(self, c=5, s=12, sign=1.0, bad=None, scrambled=False):
        super().__init__()
        self.c, self.scrambled = c, scrambled
        self.mixes = nn.ModuleDict({k: Mix(c, c) for k in ("p", "q", "r", "ax", "bx")})
        self.cross, self.triple = Cross(sign), Triple(bad)
        self.pair = mlp(2 * s + 1, 20, c)
        self.scal = mlp(s + 3 * c, 20, s + 2 * c)

    def forward(self, f):
        V, A, s, rel, d = (f[k] for k in ("V", "A", "s", "rel", "d"))
        n = len(s)
        w = self.pair(torch.cat([s[:, None].expand(n, n, -1), s[None].expand(n, n, -1), d[..., None]], -1))
        heard = torch.einsum("ijc,ijk->ick", w, rel) / n  # n c 3
        if self.scrambled:
            heard = heard.reshape(self.c, n, 3)
        else:
            heard = heard.permute(1, 0, 2)
        V = V + heard
        p, q, r = (self.mixes[k](V) for k in "pqr")
        a = self.mixes["ax"](A)
        new_axial = self.cross(p, q)
        new_polar = self.cross(self.mixes["bx"](A), r)
        t = self.triple(p, q, r)
        inv = torch.cat([s, t.t(), (p * q).sum(-1).tanh().t(), a.norm(dim=-1).t()], -1)
        ds, g1, g2 = self.scal(inv).split([s.shape[-1], self.c, self.c], -1)

        def soft(u):
            return u / (1 + u.norm(dim=-1, keepdim=True))

        V = V + torch.tanh(g1).t()[..., None] * soft(new_polar)
        A = A + torch.tanh(g2).t()[..., None] * soft(new_axial + a)
        return {**f, "V": V, "A": A, "s": s + ds}


class TorqueNet(nn.Module):
    def __init__(self, bug=None, c=5, s=12, depth=6):
        super().__init__()
        self.kind = nn.Embedding(4, s)
        self.v0, self.a0 = Mix(1, c), Mix(1, c)
        self.layers = nn.Sequential(
            *[
                TorqueLayer(
                    c,
                    s,
                    sign=-1.0 if (bug, i) == ("sign", 3) else 1.0,
                    bad=2 if (bug, i) == ("channel", 1) else None,
                    scrambled=(bug, i) == ("index", 4),
                )
                for i in range(depth)
            ]
        )
        self.vout, self.aout = Mix(c, 1), Mix(c, 1)

    def forward(self, kinds, pos, spin):
        rel = pos[:, None] - pos[None]
        d = rel.norm(dim=-1)
        rel = rel / (1 + d[..., None])
        f = {"V": self.v0(rel.mean(1)[None]), "A": self.a0(spin[None]), "s": self.kind(kinds), "rel": rel, "d": d}
        f = self.layers(f)
        return {"force": self.vout(f["V"])[0], "torque": self.aout(f["A"])[0]}
