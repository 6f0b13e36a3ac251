"""Healthy image/sequence networks and Lorentz networks."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F


# 1. FNO + circular convs
class SpectralConv(nn.Module):
    def __init__(self, c, modes):
        super().__init__()
        self.m = modes
        self.w = nn.Parameter(torch.randn(2, c, c, modes, modes, 2) / c)

    def forward(self, x):
        X = torch.fft.rfft2(x, norm="ortho")
        Y = torch.zeros_like(X)
        lo, hi = torch.view_as_complex(self.w)
        m = self.m
        Y[:, :, :m, :m] = torch.einsum("bihw,iohw->bohw", X[:, :, :m, :m], lo)
        Y[:, :, -m:, :m] = torch.einsum("bihw,iohw->bohw", X[:, :, -m:, :m], hi)
        return torch.fft.irfft2(Y, s=x.shape[-2:], norm="ortho")


class FNOBlock(nn.Module):
    def __init__(self, c, modes=3):
        super().__init__()
        self.spec = SpectralConv(c, modes)
        self.skip = nn.Conv2d(c, c, 1)
        self.local = nn.Conv2d(c, c, 3, padding=2, dilation=2, padding_mode="circular")
        self.norm = nn.InstanceNorm2d(c, affine=True)

    def forward(self, x):
        return x + F.gelu(self.norm(self.spec(x) + self.skip(x)) + self.local(x))


class FNO(nn.Module):
    def __init__(self, cin=3, c=7):
        super().__init__()
        self.lift = nn.Conv2d(cin, c, 1)
        self.blocks = nn.ModuleList(FNOBlock(c) for _ in range(3))
        self.proj = nn.Sequential(nn.Conv2d(c, 16, 1), nn.GELU(), nn.Conv2d(16, 1, 1))

    def forward(self, field):
        x = self.lift(field)
        for blk in self.blocks:
            x = blk(x)
        return self.proj(x).squeeze(1)


# 2. sequence U-Net with shifts by multiples of four
class Down(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv = nn.Conv1d(a, b, 4, stride=2)

    def forward(self, x):
        return F.silu(self.conv(F.pad(x, (1, 1), mode="circular")))


class Up(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.deconv = nn.ConvTranspose1d(a, b, 2, stride=2)
        self.fuse = nn.Conv1d(2 * b, b, 3, padding=1, padding_mode="circular")

    def forward(self, x, skip):
        return F.silu(self.fuse(torch.cat([self.deconv(x), skip], dim=1)))


class RelAttention(nn.Module):
    """Self-attention with a bias that depends on the wrapped distance."""

    def __init__(self, c, length):
        super().__init__()
        self.qkv = nn.Conv1d(c, 3 * c, 1)
        self.bias = nn.Parameter(torch.randn(length))

    def forward(self, x):
        n = x.shape[-1]
        q, k, v = self.qkv(x).chunk(3, 1)
        i = torch.arange(n)
        att = torch.einsum("bci,bcj->bij", q, k) / q.shape[1] ** 0.5 + self.bias[(i[:, None] - i[None]) % n]
        return x + torch.einsum("bij,bcj->bci", att.softmax(-1), v)


class SeqUNet(nn.Module):
    def __init__(self, cin=2, c=9):
        super().__init__()
        self.stem = nn.Conv1d(cin, c, 5, padding=2, padding_mode="circular")
        self.d1, self.d2 = Down(c, 10), Down(10, 16)
        self.mid = RelAttention(16, 7)
        self.u2, self.u1 = Up(16, 10), Up(10, c)
        self.head = nn.Linear(c, 5)

    def forward(self, signal):
        s0 = self.stem(signal)
        s1 = self.d1(s0)
        y = self.mid(self.d2(s1))
        y = self.u1(self.u2(y, skip=s1), skip=s0)
        return self.head(y.transpose(1, 2))


# 3. p4 group convolutions
class LiftP4(nn.Module):
    def __init__(self, cin, cout, k=3):
        super().__init__()
        self.k = k
        self.weight = nn.Parameter(torch.randn(cout, cin, k, k) / (cin * k * k) ** 0.5)

    def forward(self, x):
        w = torch.stack([torch.rot90(self.weight, r, (-2, -1)) for r in range(4)], 1)
        p = self.k // 2
        y = F.conv2d(F.pad(x, (p,) * 4, mode="circular"), w.flatten(0, 1))
        return y.unflatten(1, (-1, 4))


class ConvP4(nn.Module):
    def __init__(self, cin, cout, k=3):
        super().__init__()
        self.k = k
        self.weight = nn.Parameter(torch.randn(cout, cin, 4, k, k) / (4 * cin * k * k) ** 0.5)
        self.bias = nn.Parameter(0.1 * torch.randn(cout))

    def filters(self):
        bank = [torch.rot90(self.weight, r, (-2, -1)).roll(r, 2) for r in range(4)]
        return torch.stack(bank, 1)

    def forward(self, x):
        w = self.filters().flatten(0, 1).flatten(1, 2)
        p = self.k // 2
        y = F.conv2d(F.pad(x.flatten(1, 2), (p,) * 4, mode="circular"), w, self.bias.repeat_interleave(4))
        return y.unflatten(1, (-1, 4))


class P4Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.conv2 = ConvP4(c, c), ConvP4(c, c, k=1)
        self.norm = nn.BatchNorm3d(c)
        self.norm.running_mean.normal_(0, 0.2)
        self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        return x + self.conv2(F.relu(self.norm(self.conv1(x))))


class P4Net(nn.Module):
    def __init__(self, cin=2, c=6):
        super().__init__()
        self.lift = LiftP4(cin, c)
        self.body = nn.Sequential(P4Block(c), P4Block(c))
        self.to_map = nn.Conv3d(c, 1, 1)
        self.fc = nn.Linear(c, 5)

    def forward(self, img):
        y = self.body(F.relu(self.lift(img)))
        return {"map": self.to_map(y).amax(2).squeeze(1), "logits": self.fc(y.amax(2).mean((-2, -1)))}


# 4. D4 with symmetrised kernels
def dihedral(x):
    for flip in (False, True):
        y = x.flip(-1) if flip else x
        for r in range(4):
            yield torch.rot90(y, r, (-2, -1)), (flip, r)


def undo(x, key):
    flip, r = key
    x = torch.rot90(x, -r, (-2, -1))
    return x.flip(-1) if flip else x


class SymConv(nn.Module):
    def __init__(self, a, b, k=5):
        super().__init__()
        self.raw = nn.Parameter(torch.randn(b, a, k, k) * 1.5 / (a * k) ** 0.5)
        self.bias = nn.Parameter(0.1 * torch.randn(b))

    def forward(self, x):
        w = sum(t for t, _ in dihedral(self.raw)) / 8
        return F.conv2d(x, w, self.bias, padding=w.shape[-1] // 2)


class Symmetrised(nn.Module):
    """Runs any image-to-image net on all eight views and averages the answers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.stack([undo(self.inner(v), key) for v, key in dihedral(x)]).mean(0)


