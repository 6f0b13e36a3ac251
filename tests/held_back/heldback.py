"""Held-back cases. CASES: 20 healthy + 27 with one planted bug; CLEAN_TWINS: the 9 bug bases
without a bug (extra healthy cases); injections(seed): 60 random perturbations of healthy cases."""

from __future__ import annotations

import copy
import dataclasses
import random
import types
from collections.abc import Callable
from dataclasses import dataclass

import bugs_fields as bf
import bugs_points as bp
import groupact
import nets_discrete as nd
import nets_fields as nf
import nets_points as npt
import torch


@dataclass
class Case:
    name: str
    family: str
    healthy: bool
    build: Callable
    inputs: Callable
    group: str
    in_layouts: dict
    out_layouts: object
    truth: dict | None = None
    bug: str = ""


def builder(ctor, seed):
    """Weights drawn in f64, then cast: equal for every dtype up to rounding."""

    def build(dtype=torch.float32):
        old = torch.get_default_dtype()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.set_default_dtype(torch.float64)
            try:
                net = ctor()
            finally:
                torch.set_default_dtype(old)
        return net.to(dtype).eval()

    return build


def sampler(fn, seed):
    def inputs():
        out = []
        for k in range(3):
            g = torch.Generator().manual_seed(7919 * seed + k)
            out.append(fn(g))
        return out

    return inputs


# input makers
def N(g, *s, scale=1.0):
    return scale * torch.randn(*s, generator=g)


def ints(g, hi, *s):
    return torch.randint(0, hi, s, generator=g)


def spread(g, *s, scale=1.5, gap=0.7):
    """Positions with no two points of a sample nearer than `gap`."""
    while True:
        x = N(g, *s, scale=scale)
        d = torch.cdist(x, x) + 10 * torch.eye(s[-2])
        if d.min() > gap:
            return x


def edge_list(g, n, e):
    """Directed edges without loops; every node receives at least one."""
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    order = torch.randperm(len(pairs), generator=g).tolist()
    first = [next(k for k in order if pairs[k][1] == v) for v in range(n)]
    rest = [k for k in order if k not in first]
    ks = (first + rest)[:e]
    ks = [ks[k] for k in torch.randperm(e, generator=g).tolist()]
    return torch.tensor([pairs[k] for k in ks]).t().contiguous()


def adjacency(g, *s, p=0.35, weighted=False):
    n = s[-1]
    a = torch.rand(*s, generator=g)
    w = torch.rand(*s, generator=g) + 0.3 if weighted else torch.ones(*s)
    a = torch.triu((a < p).float() * w, 1)
    ring = torch.zeros(n, n)
    ring[torch.arange(n - 1), torch.arange(1, n)] = 1.0
    a = torch.where((ring > 0) & (a == 0), ring.expand_as(a), a)
    return a + a.transpose(-1, -2)


def jets(g, *s):
    p = N(g, *s, 3, scale=0.8)
    m = 0.1 + torch.rand(*s, 1, generator=g)
    return torch.cat([(p.square().sum(-1, keepdim=True) + m**2).sqrt(), p], -1)


CASES, CLEAN_TWINS = [], []


def healthy(name, family, ctor, seed, make, group, ins, outs):
    CASES.append(Case(name, family, True, builder(ctor, seed), sampler(make, seed), group, ins, outs))


