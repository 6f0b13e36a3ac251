"""Healthy graph and set networks."""

from __future__ import annotations

import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F


# 1. GCN on an adjacency matrix
class GraphNorm(nn.Module):
    """Normalise every channel over the nodes."""

    def __init__(self, c):
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(c))
        self.gamma = nn.Parameter(1 + 0.1 * torch.randn(c))
        self.beta = nn.Parameter(0.1 * torch.randn(c))

    def forward(self, x):
        y = x - self.alpha * x.mean(0, keepdim=True)
        return self.gamma * y / (y.var(0, keepdim=True, unbiased=False) + 1e-5).sqrt() + self.beta


class GCNConv(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.theta = nn.Linear(cin, cout)
        self.root = nn.Linear(cin, cout, bias=False)

    def forward(self, x, prop):
        return prop(self.theta(x)) + self.root(x)


class AdjGCN(nn.Module):
    def __init__(self, f=6, c=20, depth=4, k=5):
        super().__init__()
        dims = [f] + [c] * depth
        self.convs = nn.ModuleList(GCNConv(a, b) for a, b in itertools.pairwise(dims))
        self.norms = nn.ModuleList(GraphNorm(c) for _ in range(depth))
        self.jk = nn.Linear(depth * c, k)

    def forward(self, x, adj):
        a = adj + torch.eye(adj.shape[0], dtype=adj.dtype, device=adj.device)
        dinv = a.sum(1).rsqrt()
        a = dinv[:, None] * a * dinv[None, :]

        def propagate(t):
            return a @ t

        trail = []
        for conv, norm in zip(self.convs, self.norms, strict=False):
            y = F.elu(norm(conv(x, propagate)))
            x = x + y if x.shape == y.shape else y
            trail.append(x)
        return self.jk(torch.cat(trail, dim=-1))


# 2. GAT on edge lists, nodes and edges permuted
def segment_softmax(score, seg, n):
    idx = seg[:, None].expand_as(score)
    top = score.new_full((n, score.shape[1]), float("-inf")).scatter_reduce(0, idx, score, "amax")
    ex = (score - top[seg]).exp()
    return ex / score.new_zeros(n, score.shape[1]).scatter_add(0, idx, ex)[seg]


class EdgeGAT(nn.Module):
    def __init__(self, c, e, heads=2):
        super().__init__()
        self.h, self.dk = heads, c // heads
        self.lin = nn.Linear(c, c, bias=False)
        self.att = nn.Sequential(nn.Linear(2 * c + e, 15), nn.LeakyReLU(0.2), nn.Linear(15, heads))
        self.edge_up = nn.Sequential(nn.Linear(2 * c + e, 15), nn.ReLU(), nn.Linear(15, e))
        self.ln = nn.LayerNorm(c)

    def forward(self, *, nodes, edges, src, dst):
        cat = torch.cat([nodes[src], nodes[dst], edges], 1)
        alpha = segment_softmax(self.att(cat), dst, len(nodes))
        val = self.lin(nodes).view(-1, self.h, self.dk)[src] * alpha[..., None]
        out = torch.zeros_like(nodes).index_add(0, dst, val.flatten(1))
        return {"nodes": self.ln(nodes + F.elu(out)), "edges": edges + self.edge_up(cat), "src": src, "dst": dst}


class GATEdges(nn.Module):
    def __init__(self, f=4, c=16, e=6):
        super().__init__()
        self.enc = nn.ModuleDict({"node": nn.Linear(f, c), "edge": nn.Linear(3, e)})
        self.l1, self.l2 = EdgeGAT(c, e), EdgeGAT(c, e)
        self.dec = nn.ModuleDict({"edge": nn.Linear(e, 1), "node": nn.Linear(c, 5), "graph": nn.Linear(2 * c, 10)})

    def forward(self, x, edge_attr, src, dst):
        st = {"nodes": self.enc["node"](x), "edges": self.enc["edge"](edge_attr), "src": src, "dst": dst}
        st = self.l1(**st)
        st = self.l2(**st)
        st = self.l2(**st)  # weights tied
        h = st["nodes"]
        return {
            "edge_score": torch.sigmoid(self.dec["edge"](st["edges"])).squeeze(-1),
            "node_logits": self.dec["node"](h),
            "graph": self.dec["graph"](torch.cat([h.mean(0), h.amax(0)])),
        }


# 3. 2-IGN / PPGN on [n,n,c]
class EquivBasis(nn.Module):
    """Ten of the fifteen order-2 linear maps, stacked on the channel axis."""

    def forward(self, t):
        n = t.shape[0]
        eye = torch.eye(n, dtype=t.dtype)[..., None]
        diag = torch.diagonal(t, dim1=0, dim2=1).t()
        rows, cols, tot = t.mean(1), t.mean(0), t.mean((0, 1))

        def full(v):
            return v.expand(n, n, -1)

        ops = [
            t,
            t.transpose(0, 1),
            diag[:, None] * eye,
            full(rows[:, None]),
            full(rows[None]),
            full(cols[:, None]),
            full(cols[None]),
            full(tot),
            full(diag[None]),
            rows[:, None] * eye,
        ]
        return torch.cat(ops, -1)


class PPBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.basis = EquivBasis()
        self.lin = nn.Linear(10 * cin, cout)
        self.m1, self.m2 = nn.Linear(cin, cout), nn.Linear(cin, cout)

    def forward(self, t):
        a, b = self.m1(t).permute(2, 0, 1), self.m2(t).permute(2, 0, 1)
        prod = torch.matmul(a, b).permute(1, 2, 0) / t.shape[0]
        return F.relu(self.lin(self.basis(t))) + prod


class PairIGN(nn.Module):
    def __init__(self, cin=2, c=12):
        super().__init__()
        self.body = nn.Sequential(PPBlock(cin, c), PPBlock(c, c), PPBlock(c, c))
        self.pair = nn.Linear(c, 1)
        self.node = nn.Linear(2 * c, 5)
        self.count = nn.Linear(c, 1)

    def forward(self, t):
        y = self.body(t)
        d = torch.diagonal(y).t()
        p = self.pair(y)[..., 0]
        return {
            "pair": p,
            "node": self.node(torch.cat([d, y.sum(1) - d], -1)),
            "count": self.count(y.mean((0, 1))).squeeze(),
        }


# 4. Graphormer with a virtual node, batched
class SPD(nn.Module):
    """Hop distances by boolean powers, clipped at 4."""

    def __init__(self, far=4):
        super().__init__()
        self.far = far

    def forward(self, adj):
        n = adj.shape[-1]
        a = (adj > 0).to(adj.dtype)
        reach = torch.eye(n, dtype=adj.dtype).expand_as(a).clone()
        dist = torch.full(adj.shape, self.far, dtype=torch.long)
        dist[reach > 0] = 0
        for k in range(1, self.far):
            reach = ((reach @ a + reach) > 0).to(adj.dtype)
            dist = torch.where((reach > 0) & (dist == self.far), k, dist)
        return dist


class BiasedAttention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def forward(self, x, bias=None):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class GraphormerLayer(nn.Module):
    def __init__(self, d, heads=3):
        super().__init__()
        self.attn = BiasedAttention(d, heads)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * d, d))

    def forward(self, args):
        x, bias = args
        x = x + self.attn(self.n1(x), bias=bias)
        return [x + self.ffn(self.n2(x)), bias]