class D4Seg(nn.Module):
    def __init__(self, cin=3, c=7):
        super().__init__()
        self.c1, self.c2, self.c3 = SymConv(cin, c), SymConv(c, c, 3), SymConv(c, c, 3)
        self.ctx = Symmetrised(nn.Sequential(nn.Conv2d(c, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, c, 3, padding=1)))
        self.gn = nn.GroupNorm(1, c)
        self.last = nn.Conv2d(2 * c, 2, 1)

    def forward(self, image):
        a = F.silu(self.c1(image))
        b = F.avg_pool2d(self.c2(a), 2)
        b = self.gn(b + F.silu(self.c3(b)))
        b = b + self.ctx(b)
        up = F.interpolate(b, scale_factor=2, mode="nearest")
        return self.last(torch.cat([a, up], 1))


# 5. LorentzNet
def mdot(p, q):
    """(+,-,-,-)"""
    return p[..., 0] * q[..., 0] - (p[..., 1:] * q[..., 1:]).sum(-1)


def psi(t):
    return torch.sign(t) * torch.log1p(t.abs())


class LGEB(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.edge = nn.Sequential(nn.Linear(2 * h + 2, 20), nn.ReLU(), nn.Linear(20, h), nn.ReLU())
        self.gate = nn.Sequential(nn.Linear(h, 1), nn.Sigmoid())
        self.px = nn.Sequential(nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 1))
        self.ph = nn.Sequential(nn.Linear(2 * h, h), nn.ReLU(), nn.Linear(h, h))

    def forward(self, x, h):
        n = x.shape[0]
        inv = torch.stack([psi(mdot(x[:, None] - x, x[:, None] - x)), psi(mdot(x[:, None], x))], -1)
        m = self.edge(torch.cat([h[:, None].expand(n, n, -1), h.expand(n, n, -1), inv], -1))
        m = m * self.gate(m)
        x = x + 0.05 * (self.px(m) * x[None]).mean(1)
        return x, h + self.ph(torch.cat([h, m.mean(1)], -1))


