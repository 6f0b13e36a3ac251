"""Healthy point-cloud / molecule networks (plain PyTorch)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise, product

import torch
import torch.nn as nn
import torch.nn.functional as F


def mlp(*dims, act=nn.SiLU):
    mods = []
    for i, (a, b) in enumerate(pairwise(dims)):
        mods.append(nn.Linear(a, b))
        if i < len(dims) - 2:
            mods.append(act())
    return nn.Sequential(*mods)


# 1. dense EGNN
class EGCL(nn.Module):
    """Satorras et al., all pairs, state passed along as a dict."""

    def __init__(self, dim, msg):
        super().__init__()
        self.phi_e = nn.Sequential(nn.Linear(2 * dim + 1, msg), nn.SiLU(), nn.Linear(msg, msg), nn.SiLU())
        self.phi_inf = nn.Sequential(nn.Linear(msg, 1), nn.Sigmoid())
        self.phi_x = nn.Sequential(nn.Linear(msg, msg), nn.SiLU(), nn.Linear(msg, 1, bias=False), nn.Tanh())
        self.phi_h = mlp(dim + msg, msg, dim)

    def forward(self, state):
        h, x, off = state["h"], state["x"], state["offdiag"]
        n = len(h)
        diff = x[:, None, :] - x[None, :, :]
        d2 = diff.pow(2).sum(-1, keepdim=True)
        pair = torch.cat([h[:, None].expand(-1, n, -1), h[None].expand(n, -1, -1), d2.log1p()], dim=-1)
        m = self.phi_e(pair)
        m = m * self.phi_inf(m) * off[..., None]
        x = x + (diff / (1 + d2.sqrt()) * self.phi_x(m) * off[..., None]).sum(1) / (n - 1)
        h = h + self.phi_h(torch.cat([h, m.sum(1)], -1))
        return {**state, "h": h, "x": x}


class DenseEGNN(nn.Module):
    def __init__(self, n_in=5, dim=16, depth=4, n_out=6):
        super().__init__()
        self.embed = nn.Linear(n_in, dim)
        self.gcl = nn.ModuleList([EGCL(dim, 20) for _ in range(depth)])
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, n_out))

    def forward(self, feats, coords):
        n = coords.size(0)
        state = {
            "h": self.embed(feats),
            "x": coords,
            "offdiag": 1 - torch.eye(n, dtype=coords.dtype, device=coords.device),
        }
        for layer in self.gcl:
            state = layer(state)
        return {"coords": state["x"], "logits": self.head(state["h"])}


# 2. PaiNN, edge list
@dataclass
class Edges:
    src: torch.Tensor
    dst: torch.Tensor
    unit: torch.Tensor
    rbf: torch.Tensor
    env: torch.Tensor


class BoxOrigin(nn.Module):
    """Puts raw coordinates in the simulation box frame. Only differences are used later."""

    def __init__(self):
        super().__init__()
        self.register_buffer("origin", torch.tensor([7.5, -3.25, 1.125]))

    def forward(self, pos):
        return pos + self.origin


class Bessel(nn.Module):
    def __init__(self, num=10, cutoff=6.0):
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("freq", math.pi * torch.arange(1, num + 1).to(torch.get_default_dtype()) / cutoff)

    def forward(self, d):
        return torch.sin(d[:, None] * self.freq) / d[:, None]


class CosineCut(nn.Module):
    def __init__(self, cutoff=6.0):
        super().__init__()
        self.cutoff = cutoff

    def forward(self, d):
        return 0.5 * (torch.cos(math.pi * d / self.cutoff) + 1) * (d < self.cutoff)


class PainnMessage(nn.Module):
    def __init__(self, c, nrbf):
        super().__init__()
        self.c = c
        self.node_net = mlp(c, c, 3 * c)
        self.filter = nn.Linear(nrbf, 3 * c)

    def forward(self, s, v, edges: Edges):
        w = self.node_net(s)[edges.src] * self.filter(edges.rbf) * edges.env[:, None]
        ws, wv, wr = torch.split(w, self.c, dim=-1)
        msg_v = v[edges.src] * wv.unsqueeze(1) + edges.unit.unsqueeze(-1) * wr.unsqueeze(1)
        ds = torch.zeros_like(s).index_add(0, edges.dst, ws)
        dv = torch.zeros_like(v).index_add(0, edges.dst, msg_v)
        return s + ds, v + dv


class PainnUpdate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.U = nn.Linear(c, c, bias=False)
        self.V = nn.Linear(c, c, bias=False)
        self.net = mlp(2 * c, c, 3 * c)

    def forward(self, s, v):
        uv, vv = self.U(v), self.V(v)
        norm = torch.sqrt((vv * vv).sum(1) + 1e-8)
        a_ss, a_sv, a_vv = self.net(torch.cat([s, norm], -1)).chunk(3, -1)
        return s + a_ss + a_sv * (uv * vv).sum(1), v + uv * a_vv[:, None]


class Painn(nn.Module):
    def __init__(self, c=18, layers=3, nrbf=10):
        super().__init__()
        self.frame = BoxOrigin()
        self.embedding = nn.Embedding(9, c)
        self.radial, self.cut = Bessel(nrbf), CosineCut()
        self.messages = nn.ModuleList(PainnMessage(c, nrbf) for _ in range(layers))
        self.updates = nn.ModuleList(PainnUpdate(c) for _ in range(layers))
        self.readout = mlp(c, c, 2)
        self.vec_out = nn.Linear(c, 1, bias=False)

    def forward(self, z, pos, edge_index):
        src, dst = edge_index
        boxed = self.frame(pos)
        rij = boxed[src] - boxed[dst]
        d = rij.norm(dim=-1)
        edges = Edges(src, dst, rij / d[:, None], self.radial(d), self.cut(d))
        s = self.embedding(z)
        v = s.new_zeros(len(s), 3, s.shape[-1])
        for msg, upd in zip(self.messages, self.updates, strict=False):
            s, v = msg(s, v, edges=edges)
            s, v = upd(s, v)
        e, q = self.readout(s).unbind(-1)
        q = q - q.mean()
        dipole = (q[:, None] * boxed).sum(0) + self.vec_out(v).squeeze(-1).sum(0)
        return {"energy": e.sum(), "dipole": dipole}


# 3. SchNet with autograd forces, batched
class GaussianSmearing(nn.Module):
    def __init__(self, start, stop, num):
        super().__init__()
        mu = torch.linspace(start, stop, num)
        self.register_buffer("mu", mu)
        self.gamma = 0.5 / float(mu[1] - mu[0]) ** 2

    def forward(self, d):
        return torch.exp(-self.gamma * (d.unsqueeze(-1) - self.mu) ** 2)


class ShiftedSoftplus(nn.Module):
    def forward(self, x):
        return F.softplus(x) - math.log(2.0)


class CFConv(nn.Module):
    def __init__(self, width, nrbf):
        super().__init__()
        self.weights = nn.Sequential(nn.Linear(nrbf, width), ShiftedSoftplus(), nn.Linear(width, width))
        self.lin_in = nn.Linear(width, width, bias=False)
        self.lin_out = nn.Sequential(nn.Linear(width, width), ShiftedSoftplus(), nn.Linear(width, width))

    def forward(self, x, graph):
        i, j, rbf, fc = graph
        W = self.weights(rbf) * fc[:, None]
        y = self.lin_in(x)
        agg = x.new_zeros(x.shape).scatter_add(0, i[:, None].expand(-1, x.shape[1]), y[j] * W)
        return x + self.lin_out(agg)


class SchnetForces(nn.Module):
    """pos [b,n,3]; flattens to [b*n, c]; builds its own radius graph."""

    def __init__(self, width=19, depth=3, cutoff=3.5):
        super().__init__()
        self.cutoff = cutoff
        self.types = nn.Embedding(6, width)
        self.smear = GaussianSmearing(0.0, cutoff, 12)
        self.interactions = nn.ModuleList([CFConv(width, 12) for _ in range(depth)])
        self.atomwise = nn.Sequential(nn.Linear(width, 10), ShiftedSoftplus(), nn.Linear(10, 1))

    def neighbours(self, pos):
        _b, n, _ = pos.shape
        with torch.no_grad():
            close = torch.cdist(pos, pos) < self.cutoff
            close &= ~torch.eye(n, dtype=torch.bool, device=pos.device)
            bi, i, j = close.nonzero(as_tuple=True)
        return bi * n + i, bi * n + j

    def energy(self, z, pos):
        b, n, _ = pos.shape
        i, j = self.neighbours(pos)
        flat = pos.reshape(b * n, 3)
        r = (flat[i] - flat[j]).square().sum(-1).sqrt()
        fc = torch.cos(0.5 * math.pi * r / self.cutoff) ** 2
        x = self.types(z.reshape(-1))
        g = (i, j, self.smear(r), fc)
        for block in self.interactions:
            x = block(x, g)
        return 27.2114 * self.atomwise(x).view(b, n).sum(1)

    def forward(self, pos, z):
        with torch.enable_grad():
            if not pos.requires_grad:
                pos = pos.detach().requires_grad_(True)
            e = self.energy(z, pos)
            (grad,) = torch.autograd.grad(e.sum(), pos, create_graph=self.training)
        return {"energy": e, "forces": -grad}


# 4. frame averaging, O(3)
class PCAFrames(nn.Module):
    """All 8 sign choices of the principal axes: [8, 3, 3], columns are axes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("signs", torch.tensor(list(product([1.0, -1.0], repeat=3))))

    def forward(self, v, weight):
        cov = torch.einsum("n,ni,nj->ij", weight, v, v)
        _, axes = torch.linalg.eigh(cov)
        return axes[None] * self.signs[:, None, :]