# 20 healthy networks
healthy(
    "egnn_dense",
    "points",
    npt.DenseEGNN,
    101,
    lambda g: {"feats": N(g, 11, 5), "coords": N(g, 11, 3, scale=1.3)},
    "E(3) x S(nodes)",
    {"feats": "nodes features", "coords": "nodes point"},
    {"coords": "nodes point", "logits": "nodes channel"},
)
healthy(
    "painn_boxed",
    "points",
    npt.Painn,
    102,
    lambda g: {"z": ints(g, 9, 8), "pos": spread(g, 8, 3), "edge_index": edge_list(g, 8, 26)},
    "E(3) x S(nodes)",
    {"z": "nodes", "pos": "nodes point", "edge_index": "2 edges : nodes"},
    {"energy": "", "dipole": "vector"},
)
healthy(
    "schnet_forces",
    "points",
    npt.SchnetForces,
    103,
    lambda g: {"pos": spread(g, 2, 7, 3), "z": ints(g, 6, 2, 7)},
    "E(3) x S(nodes)",
    {"pos": "batch nodes point", "z": "batch nodes"},
    {"energy": "batch", "forces": "batch nodes vector"},
)
healthy(
    "frame_averaging",
    "points",
    npt.FrameAveraged,
    104,
    lambda g: {"vecs": N(g, 11, 3) * torch.tensor([1.6, 1.0, 0.5]), "feats": N(g, 11, 4)},
    "O(3) x S(nodes)",
    {"vecs": "nodes vector", "feats": "nodes features"},
    {"alpha": "vector vector", "disp": "nodes vector"},
)
healthy(
    "canonical_frame",
    "points",
    npt.Canonicaliser,
    105,
    lambda g: {"x": N(g, 4, 8, 3), "vel": N(g, 4, 8, 3)},
    "SE(3) x S(nodes)",
    {"x": "batch nodes point", "vel": "batch nodes vector"},
    {"x": "batch nodes point", "omega": "batch pseudovector"},
)
healthy(
    "swarm_2d",
    "points",
    npt.Swarm2D,
    106,
    lambda g: {"pos": N(g, 13, 2), "vel": N(g, 13, 2), "kind": ints(g, 4, 13)},
    "E(2) x S(nodes)",
    {"pos": "nodes point", "vel": "nodes vector", "kind": "nodes"},
    {"acc": "nodes vector", "new_pos": "nodes point"},
)

healthy(
    "gcn_adjacency",
    "graph",
    nd.AdjGCN,
    107,
    lambda g: {"x": N(g, 9, 6), "adj": adjacency(g, 9, 9, weighted=True)},
    "S(nodes)",
    {"x": "nodes features", "adj": "nodes nodes"},
    "nodes channel",
)


def _gat_inputs(g):
    src, dst = edge_list(g, 11, 29)
    return {"x": N(g, 11, 4), "edge_attr": N(g, 29, 3), "src": src, "dst": dst}


healthy(
    "gat_edges",
    "graph",
    nd.GATEdges,
    108,
    _gat_inputs,
    "S(nodes) x S(edges)",
    {"x": "nodes features", "edge_attr": "edges features", "src": "edges : nodes", "dst": "edges : nodes"},
    {"edge_score": "edges", "node_logits": "nodes channel", "graph": "channel"},
)
healthy(
    "pair_ign",
    "graph",
    nd.PairIGN,
    109,
    lambda g: {"t": N(g, 8, 8, 2)},
    "S(nodes)",
    {"t": "nodes nodes features"},
    {"pair": "nodes nodes", "node": "nodes channel", "count": ""},
)
healthy(
    "graphormer",
    "graph",
    nd.Graphormer,
    110,
    lambda g: {"x": N(g, 2, 9, 5), "adj": adjacency(g, 2, 9, 9, p=0.15)},
    "S(nodes)",
    {"x": "batch nodes features", "adj": "batch nodes nodes"},
    {"graph": "batch channel", "nodes": "batch nodes channel"},
)

healthy(
    "set_transformer",
    "set",
    nd.SetTransformer,
    111,
    lambda g: {"X": N(g, 2, 11, 5)},
    "S(items)",
    {"X": "batch items features"},
    "batch channel",
)
healthy(
    "fspool_conv",
    "set",
    nd.FSPoolNet,
    112,
    lambda g: {"pts": N(g, 6, 11)},
    "S(items)",
    {"pts": "features items"},
    "items",
)
healthy(
    "sinkhorn_match",
    "set",
    nd.Matcher,
    113,
    lambda g: {"left": N(g, 6, 4), "right": N(g, 9, 4)},
    "S(left) x S(right)",
    {"left": "left features", "right": "right features"},
    "left right",
)

