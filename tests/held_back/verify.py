"""Independent check of every case in f64. `python verify.py [--inj SEED]`"""

from __future__ import annotations

import sys
import time

import groupact
import heldback
import torch

torch.set_num_threads(1)
fails = []


def need(ok, *msg):
    if not ok:
        fails.append(" ".join(map(str, msg)))
        print("   FAIL", *msg)


def check(case, full=True):
    net = case.build(torch.float64)
    net32 = case.build(torch.float32)
    need(not net.training, case.name, "not eval")
    for (k, a), (_, b) in zip(net.state_dict().items(), net32.state_dict().items(), strict=False):
        need(
            (a.double() - b.double()).abs().max() <= 1e-6 * (1 + a.double().abs().max()) if a.numel() else True,
            case.name,
            k,
        )
        if a.is_floating_point():
            need(a.dtype == torch.float64 and b.dtype == torch.float32, case.name, k, "dtype")
    ins = case.inputs()
    need(len(ins) == 3, case.name, "three inputs")
    per = {}
    lows = []
    for i, inp in enumerate(ins):
        need(all(t.dtype in (torch.float32, torch.int64) for t in inp.values()), case.name, "input dtypes")
        e = groupact.breakage(net, case, inp, seed=i)
        lows.append(max(e.values()))
        for k, v in e.items():
            per[k] = max(per.get(k, 0.0), v)
    inp = ins[0]
    with torch.no_grad():
        o64, o32 = groupact.as_dict(net(**groupact.to64(inp))), groupact.as_dict(net32(**inp))
        again = groupact.as_dict(case.build(torch.float64)(**groupact.to64(inp)))
        for k in o64:
            need(
                o64[k].dtype == torch.float64 and o32[k].dtype == torch.float32,
                case.name,
                k,
                "out dtype",
                o64[k].dtype,
                o32[k].dtype,
            )
            need(torch.isfinite(o64[k]).all() and o64[k].abs().max() > 1e-6, case.name, k, "values", o64[k].abs().max())
            need(torch.equal(o64[k], again[k]), case.name, k, "not deterministic")
            rel = float((o64[k] - o32[k]).abs().max() / o64[k].abs().max())
            need(rel < 2e-3, case.name, k, "f32 vs f64", rel)
        t0 = time.perf_counter()
        for _ in range(5):
            net32(**inp)
        ms = (time.perf_counter() - t0) / 5 * 1e3
    # batch samples are independent
    o64 = {k: v.detach() for k, v in o64.items()}
    if any("batch" in v.split() for v in case.in_layouts.values()):
        flip = {
            k: v.flip(case.in_layouts[k].split().index("batch")) if "batch" in case.in_layouts[k] else v
            for k, v in groupact.to64(inp).items()
        }
        with torch.no_grad():
            got = groupact.as_dict(net(**flip))
        for k, lay in groupact.out_layouts(case).items():
            e = (got[k].flip(lay.split().index("batch")) - o64[k]).detach().abs().max() / o64[k].abs().max()
            need(e < 1e-10 or not case.healthy, case.name, "batch mixing", float(e))
    worst = max(per.values())
    if case.healthy:
        need(worst < 1e-10, case.name, "healthy error", worst)
    else:
        need(min(lows) > 1e-6, case.name, "bug too weak", lows)
        names = [n for n, _ in net.named_modules(remove_duplicate=False)]
        need(all(p in names for p in case.truth["paths"]), case.name, "paths", case.truth)
        hit = []
        [net.get_submodule(p).register_forward_hook(lambda *a: hit.append(1)) for p in case.truth["paths"]]
        with torch.no_grad():
            net(**groupact.to64(inp))
        need(hit, case.name, "truth never called")
        twin = next((t for t in heldback.CLEAN_TWINS if case.name.startswith(t.name[:-5])), None)
        if twin is not None:  # with the clean twin's module put in its place, the network is healthy
            path = case.truth["paths"][0]
            parent, _, leaf = path.rpartition(".")
            setattr(net.get_submodule(parent), leaf, twin.build(torch.float64).get_submodule(path))
            mended = max(max(groupact.breakage(net, case, i).values()) for i in ins)
            need(mended < 1e-10, case.name, "not mended by a clean module", mended)
    mods = sum(1 for _ in net.named_modules())
    print(
        f"{case.name:34s} {case.family:8s} {'ok ' if case.healthy else 'bug'} worst {worst:8.1e} min {min(lows):8.1e} "
        f"{ms:5.1f} ms {mods:3d} mods | {case.group} | "
        + " ".join(f"{k}={v:.0e}" for k, v in per.items())
        + ("" if case.healthy else f" | {case.truth['kind']} {case.truth['paths']}"),
        flush=True,
    )


if __name__ == "__main__":
    if "--inj" in sys.argv:
        seed = int(sys.argv[sys.argv.index("--inj") + 1])
        t0 = time.time()
        cases = heldback.injections(seed)
        print(len(cases), "injections in", round(time.time() - t0), "s")
    else:
        cases = heldback.CASES + heldback.CLEAN_TWINS
        print(sum(c.healthy for c in heldback.CASES), "healthy", sum(not c.healthy for c in heldback.CASES), "bugs")
    for c in cases:
        try:
            check(c)
        except Exception as exc:
            need(False, c.name, type(exc).__name__, exc)
            if "--trace" in sys.argv:
                raise
    print("FAILS:", len(fails))
    sys.exit(bool(fails))