class LorentzNet(nn.Module):
    def __init__(self, f=2, h=11):
        super().__init__()
        self.emb = nn.Linear(f, h)
        self.blocks = nn.ModuleList([LGEB(h) for _ in range(4)])
        self.tagger = nn.Sequential(nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 2))

    def forward(self, p4, extra):
        x, h = p4, self.emb(extra)
        for b in self.blocks:
            x, h = b(x, h)
        return {"score": self.tagger(h.mean(0)), "momenta": x}


# 6. bivectors and epsilon contraction
class Levi(nn.Module):
    """eps^{mu nu rho sigma} a_nu b_rho c_sigma, index lowered with the metric."""

    def __init__(self):
        super().__init__()
        from itertools import permutations

        eps = torch.zeros(4, 4, 4, 4)
        for p in permutations(range(4)):
            inv = sum(p[i] > p[j] for i in range(4) for j in range(i + 1, 4))
            eps[p] = (-1.0) ** inv
        self.register_buffer("eps", eps)
        self.register_buffer("g", torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0])))

    def forward(self, a, b, c):
        a, b, c = (t @ self.g for t in (a, b, c))
        return torch.einsum("mnrs,kcn,kcr,kcs->kcm", self.eps, a, b, c)


class BivectorLayer(nn.Module):
    def __init__(self, c, s):
        super().__init__()
        self.wa, self.wb, self.wc = (nn.Parameter(torch.randn(c, c) / c) for _ in range(3))
        self.levi = Levi()
        self.gates = nn.Sequential(nn.Linear(s + 3 * c, 18), nn.SiLU(), nn.Linear(18, 3 * c + s))
        self.att = nn.Linear(c, 1)
        self.c = c

    def forward(self, v, s):  # v [n,c,4]
        len(v)
        a, b, d = (torch.einsum("oc,nci->noi", w, v) for w in (self.wa, self.wb, self.wc))
        g = self.levi.g
        biv = torch.einsum("nci,ncj->ncij", a, b) - torch.einsum("nci,ncj->ncij", b, a)
        Fd = torch.einsum("ncij,jk,nck->nci", biv, g, d)
        ax = self.levi(a, b, d)
        inv = torch.cat([psi(mdot(a, b)), psi(mdot(d, Fd)), psi(mdot(ax, ax))], -1)
        o = self.gates(torch.cat([s, inv], -1))
        k1, k2, k3, ds = o.split([self.c] * 3 + [s.shape[-1]], -1)
        pair = torch.einsum("nci,ij,mcj->nmc", v, g, v)
        w = torch.softmax(self.att(psi(pair)).squeeze(-1), 1)

        def scale(t):
            return t / (1 + mdot(t, t).abs().sqrt())[..., None]

        v = (
            v
            + torch.tanh(k1)[..., None] * torch.einsum("nm,mci->nci", w, v)
            + torch.tanh(k2)[..., None] * scale(Fd)
            + torch.tanh(k3)[..., None] * scale(ax)
        )
        return v, s + ds