healthy(
    "fno_circular",
    "grid",
    nf.FNO,
    114,
    lambda g: {"field": N(g, 2, 3, 10, 14)},
    "1T(2)",
    {"field": "batch channel height width"},
    "batch height width",
)
healthy(
    "seq_unet",
    "grid",
    nf.SeqUNet,
    115,
    lambda g: {"signal": N(g, 3, 2, 28)},
    "4T(1)",
    {"signal": "batch features length"},
    "batch length channel",
)
healthy(
    "p4_cnn",
    "grid",
    nf.P4Net,
    116,
    lambda g: {"img": N(g, 3, 2, 9, 9)},
    "C4 x 1T(2)",
    {"img": "batch channel height width"},
    {"map": "batch height width", "logits": "batch channel"},
)
healthy(
    "d4_symkernel",
    "grid",
    nf.D4Seg,
    117,
    lambda g: {"image": N(g, 2, 3, 12, 12)},
    "D4",
    {"image": "batch channel height width"},
    "batch channel height width",
)

LG = "SO+(1,3) x S(particles)"
healthy(
    "lorentznet",
    "lorentz",
    nf.LorentzNet,
    118,
    lambda g: {"p4": jets(g, 10), "extra": N(g, 10, 2)},
    LG,
    {"p4": "particles vector", "extra": "particles features"},
    {"score": "channel", "momenta": "particles vector"},
)
healthy(
    "bivector",
    "lorentz",
    nf.BivectorNet,
    119,
    lambda g: {"mom": jets(g, 9)},
    LG,
    {"mom": "particles vector"},
    {"axis": "vector", "y": ""},
)
healthy(
    "rest_frame",
    "lorentz",
    nf.RestFrameTagger,
    120,
    lambda g: {"jets": jets(g, 2, 7)},
    LG,
    {"jets": "batch particles vector"},
    {"cls": "batch channel", "axis": "batch vector"},
)


# 27 planted bugs on 9 deep bases
def planted(base, family, cls, seed, make, group, ins, outs, bugs):
    inp = sampler(make, seed)
    CLEAN_TWINS.append(Case(f"{base}_clean", family, True, builder(cls, seed), inp, group, ins, outs))
    for bug, (paths, kind, text) in bugs.items():
        CASES.append(
            Case(
                f"{base}_{bug}",
                family,
                False,
                builder(lambda bug=bug: cls(bug=bug), seed),
                inp,
                group,
                ins,
                outs,
                {"paths": paths, "kind": kind},
                text,
            )
        )