class SetMixer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.q, self.k, self.val = nn.Linear(d, 10), nn.Linear(d, 10), nn.Linear(d, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.ff = mlp(d, 2 * d, d, act=nn.GELU)

    def forward(self, x):
        y = self.norm1(x)
        att = torch.softmax(self.q(y) @ self.k(y).transpose(-1, -2) / 10**0.5, -1)
        x = x + att @ self.val(y)
        return x + self.ff(self.norm2(x))


class FrameAveraged(nn.Module):
    def __init__(self, n_feat=4, d=22):
        super().__init__()
        self.mass = nn.Sequential(nn.Linear(n_feat, 10), nn.Tanh(), nn.Linear(10, 1), nn.Softplus())
        self.frames = PCAFrames()
        self.lift = nn.Linear(3 + n_feat, d)
        self.backbone = nn.Sequential(SetMixer(d), SetMixer(d), SetMixer(d))
        self.to_tensor = nn.Linear(d, 9)
        self.to_vec = nn.Linear(d, 3)

    def forward(self, vecs, feats):
        R = self.frames(vecs, weight=self.mass(feats)[:, 0])
        local = torch.einsum("ni,fij->fnj", vecs, R)
        x = self.lift(torch.cat([local, feats.expand(len(R), -1, -1)], -1))
        x = self.backbone(x)
        T = self.to_tensor(x).mean(1).view(-1, 3, 3)
        T = torch.einsum("fij,fjk,flk->fil", R, T, R).mean(0)
        disp = torch.einsum("fij,fnj->fni", R, self.to_vec(x)).mean(0)
        return {"alpha": 0.5 * (T + T.t()), "disp": disp}


# 5. canonicalisation, SE(3), batched [b,n,c,3]
class VNLinear(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cout, cin) / cin**0.5)

    def forward(self, v):
        return torch.einsum("oc,bnci->bnoi", self.weight, v)