class Graphormer(nn.Module):
    def __init__(self, f=5, d=18, heads=3):
        super().__init__()
        self.feat = nn.Linear(f, d)
        self.deg = nn.Embedding(16, d)
        self.spd = SPD()
        self.spd_bias = nn.Embedding(5, heads)
        self.vbias = nn.Parameter(torch.randn(heads))
        self.token = nn.Parameter(torch.randn(d))
        self.layers = nn.Sequential(*[GraphormerLayer(d, heads) for _ in range(3)])
        self.cls = nn.Linear(d, 4)
        self.tag = nn.Linear(d, 2)

    def forward(self, x, adj):
        b, n, _ = x.shape
        h = self.feat(x) + self.deg((adj > 0).sum(-1))
        h = torch.cat([self.token.expand(b, 1, -1), h], 1)
        bias = self.vbias.view(1, -1, 1, 1).repeat(b, 1, n + 1, n + 1)
        bias[:, :, 1:, 1:] = self.spd_bias(self.spd(adj)).permute(0, 3, 1, 2)
        h, _ = self.layers([h, bias])
        return {"graph": self.cls(h[:, 0]), "nodes": self.tag(h[:, 1:])}


# 5. Set transformer
class Scores(nn.Module):
    """Pooling scores, referenced to the first item (a shift the softmax takes out again)."""

    def __init__(self, d, k):
        super().__init__()
        self.w = nn.Linear(d, k)

    def forward(self, x):
        s = self.w(x).transpose(1, 2)
        return s - s[..., :1]