planted(
    "deep_egnn",
    "points",
    bp.DeepEGNN,
    201,
    lambda g: {"species": ints(g, 5, 9), "pos": N(g, 9, 3, scale=1.2), "edge_index": edge_list(g, 9, 28)},
    "E(3) x S(nodes) x S(edges)",
    {"species": "nodes", "pos": "nodes point", "edge_index": "2 edges : nodes"},
    {"pos": "nodes point", "force": "nodes vector", "feats": "nodes channel"},
    {
        "leak": (["blocks.4.geometry"], "module", "absolute coordinate leak 1e-3 in d2"),
        "order": (["blocks.1.pool"], "module", "messages weighted by position in the edge list (called twice)"),
        "half": (["blocks.6.direction"], "module", "y component through float16"),
    },
)
planted(
    "deep_pai",
    "points",
    bp.DeepPai,
    202,
    lambda g: {"batch_pos": N(g, 2, 9, 3, scale=1.2), "attr": N(g, 2, 9, 4)},
    "E(3) x S(nodes)",
    {"batch_pos": "batch nodes point", "attr": "batch nodes features"},
    {"energy": "batch", "forces": "batch nodes vector"},
    {
        "swish": (["blocks.2.gate"], "module", "SiLU on vector components"),
        "layernorm": (["blocks.4.norm"], "module", "nn.LayerNorm per vector component"),
        "dropped": (["blocks.0.lengths"], "module", "z term dropped from the squared length"),
    },
)
planted(
    "torque",
    "points",
    bp.TorqueNet,
    203,
    lambda g: {"kinds": ints(g, 4, 9), "pos": spread(g, 9, 3, gap=0.4), "spin": N(g, 9, 3)},
    "E(3) x S(nodes)",
    {"kinds": "nodes", "pos": "nodes point", "spin": "nodes pseudovector"},
    {"force": "nodes vector", "torque": "nodes pseudovector"},
    {
        "sign": (["layers.3.cross"], "module", "y component of the cross product has the wrong sign"),
        "channel": (["layers.1.triple"], "module", "channel 2 of the triple product keeps its sign (parity only)"),
        "index": (["layers.4"], "functional", "reshape instead of permute [n,c,3]->[c,n,3]: breaks S(nodes) only"),
    },
)
planted(
    "deep_graph",
    "graph",
    bf.DeepGraph,
    204,
    lambda g: {"x": N(g, 2, 10, 5), "adj": adjacency(g, 2, 10, 10)},
    "S(nodes)",
    {"x": "batch nodes features", "adj": "batch nodes nodes"},
    {"nodes": "batch nodes channel", "graph": "batch channel"},
    {
        "order": (["trunk.layers.2.agg"], "module", "only neighbours earlier in the list are summed"),
        "leak": (["trunk.layers.5.scores"], "module", "position index leaks into attention scores, 0.05 per index"),
        "index": (["trunk"], "functional", "virtual node reads node 0 instead of the mean after layer 6"),
    },
)
planted(
    "deep_set",
    "set",
    bf.DeepSet,
    205,
    lambda g: {"items": N(g, 2, 11, 3)},
    "S(items)",
    {"items": "batch items features"},
    "batch items channel",
    {
        "order": (["encoder.stack.3.pool", "encoder.stack.3.pool.cell"], "module", "GRU as pooling"),
        "channel": (["encoder.stack.4.pool"], "module", "channel 3 of the mean is taken from item 0"),
        "dropped": (["encoder"], "functional", "item 0 dropped from the mean after layer 2"),
    },
)
planted(
    "circ_resnet",
    "grid",
    bf.CircResNet,
    206,
    lambda g: {"x": N(g, 3, 2, 9, 11)},
    "1T(2)",
    {"x": "batch channel height width"},
    "batch channel height width",
    {
        "zeropad": (["blocks.3.conv2"], "module", "zero padding"),
        "coord": (["blocks.5.gate"], "module", "column coordinate leaks into the gate, strength 1"),
        "wrap": (["blocks.1"], "functional", "finite difference not wrapped at the right edge"),
    },
)
planted(
    "deep_p4",
    "grid",
    bf.DeepP4,
    207,
    lambda g: {"img": N(g, 2, 3, 9, 9)},
    "C4 x 1T(2)",
    {"img": "batch channel height width"},
    {"mask": "batch height width", "label": "batch channel"},
    {
        "index": (["trunk.3.gconv"], "module", "filter bank rolled the wrong way on the group axis"),
        "channel": (["trunk.1.norm"], "module", "one orientation of channel 3 has a bias of its own"),
        "offcentre": (["trunk.4.smooth"], "module", "blur kernel one pixel off centre"),
    },
)
planted(
    "deep_d4",
    "grid",
    bf.DeepD4,
    208,
    lambda g: {"x": N(g, 3, 2, 10, 10)},
    "D4",
    {"x": "batch channel height width"},
    "batch channel height width",
    {
        "dropped": (["body.2.conv"], "module", "flipped views dropped from the kernel average (C4 still holds)"),
        "offcentre": (["body.5.window"], "module", "radial window half a pixel off centre"),
        "index": (["body.3"], "functional", "context is the mean of the top half only"),
    },
)
planted(
    "deep_lorentz",
    "lorentz",
    bf.DeepLorentz,
    209,
    lambda g: {"p": jets(g, 8), "charge": N(g, 8, 1)},
    LG,
    {"p": "particles vector", "charge": "particles features"},
    {"p_out": "particles vector", "cls": "channel"},
    {
        "sign": (["layers.2.dot"], "module", "metric sign of pz flipped"),
        "nonlin": (["layers.4.act"], "module", "asinh on four-vector components"),
        "half": (["layers.5.blend"], "module", "energy component through float16"),
    },
)


# random injections
def first_float(out):
    """First floating tensor in a nested output, or None."""
    if torch.is_tensor(out):
        return out if out.is_floating_point() else None
    if isinstance(out, dict):
        out = list(out.values())
    elif dataclasses.is_dataclass(out):
        out = [getattr(out, f.name) for f in dataclasses.fields(out)]
    if isinstance(out, (list, tuple)):
        for o in out:
            t = first_float(o)
            if t is not None:
                return t
    return None