class VNLeaky(nn.Module):
    """Vector-neuron leaky relu."""

    def __init__(self, c, slope=0.2):
        super().__init__()
        self.dirs = VNLinear(c, c)
        self.slope = slope

    def forward(self, q):
        k = self.dirs(q)
        dot = (q * k).sum(-1, keepdim=True)
        proj = q - dot / (k.square().sum(-1, keepdim=True) + 1e-6) * k
        return self.slope * q + (1 - self.slope) * torch.where(dot >= 0, q, proj)


class FrameNet(nn.Module):
    """Predicts a right-handed frame per sample from vector neurons."""

    def __init__(self, c=10):
        super().__init__()
        self.lin1, self.act = VNLinear(3, c), VNLeaky(c)
        self.lin2 = VNLinear(2 * c, 2)

    def forward(self, v):
        v = self.act(self.lin1(v))
        v = torch.cat([v, v.mean(1, keepdim=True).expand_as(v)], dim=2)
        a, b = self.lin2(v).sum(1).unbind(1)
        e1 = F.normalize(a, dim=-1)
        e2 = F.normalize(b - (b * e1).sum(-1, keepdim=True) * e1, dim=-1)
        return torch.stack([e1, e2, torch.linalg.cross(e1, e2, dim=-1)], dim=-1)


class MixBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.local, self.glob, self.norm = nn.Linear(d, d), nn.Linear(d, d), nn.LayerNorm(d)

    def forward(self, x):
        y = self.norm(x)
        return x + F.gelu(self.local(y) + self.glob(y.amax(1, keepdim=True)))


class Canonicaliser(nn.Module):
    def __init__(self, d=26, depth=4):
        super().__init__()
        self.frame_net = FrameNet()
        self.inp = nn.Linear(9, d)
        self.blocks = nn.Sequential(*[MixBlock(d) for _ in range(depth)])
        self.step = nn.Linear(d, 3)
        self.spin = nn.Linear(d, 3)

    def forward(self, x, vel):
        centre = x.mean(1, keepdim=True)
        rel = x - centre
        feats = torch.stack([rel, vel, torch.linalg.cross(rel, vel, dim=-1)], dim=2)
        Q = self.frame_net(feats)  # b 3 3
        canon = torch.einsum("bnci,bij->bncj", feats, Q).flatten(2)  # b n 9
        y = self.blocks(self.inp(canon))

        def back(t):
            return torch.einsum("b...j,bij->b...i", t, Q)

        return {"x": x + back(self.step(y)), "omega": back(self.spin(y).mean(1))}


# 6. 2D swarm, complex numbers
class RealLinear(nn.Module):
    """Real weights on complex channels: commutes with turns and mirror images."""

    def __init__(self, i, o):
        super().__init__()
        self.lin = nn.Linear(i, o, bias=False)

    def forward(self, z):
        return torch.complex(self.lin(z.real), self.lin(z.imag))


class ModReLU(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.bias = nn.Parameter(0.1 * torch.randn(c))

    def forward(self, z):
        r = z.abs()
        return z * (torch.relu(r + self.bias) / (r + 1e-9))


class SwarmLayer(nn.Module):
    def __init__(self, c, s):
        super().__init__()
        self.mix, self.act = RealLinear(c, c), ModReLU(c)
        self.key = RealLinear(c, c)
        self.edge = mlp(c + 2 * s + 1, 20, 2 * c)
        self.scal = mlp(s + c, 20, s)

    def forward(self, pack):
        z, s, r = pack  # complex n c, real n s, complex n n
        n = len(s)
        k = self.key(z)
        sim = (k[:, None] * k[None].conj()).real
        e = self.edge(
            torch.cat([sim, s[:, None].expand(n, n, -1), s[None].expand(n, n, -1), r.abs().unsqueeze(-1)], -1)
        )
        a, b = e.chunk(2, -1)
        msg = (a * z[None] + torch.sigmoid(b) * r[..., None]).mean(1)
        z = z + self.act(self.mix(msg))
        s = s + self.scal(torch.cat([s, z.abs()], -1))
        return z, s, r


class Swarm2D(nn.Module):
    def __init__(self, c=9, s=7):
        super().__init__()
        self.kinds = nn.Embedding(4, s)
        self.up = RealLinear(2, c)
        self.layers = nn.Sequential(*(SwarmLayer(c, s) for _ in range(3)))
        self.down = RealLinear(c, 2)
        self.dt = 0.1

    def forward(self, pos, vel, kind):
        p, u = (torch.view_as_complex(t.contiguous()) for t in (pos, vel))
        r = p[:, None] - p[None, :]
        r = r / (1 + r.abs())
        z = self.up(torch.stack([u, r.sum(1)], -1))
        z, _, _ = self.layers((z, self.kinds(kind), r))
        acc, drift = self.down(z).unbind(-1)
        new = p + self.dt * (u + drift)
        return {"acc": torch.view_as_real(acc), "new_pos": torch.view_as_real(new)}
