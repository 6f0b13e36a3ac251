"""Audit of an e3nn 0.6 network, from e3nn's own `nn.models`, on molecules of the G2 set of ASE.

    equicheck run examples/e3nn_g2.py:audit

`SimpleNetwork` (v2106) takes one dictionary, with positions and node features, and builds its own
graph: neighbours within `CUTOFF`, with a smooth cutoff. Outputs have l = 0, 1 and 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase.collections import g2
from e3nn.nn.models.v2106.gate_points_networks import SimpleNetwork

import equicheck

ELEMENTS = "HCNOF"
MOLECULES = (
    "CH3CN", "CH3NO2", "CH3COF", "HCOOCH3", "CH3CH2OH",
    "CH3CONH2", "C4H4O", "CH3CH2NH2", "C5H5N", "isobutene",
)  # fmt: skip
"""6 to 12 atoms each."""

CUTOFF = 3.0
"""Neighbour cutoff, in angstrom."""

DISPLACEMENT = 0.1
"""Standard deviation of the displacement of every coordinate, in angstrom: most molecules of the
set are planar or mirror symmetric, which would force parts of the outputs to zero."""

IRREPS_OUT = "2x0e + 1x1o + 1x2e"


def molecules(seed: int = 0) -> list[tuple[dict[str, torch.Tensor]]]:
    """The samples: each calls `network(data)` with `pos` (nodes, 3) and one-hot `x` (nodes, 5)."""
    generator = np.random.default_rng(seed)
    samples = []
    for name in MOLECULES:
        atoms = g2[name]
        shift = DISPLACEMENT * generator.standard_normal(atoms.positions.shape)
        kinds = [ELEMENTS.index(symbol) for symbol in atoms.get_chemical_symbols()]
        data = {
            "pos": torch.tensor(atoms.positions + shift, dtype=torch.float32),
            "x": torch.nn.functional.one_hot(torch.tensor(kinds), len(ELEMENTS)).float(),
        }
        samples.append((data,))
    return samples


def network(*, pool_nodes: bool, trained: bool = True) -> SimpleNetwork:
    """The network with fixed random weights, built under the current default dtype.

    e3nn starts the factors `alpha`, which switch the convolutions on, at zero: at initialisation
    the scalar outputs do not depend on the positions at all. `trained` draws them from a
    normal distribution, as after some training.
    """
    net = SimpleNetwork(
        irreps_in=f"{len(ELEMENTS)}x0e",
        irreps_out=IRREPS_OUT,
        max_radius=CUTOFF,
        num_neighbors=6.0,
        num_nodes=8.0,
        mul=8,
        layers=2,
        lmax=2,
        pool_nodes=pool_nodes,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            # Drawn in float32, so that every dtype gets the same weights.
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            if trained or not name.endswith("alpha.weight"):
                parameter.copy_(values)
    return net.eval()


def factory(dtype: torch.dtype) -> SimpleNetwork:
    """The pooled network built under `dtype`: its Clebsch-Gordan constants are exact in it.

    In a copy made by `.double()` they stay rounded to float32.
    """
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return network(pool_nodes=True)
    finally:
        torch.set_default_dtype(previous)


def run(net: SimpleNetwork, out_layout: str, **options: Any) -> equicheck.Report:
    """Audits `net` on the molecules under E(3) and permutations."""
    torch.set_num_threads(1)
    return equicheck.audit(
        net,
        molecules(),
        group="E(3) x S(nodes)",
        in_layouts=({"pos": "nodes point", "x": f"nodes {len(ELEMENTS)}x0e"},),
        out_layouts=out_layout,
        transforms=20,
        budget=float("inf"),  # the same plan on a busy machine
        **options,
    )


def audit() -> equicheck.Report:
    """Outputs of the whole molecule (l = 0, 1, 2), float64 by the factory: PASS, status 0."""
    return run(network(pool_nodes=True), f"graphs {IRREPS_OUT}", factory=factory)


def audit_per_atom() -> equicheck.Report:
    """Outputs per atom, float64 by a cast, with constants rounded to float32: PASS, status 0."""
    return run(network(pool_nodes=False), f"nodes {IRREPS_OUT}")


def audit_declared_axial() -> equicheck.Report:
    """A wrong declaration, l = 1 with even parity: FAIL, status 1."""
    return run(network(pool_nodes=True), "graphs 2x0e + 1x1e + 1x2e", factory=factory)


def audit_at_initialisation() -> equicheck.Report:
    """As e3nn initialises it, scalars ignore the geometry, a vacuous test: status 2."""
    return run(network(pool_nodes=True, trained=False), f"graphs {IRREPS_OUT}")