def replaced(out, old, new):
    if out is old:
        return new
    if isinstance(out, dict):
        return type(out)((k, replaced(v, old, new)) for k, v in out.items())
    if isinstance(out, tuple):
        vals = [replaced(v, old, new) for v in out]
        return type(out)(*vals) if hasattr(out, "_fields") else tuple(vals)
    if isinstance(out, list):
        return [replaced(v, old, new) for v in out]
    if dataclasses.is_dataclass(out):
        return dataclasses.replace(
            out, **{f.name: replaced(getattr(out, f.name), old, new) for f in dataclasses.fields(out)}
        )
    return out


@dataclass(frozen=True)
class Perturb:
    kind: str  # const | mask | zero | sign
    amount: float  # const: absolute size
    seed: int

    def tensor(self, t):
        h = self.seed
        for s in t.shape:
            h = (h * 1009 + s) % (2**31)
        g = torch.Generator().manual_seed(h)
        if self.kind == "const":
            r = self.amount * torch.randn(t.shape, generator=g, dtype=torch.float64)
        elif self.kind == "mask":
            r = 0.5 + torch.rand(t.shape, generator=g, dtype=torch.float64)
        elif self.kind == "zero":
            r = torch.ones(t.numel(), dtype=torch.float64)
            r[torch.randperm(t.numel(), generator=g)[: max(1, t.numel() // 3)]] = 0.0
            r = r.view(t.shape)
        else:
            r = torch.ones(t.shape, dtype=torch.float64)
            if t.dim():
                r[..., self.seed % t.shape[-1]] = -1.0
        return r.to(t.dtype)

    def __call__(self, t):
        r = self.tensor(t)
        return t + r if self.kind == "const" else t * r


def patch(module, perturb):
    def forward(self, *args, **kwargs):
        out = type(self).forward(self, *args, **kwargs)
        t = first_float(out)
        return out if t is None else replaced(out, t, perturb(t))

    module.forward = types.MethodType(forward, module)


def called_modules(model, inp):
    """{path: rms of the first floating output at the first call} for every submodule but the root."""
    seen, handles = {}, []

    def hook(path):
        def fn(mod, args, out):
            t = first_float(out)
            if t is not None and t.numel() and path not in seen:
                seen[path] = float(t.detach().square().mean().sqrt())

        return fn

    for path, mod in model.named_modules():
        if path:
            handles.append(mod.register_forward_hook(hook(path)))
    with torch.no_grad():
        model(**inp)
    for h in handles:
        h.remove()
    return seen


def injected_build(base_build, path, perturb):
    def build(dtype=torch.float32):
        net = copy.deepcopy(base_build(dtype))
        patch(net.get_submodule(path), perturb)
        return net

    return build


def injections(seed, count=60):
    rng = random.Random(seed)
    pool = [c for c in CASES if c.healthy]
    out, used, order = [], set(), []
    info = {}
    while len(out) < count:
        if not order:
            order = rng.sample(pool, len(pool))
        case = order.pop()
        if case.name not in info:
            net = case.build(torch.float64)
            info[case.name] = (net, called_modules(net, groupact.to64(case.inputs()[0])))
        net, found = info[case.name]
        # kinds take turns; a network in which this kind breaks nothing after 15 tries is passed over
        kind, rel = [("const", 0.3), ("mask", 0.0), ("sign", 0.0), ("const", 0.01), ("zero", 0.0)][len(out) % 5]
        for _ in range(15):
            path = rng.choice(sorted(found))
            tag = (case.name, path, kind, rel)
            pert = Perturb(kind, rel * found[path], rng.randrange(2**30))
            if tag in used:
                continue
            used.add(tag)
            build = injected_build(case.build, path, pert)
            bad = build(torch.float64)
            errs = [max(groupact.breakage(bad, case, i, draws=3, seed=k).values()) for k, i in enumerate(case.inputs())]
            if not all(1e-4 < e < 1e3 for e in errs):  # every input broken, none blown up (NaN counts as inf)
                continue
            target = net.get_submodule(path)
            paths = [p for p, m in net.named_modules(remove_duplicate=False) if m is target]
            label = kind + (f"{rel:g}" if rel else "")
            out.append(
                dataclasses.replace(
                    case,
                    name=f"inj{seed}_{len(out):02d}_{case.name}__{path}__{label}",
                    healthy=False,
                    build=build,
                    truth={"paths": paths, "kind": "module"},
                    bug=label,
                )
            )
            break
    return out
