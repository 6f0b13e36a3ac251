"""What a specimen is, how networks are registered with their bugs, and where weights and inputs come from.

Nothing here imports equicheck: ``zoo.truth`` checks every claim by code of its own. Each file of the zoo defines
networks of one domain; a bug is one faulty module, put in place of the healthy one, so that the healthy network with
the same weights is its repaired twin; or it is a wrong declaration, whose repair is another declaration.

    EGNN = Network("EGNN, 4 layers", Egnn, "E(3) x S(nodes)", {...}, {...}, cloud())
    EGNN.healthy("egnn")


    @EGNN.bug("egnn_tanh_step", "nonequivariant-nonlinearity", "layers.2.limit", respected=..., severity=...)
    class TanhStep(nn.Module): ...

To audit a specimen: ``equicheck.audit(s.build(), s.samples(), factory=s.build, **s.declaration())``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

Inputs = dict[str, torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor]

HEALTHY = "healthy"

#: All failure modes that are planted.
MODES = (
    "nonequivariant-nonlinearity",
    "batch-norm",
    "wrong-output-transform",
    "numerical-precision",
    "custom-layer-bug",
    "padding-boundary",
    "untransformed-input",
    "parity",
    "translation-leak",
    "permutation",
    "positional-encoding",
    "component-order",
    "striding-aliasing",
    "interpolation",
    "neighbour-cap",
    "discontinuity",
    "chart-singularity",
    "lab-frame-constant",
    "randomness",
    "nondeterminism",
    "state-drift",
    "low-precision",
    "wrong-backward",
    "detached-gradient",
    "unstable-parameters",
    "nan-gradient",
    "train-eval-difference",
    "batch-cross-talk",
    "rounding-amplification",
    "size-dependence",
    "vacuous-test",
    "wrong-declaration",
)

#: What shows a bug, and how ``zoo.truth`` measures it; every measure is near 0 where nothing is wrong.
EVIDENCE = (
    "symmetry",  # relative error of f(T x) = T' f(x) in double precision
    "calls",  # two calls with the same input differ
    "batch",  # an entry alone differs from itself in a batch
    "vacuous",  # 1 if no output responds to what the group moves
    "single",  # relative error of f(T x) = T' f(x) in single precision; it holds in double precision
    "parameters",  # the error of f(T x) = T' f(x) after a step of the parameters of the module at `location`
    "derivative",  # the gradient with respect to inputs against finite differences of the outputs
    "claim",  # output `forces` against finite differences of output `energy`
    "nan",  # 1 if a gradient at the probe is not finite
    "jump",  # change of the outputs across the cutoff
)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Sets torch's default dtype for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class Specimen:
    """A network, how it is audited, and the truth about it.

    mode: one of ``MODES``, or "healthy".
    location: the faulty module, as in ``named_modules()``; None where the declaration or the whole is to blame.
    also_right: other modules that an expert would accept; "" is the whole network.
    verdict: PASS, FAIL or NEEDS_ATTENTION, as in docs/exit-status.md and docs/methodology.md, for an audit in single
        precision that compares with double precision.
    respected: the largest named group under which it holds exactly, in the words of ``zoo.actions``; None: no more
        than the identity is known.
    make: the network in the default dtype, weights not yet drawn; mend: its healthy twin, None if there is none.
    inputs: seed -> keyword arguments of one call, in the default dtype.
    options: further keyword arguments of ``equicheck.audit``: mode, gradients, domain, segments, stress and so on.
    repair: what of the declaration is to be changed, where that is the bug.
    evidence: one of ``EVIDENCE``; the bug's measure is at least `least`, that of the twin at most `most`.
    broken: the outputs that break, where others do not.
    probe: seed -> inputs at which the bug shows, where it does not on `inputs`.
    seeds: of the inputs that are tried, with this many `elements` each; the bug shows on at least one of them.
    held_back: whether the network is defined in a module ``zoo.held_*``, of the part that is scored once.
    """

    name: str
    mode: str
    location: str | None
    also_right: tuple[str, ...]
    verdict: str
    respected: str | None
    severity: str
    architecture: str
    make: Callable[[], nn.Module]
    mend: Callable[[], nn.Module] | None
    inputs: Callable[[int], Inputs]
    group: str
    in_layouts: dict[str, str | None]
    out_layouts: Any
    options: dict[str, Any] = field(default_factory=dict)
    repair: dict[str, Any] = field(default_factory=dict)
    evidence: str = "symmetry"
    least: float = 1e-6
    most: float = 1e-10
    broken: tuple[str, ...] | None = None
    probe: Callable[[int], Inputs] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    elements: int = 3
    held_back: bool = False

    @property
    def training(self) -> bool:
        """Whether it is audited in train mode."""
        return self.options.get("mode") == "train"

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The network in eval mode; the same weights each time and, up to rounding, in each dtype."""
        return _built(self.make, dtype)

    def repaired(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The healthy twin with the same weights; the network itself where the declaration is repaired."""
        return _built(self.mend or self.make, dtype)

    def samples(self, dtype: torch.dtype = torch.float32, count: int = 3) -> list[Inputs]:
        """Keyword arguments of `count` calls."""
        with default_dtype(dtype):
            return [self.inputs(seed) for seed in range(count)]

    def declaration(self, repaired: bool = False) -> dict[str, Any]:
        """Group, layouts and options, by the names that ``equicheck.audit`` has for them."""
        given = {"group": self.group, "in_layouts": self.in_layouts, "out_layouts": self.out_layouts, **self.options}
        return given | self.repair if repaired else given


def _built(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    with default_dtype(dtype), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return drawn(make()).eval()


#: All specimens by name, in the order in which they are defined.
SPECIMENS: dict[str, Specimen] = {}


def _add(specimen: Specimen) -> None:
    assert specimen.name not in SPECIMENS, specimen.name
    assert specimen.mode in (*MODES, HEALTHY), specimen.mode
    assert specimen.evidence in EVIDENCE, specimen.evidence
    SPECIMENS[specimen.name] = specimen


@dataclass(frozen=True)
class Network:
    """A healthy network and its declaration, into which bugs are planted."""

    architecture: str
    make: Callable[[], nn.Module]
    group: str
    in_layouts: dict[str, str | None]
    out_layouts: Any
    inputs: Callable[[int], Inputs]
    options: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)

    def but(self, **changes: Any) -> Network:
        """The same with another declaration, inputs or options."""
        return replace(self, **changes)

    def _specimen(self, name: str, mode: str, at: str | None, **changes: Any) -> None:
        changes["options"] = self.options | changes.get("options", {})
        given = {
            "architecture": self.architecture,
            "make": self.make,
            "mend": None,
            "inputs": self.inputs,
            "seeds": self.seeds,
            "group": self.group,
            "in_layouts": self.in_layouts,
            "out_layouts": self.out_layouts,
            "also_right": (),
            "held_back": self.make.__module__.rpartition(".")[2].startswith("held_"),
        }
        _add(Specimen(name=name, mode=mode, location=at, **(given | changes)))

    def healthy(self, name: str, severity: str = "none", **changes: Any) -> None:
        """Registers it as it is."""
        truth = {"verdict": "PASS", "respected": self.group, "severity": severity}
        self._specimen(name, HEALTHY, None, **(truth | changes))

    def bug(
        self, name: str, mode: str, at: str, *, respected: str | None, severity: str, verdict: str = "FAIL", **more: Any
    ) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
        """Registers it with another module at the path `at`: a class or function that is called without arguments."""

        def register(fault: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
            def make() -> nn.Module:
                model = self.make()
                model.get_submodule(at)
                model.set_submodule(at, fault())
                return model

            truth = {"verdict": verdict, "respected": respected, "severity": severity}
            self._specimen(name, mode, at, make=make, mend=self.make, **(truth | more))
            return fault

        return register

    def rounding(self, name: str, mode: str, *, severity: str, verdict: str, **more: Any) -> None:
        """Registers it as it is, healthy, on inputs that make errors in single precision large."""
        truth = {"verdict": verdict, "respected": self.group, "severity": severity, "evidence": "single"}
        self._specimen(name, mode, None, **(truth | more))

    def misdeclared(
        self,
        name: str,
        mode: str,
        *,
        respected: str | None,
        severity: str,
        repair: dict[str, Any],
        verdict: str = "FAIL",
        **more: Any,
    ) -> None:
        """Registers it with a wrong declaration, in `more`, and the right one in `repair`."""
        truth = {"verdict": verdict, "respected": respected, "severity": severity}
        self._specimen(name, mode, None, repair=repair, **(truth | more))


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def normal(random: torch.Generator, *shape: int) -> torch.Tensor:
    """In the default dtype, and up to rounding the same in all."""
    return torch.randn(shape, generator=random, dtype=torch.float64).to(torch.get_default_dtype())


def drawn(model: nn.Module) -> nn.Module:
    """The model with weights that depend on their names and shapes alone, of the size that keeps signals of order one.

    So networks of different structure have the same weights where names agree. Tensors named ``zero_*`` stay as they
    were made.
    """
    with torch.no_grad():
        for path, module in model.named_modules():
            tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            for name, tensor in tensors:
                if not tensor.is_floating_point() or name.startswith("zero_"):
                    continue
                value = normal(generator(zlib.crc32(f"{path}.{name}".encode())), *tensor.shape)
                if name == "running_var":
                    value = torch.exp(0.3 * value)
                elif name == "running_mean":
                    value = 0.4 * value
                elif not isinstance(tensor, nn.Parameter):
                    continue
                elif type(module).__module__.startswith("e3nn"):
                    pass  # normalised by e3nn itself
                elif tensor.dim() > 1:
                    value = value * (tensor.shape[0] / tensor.numel()) ** 0.5
                elif name == "weight":
                    value = 1 + 0.2 * value
                else:
                    value = 0.3 * value
                tensor.copy_(value)
    return model


def mlp(before: int, width: int, after: int, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Two linear maps and an activation between them."""
    return nn.Sequential(nn.Linear(before, width), act(), nn.Linear(width, after))


def cloud(
    nodes: tuple[int, ...] = (6, 9, 8), features: int = 4, spread: float = 1.1, **shapes: tuple[int, ...]
) -> Callable[[int], Inputs]:
    """Inputs ``x`` [nodes, 3] off the origin, ``h`` [nodes, features] unless 0, and others [nodes, *shape]."""

    def inputs(seed: int) -> Inputs:
        random = generator(seed + 17)
        n = nodes[seed % len(nodes)]
        made = {"x": spread * normal(random, n, 3) + 0.4}
        if features:
            made["h"] = normal(random, n, features)
        return made | {name: normal(random, n, *shape) for name, shape in shapes.items()}

    return inputs


def pairs(h: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
    """Features of both nodes of each pair, and more: [n, c] -> [n, n, 2 c + ...]."""
    n = len(h)
    return torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), *more], -1)


def bumps(r2: torch.Tensor, count: int = 4) -> torch.Tensor:
    """Gaussians of a distance, from its square: [...] -> [..., count]; smooth at 0."""
    return torch.exp(-r2[..., None] / (0.7 + torch.arange(count, dtype=r2.dtype)).square())


def gathered(values: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    """Sums of the rows with the same index: [edges, ...] -> [count, ...]."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, index, values)