class BivectorNet(nn.Module):
    def __init__(self, c=6, s=10):
        super().__init__()
        self.c = c
        self.lift = nn.Parameter(torch.randn(c, 3) / 2)
        self.s0 = nn.Linear(1, s)
        self.layers = nn.ModuleList([BivectorLayer(c, s), BivectorLayer(c, s)])
        self.pick = nn.Linear(s, c)
        self.final = nn.Linear(s, 1)

    def forward(self, mom):
        tot = mom.sum(0, keepdim=True).expand_as(mom)
        m2 = mdot(mom, tot)
        lead = (torch.softmax(psi(m2), 0)[:, None] * mom).sum(0, keepdim=True).expand_as(mom)
        v = torch.einsum("oc,nci->noi", self.lift, torch.stack([mom, tot / len(mom), lead], 1))
        s = self.s0(psi(m2)[:, None])
        for lay in self.layers:
            v, s = lay(v=v, s=s)
        return {"axis": (self.pick(s)[..., None] * v).sum((0, 1)), "y": self.final(s.mean(0)).squeeze(-1)}


# 7. rest-frame tagger, batched
class BoostToRest(nn.Module):
    """Boost matrix [b,4,4] that takes the jet to rest."""

    def forward(self, tot):
        m = mdot(tot, tot).sqrt()
        u = tot / m[:, None]
        g, w = u[:, 0], u[:, 1:]
        L = torch.zeros(len(tot), 4, 4, dtype=tot.dtype)
        L[:, 0, 0] = g
        L[:, 0, 1:] = L[:, 1:, 0] = -w
        L[:, 1:, 1:] = torch.eye(3, dtype=tot.dtype) + w[:, :, None] * w[:, None] / (1 + g)[:, None, None]
        return L


class RestFrameTagger(nn.Module):
    def __init__(self, d=12):
        super().__init__()
        self.boost = BoostToRest()
        self.pair = nn.Sequential(nn.Linear(5, d), nn.SiLU(), nn.Linear(d, d), nn.SiLU())
        self.node = nn.ModuleList([nn.Linear(2 * d, d) for _ in range(2)])
        self.first = nn.Linear(1, d)
        self.dir = nn.Linear(d, 2)
        self.out = nn.Linear(d, 3)

    def forward(self, jets):
        b, n, _ = jets.shape
        tot = jets.sum(1)
        L = self.boost(tot)
        rest = torch.einsum("bij,bnj->bni", L, jets)
        e, k = rest[..., :1], rest[..., 1:]
        cos = torch.einsum("bni,bmi->bnm", F.normalize(k, dim=-1), F.normalize(k, dim=-1))
        ee = e.expand(b, n, n)
        P = self.pair(
            torch.stack(
                [
                    cos,
                    cos**2,
                    ee.log1p(),
                    ee.transpose(1, 2).log1p(),
                    mdot(tot, tot).log()[:, None, None].expand(b, n, n),
                ],
                -1,
            )
        )
        h = self.first(e.log1p())
        for lin in self.node:
            h = h + F.silu(lin(torch.cat([h, (P * h[:, None]).mean(2)], -1)))
        we, wk = self.dir(h).unbind(-1)
        jet = torch.cat([(we * e[..., 0]).sum(1, keepdim=True), torch.einsum("bn,bni->bi", wk, k)], -1)
        back = torch.linalg.solve(L, jet.unsqueeze(-1)).squeeze(-1)
        return {"cls": self.out(h.mean(1)), "axis": back}