class MAB(nn.Module):
    def __init__(self, d, h=2):
        super().__init__()
        self.mha = nn.MultiheadAttention(d, h, batch_first=True)
        self.ln0, self.ln1 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.rff = nn.Sequential(nn.Linear(d, d), nn.ReLU())

    def forward(self, X, Y):
        H = self.ln0(X + self.mha(X, Y, Y, need_weights=False)[0])
        return self.ln1(H + self.rff(H))


class ISAB(nn.Module):
    def __init__(self, d, m):
        super().__init__()
        self.I = nn.Parameter(torch.randn(1, m, d))
        self.mab0, self.mab1 = MAB(d), MAB(d)

    def forward(self, X):
        H = self.mab0(self.I.expand(X.size(0), -1, -1), X)
        return self.mab1(X, H)


class SetTransformer(nn.Module):
    def __init__(self, f=5, d=14, m=4, k=3):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(f, d), ISAB(d, m), ISAB(d, m))
        self.scores = Scores(d, k)
        self.sab = MAB(d)
        self.dec = nn.Linear(k * d, 6)

    def forward(self, X):
        Z = self.enc(X)
        w = torch.softmax(self.scores(Z), dim=-1)
        P = torch.bmm(w, Z)
        return self.dec(self.sab(P, P).flatten(1))


# 6. Deep Sets in conv1d layout [c, n], with sort pooling
class EquivConv(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.own = nn.Conv1d(a, b, 1)
        self.rest = nn.Conv1d(a, b, 1, bias=False)

    def forward(self, x):
        return self.own(x) - self.rest(x.max(-1, keepdim=True).values) + x.mean() * 0.1


class SortPool(nn.Module):
    """Piecewise-linear weights over the sorted values of each channel."""

    def __init__(self, c, pieces=4):
        super().__init__()
        self.w = nn.Parameter(torch.randn(1, c, pieces))

    def forward(self, x):
        s, _ = torch.sort(x, dim=-1, descending=True)
        w = F.interpolate(self.w, size=s.shape[-1], mode="linear", align_corners=True)
        return (s * w).mean(-1)


class FSPoolNet(nn.Module):
    def __init__(self, f=6, c=15):
        super().__init__()
        self.l1, self.l2, self.l3 = EquivConv(f, c), EquivConv(c, c), EquivConv(c, c)
        self.bn = nn.BatchNorm1d(c)
        self.bn.running_mean.normal_(0, 0.3)
        self.bn.running_var.uniform_(0.5, 1.5)
        self.pool = SortPool(c)
        self.film = nn.Linear(c, 2 * c)
        self.out = nn.Conv1d(c, 1, 1)

    def forward(self, pts):
        x = torch.relu(self.l1(pts[None]))
        x = x + torch.relu(self.bn(self.l2(x)))
        g, b = self.film(self.pool(x)).chunk(2, -1)
        x = x * (1 + g[..., None]) + b[..., None]
        x = x + torch.tanh(self.l3(x))
        return self.out(x).squeeze(0).squeeze(0)


# 7. matching two sets
class CrossLayer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(d, d) for _ in range(3))
        self.post = nn.Sequential(nn.Linear(2 * d, d), nn.Tanh())

    def forward(self, a, b):
        att = torch.einsum("id,jd->ij", self.q(a), self.k(b)) / a.shape[-1] ** 0.5
        return a + self.post(torch.cat([a, att.softmax(1) @ self.v(b)], 1))


class Sinkhorn(nn.Module):
    def __init__(self, iters=10):
        super().__init__()
        self.iters = iters
        self.dust = nn.Parameter(torch.tensor(0.3))

    def forward(self, s):
        m, n = s.shape
        z = torch.cat([torch.cat([s, self.dust.expand(m, 1)], 1), self.dust.expand(1, n + 1)], 0)
        for _ in range(self.iters):
            z = z - torch.cat([torch.logsumexp(z[:-1], 1), z.new_zeros(1)])[:, None]
            z = z - torch.cat([torch.logsumexp(z[:, :-1], 0), z.new_zeros(1)])[None, :]
        return z[:-1, :-1].exp()


class Matcher(nn.Module):
    def __init__(self, f=4, d=17):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(f, d), nn.ReLU(), nn.Linear(d, d))
        self.self_layers = nn.ModuleList([CrossLayer(d), CrossLayer(d)])
        self.cross_layers = nn.ModuleList([CrossLayer(d), CrossLayer(d)])
        self.assign = Sinkhorn()

    def forward(self, left, right):
        a, b = map(self.encoder, (left, right))
        for own, other in zip(self.self_layers, self.cross_layers, strict=False):
            a, b = own(a, a), own(b, b)
            a, b = other(a, b), other(b, a)
        return self.assign(a @ b.t())
