"""``equicheck.audit``."""

from __future__ import annotations

import contextlib
import logging
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from . import _equicheck, _representations, _trees, _words
from ._custom import CustomAction, Host
from ._equicheck import Element, Report, SpecificationError
from ._model import Adapter, Samples

_LOGGER = logging.getLogger("equicheck")

#: Seconds that an audit may take unless told otherwise.
DEFAULT_BUDGET = 120.0

#: None is an answer of its own: not transformed.
_NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda _: "..."})()


def audit(
    model: Any,
    inputs: Any,
    *,
    group: str | Sequence[Any] | CustomAction,
    in_layouts: Any = _NOT_GIVEN,
    out_layouts: Any = _NOT_GIVEN,
    module: Any = None,
    factory: Callable[[Any], Any] | None = None,
    method: str = "forward",
    mode: Literal["eval", "train", "as_is"] = "eval",
    samples: int | None = None,
    transforms: int | None = None,
    budget: float | None = None,
    thorough: bool = False,
    seed: int = 0,
    translation_scale: float | None = None,
    levels: tuple[float, float, float] | Mapping[str, float] | None = None,
    tolerance: float | Mapping[str, float] | None = None,
    precision: Literal["both", "as_is", "float64"] = "both",
    representations: Mapping[str, Callable[[Element], Any]] | None = None,
    segments: Mapping[str, str] | None = None,
    domain: Literal["periodic", "open"] | Mapping[str, Literal["periodic", "open"]] | None = None,
    interpolation: Literal["bilinear", "bicubic", "fourier"] = "bilinear",
    rapidity: float = 2.0,
    shard: tuple[int, int] | None = None,
    early_stop: bool = False,
    batch: int | Literal["auto"] = 1,
    up_to: Mapping[str, str] | None = None,
    randomness: Literal["fixed", "transform", "distribution"] = "fixed",
    noise_layouts: Any = None,
    stress: bool = False,
    cutoff: float | None = None,
    layers: bool = True,
    hidden_layouts: Mapping[str, Any] | None = None,
    gradients: bool = False,
    loss: Callable[..., Any] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Audits ``f(T x) = T' f(x)`` for a model ``f`` over many inputs ``x`` and elements ``T`` of a group.

    Args:
        model: an ``nn.Module``, or any callable on tensors (torch, numpy).
        inputs: one sample, a list of samples, or a function ``seed -> sample``. A sample that is a tensor gives
            ``f(x)``, a tuple ``f(*x)``, a dict ``f(**x)``, ``equicheck.Args(*a, **kw)`` anything else; an object with
            tensor attributes is passed as it is and takes a dict of layouts by attribute.
        group: such as ``"E(3) x S(nodes)"``, a list of matrices that generate it, or a ``CustomAction``, which takes
            the place of layouts.
        in_layouts: mirrors the sample: a string per tensor, None for "not transformed". In place of a string,
            ``e3nn.o3.Irreps`` and escnn's ``FieldType`` (of a finite group) are taken too.
        out_layouts: mirrors the output; outputs in dicts may be left out, entries of tuples need a layout or None.
            With a ``CustomAction`` all outputs are audited; None leaves one out.
        module: the ``nn.Module`` behind a callable, for the double-precision comparison and state protection.
        factory: ``dtype -> model``, builds the model in double precision; parameters are copied into it.
        method: method of the module to audit.
        mode: ``"eval"``, ``"train"``, or ``"as_is"``; train flags are put back after each call.
        samples: test samples, at most. Default by model size: 50, 100 or 200.
        transforms: random elements per sample. Default by model size: 50 or 100.
        budget: seconds; default 120, ``float("inf")`` lifts it.
        thorough: no limit of time, unless `budget` is given.
        seed: of all random draws.
        translation_scale: standard deviation of each component of a random translation, in the inputs' unit (of the
            cell for fractional coordinates); default is the spread of the points.
        levels: upper bounds (perfect, excellent, approximate) of the levels, by default (1e-6, 1e-4, 1e-2).
        tolerance: violations below it pass, for all outputs or by output.
        precision: ``"both"`` compares with double precision, ``"as_is"`` does not, ``"float64"`` audits a
            double-precision copy alone.
        representations: name -> function, for ``@name`` in layouts: takes an ``Element`` of the group and returns the
            matrix, real, that acts on an axis of its length. It is held against the laws of a group first.
        segments: permuted axis -> input whose values label the segments that it is permuted within (graphs of a batch).
        domain: what lies beyond the edge of grids: ``"periodic"``, the opposite edge; ``"open"``, nothing that is
            known. For all tensors, or by input and output. Needed where translations act on grids.
        interpolation: how values between pixels are made: ``"bilinear"``, ``"bicubic"``, ``"fourier"``; a control
            says what that does to the error (``OutputReport.interpolation``).
        rapidity: of the fastest boost that is drawn, at most 5.
        shard: ``(i, n)``: the i-th of n runs, from 0, that share the plan's pairs; ``equicheck.merge`` joins their
            reports into that of the whole.
        early_stop: end as soon as the answer is known: a failure at once, a pass when every bound on the share of the
            group that violates is below 5 %.
        batch: how many pairs one call of the model evaluates, at most: transformed inputs one behind the other along
            their axes called ``batch``. Only where the audit has seen that entries of a batch do not influence each
            other; otherwise each pair is a call of its own, and a note says why. ``"auto"`` finds the number by timing.
        up_to: output -> ``"sign"`` or ``"phase"`` for outputs that are defined up to it (eigenvectors, real and
            complex), ``"S(axis)"`` for rows that come in any order (neighbour lists); the same as ``~ sign`` after the
            output's layout.
        randomness: for models that draw random numbers inside. ``"fixed"``: the calls on x and T x start from equal
            seeds. ``"transform"``: the draws on x are recorded, and replayed on T x acted on by T (torch models).
            ``"distribution"``: the law of f(T x) is tested against that of T' f(x), by independent draws.
        noise_layouts: with ``"transform"``, the layout of each draw, in order (None: replayed as it is), or one string
            for all. Without them the error lists the draws.
        stress: also try inputs at the edge of what the model is used on, derived from the samples: far from the origin,
            tiny and huge, one and two nodes, coincident, collinear, planar, zero vectors, and so on by layout. What is
            wrong there is a finding of low severity and changes no verdict.
        cutoff: the distance at which the model cuts off, for stress inputs with a pair at it.
        layers: look into the module calls of a torch model: each layer's own and propagated error, and where symmetry
            is first lost (``report.layers``, ``report.first_break``).
        hidden_layouts: module -> layouts of hidden tensors, ``{"conv1": {"out": "nodes 8x0e+8x1o"}}``; ``"in.x"`` and
            ``"out.0"`` name one of several. Libraries of equivariant modules (e3nn, escnn) tell their own.
        gradients: also audit the gradients of outputs with respect to inputs and parameters (torch models): do they
            transform as the symmetry says, and are they the derivatives of the forward.
        loss: with ``gradients``, an invariant function of what the model returns that gives a tensor with one entry:
            its gradients are audited too.
        progress: called as ``progress(done, planned)``. The plan and what it is expected to take are logged by the
            logger ``equicheck`` at level INFO before the first pair.

    Returns:
        The report. ``print(report)`` shows it, ``report.raise_for_failure()`` makes a test of it.

    Raises:
        SpecificationError: a group, layout or option that is wrong or does not fit the tensors.
        ModelError: the model fails on an input as it was given.
    """
    if loss is not None and not callable(loss):
        raise SpecificationError(f"`loss`: expected a function of what the model returns, not {loss!r}")
    if mode not in ("eval", "train", "as_is"):
        raise SpecificationError(f'`mode`: `{mode}` is none of "eval", "train", "as_is"')
    if not callable(model):
        raise SpecificationError(f"the model is a {type(model).__name__}, which cannot be called")
    if progress is not None and not callable(progress):
        raise SpecificationError(f"`progress`: expected a function (done, planned) -> None, not {progress!r}")
    if factory is not None and not callable(factory):
        raise SpecificationError("`factory`: expected a function dtype -> model")
    whole = _whole(seed)
    if whole is None or not 0 <= whole < 2**64:
        raise SpecificationError(f"`seed`: expected a whole number from 0 to 2**64 - 1, not {seed!r}")
    if budget is None and thorough:
        budget = float("inf")
    options = {
        "samples": _count("samples", samples),
        "transforms": _count("transforms", transforms),
        "budget": _number("budget", budget, DEFAULT_BUDGET),
        "seed": whole,
        "translation_scale": _number("translation_scale", translation_scale, None),
        "levels": _levels(levels),
        "tolerance": None if isinstance(tolerance, Mapping) else _number("tolerance", tolerance, None),
        "tolerances": {name: _number(f"tolerance[{name}]", bound, None) for name, bound in tolerance.items()}
        if isinstance(tolerance, Mapping)
        else {},
        "precision": precision,
        "segments": _segments(segments),
        "domain": None if isinstance(domain, Mapping) else _word("domain", domain),
        "domains": {name: _word(f"domain[{name}]", word) or "open" for name, word in domain.items()}
        if isinstance(domain, Mapping)
        else {},
        "interpolation": _word("interpolation", interpolation) or "bilinear",
        "rapidity": _number("rapidity", rapidity, 2.0),
        "shard": _shard(shard),
        "early_stop": bool(early_stop),
        "batch": "auto" if isinstance(batch, str) and batch == "auto" else str(_count("batch", batch)),
        "randomness": _word("randomness", randomness) or "fixed",
        "noise_layouts": _noise_layouts(noise_layouts),
        "stress": bool(stress),
        "cutoff": _number("cutoff", cutoff, None),
        "layers": bool(layers),
        "hidden_layouts": _hidden_layouts(hidden_layouts),
        "gradients": bool(gradients),
        "loss": loss is not None,
    }
    functions = _representations.functions(representations)
    torch = _trees.torch_module()
    # Tensors made under the caller's inference mode could never require a gradient.
    with contextlib.nullcontext() if torch is None else torch.inference_mode(False):
        if isinstance(group, CustomAction):
            declared = _left_out(in_layouts, out_layouts)
            if translation_scale is not None or segments or up_to or functions:
                raise SpecificationError(
                    "`translation_scale`, `segments`, `up_to` and `representations` are for groups by name"
                )
            source = Samples(inputs, None)
            host = Host(group, source, declared)
            name = repr(group)
        else:
            for option, layouts in (("in_layouts", in_layouts), ("out_layouts", out_layouts)):
                if layouts is _NOT_GIVEN:
                    raise SpecificationError(f"`{option}`: layouts are needed with a group by name")
            declared = _words.with_up_to(_trees.flatten_outputs(out_layouts), up_to)
            source = Samples(inputs, in_layouts)
            host = None
            name = _words.group_text(group)
            _equicheck.check(name, source.declared, declared, functions)
        source.loss = loss
        with adapter_for(model, source, declared, module=module, factory=factory, method=method, mode=mode) as adapter:
            show = _shown(progress, budget)
            return _equicheck.audit(adapter, source, name, source.declared, declared, options, show, host, functions)


def merge(reports: Iterable[Report | str | os.PathLike[str]]) -> Report:
    """Joins the reports of all shards of one audit, or the JSON files they were saved to, into the report of the whole.

    Every figure and the verdict are those of the audit without shards; calls of the model and timings are the sums.

    Raises:
        ValueError: a shard is missing, is given twice, or is of another audit.
    """
    given = [
        report if isinstance(report, Report) else Report.from_json(Path(report).read_text(encoding="utf-8"))
        for report in reports
    ]
    return _equicheck.merge(given)


def _shown(progress: Callable[[int, int], object] | None, budget: float | None) -> Any:
    """Announces the plan, then shows progress as the user asked; None if nobody looks."""
    announce = _LOGGER.isEnabledFor(logging.INFO)
    if progress is None and not announce:
        return None

    announced = False

    def show(done: int, planned: int, expected: float | None) -> None:
        nonlocal announced
        if announce and not announced:
            announced = True
            cost = "" if expected is None else f", about {expected:.3g} s"
            limit = DEFAULT_BUDGET if budget is None else budget
            cut = f"; the budget of {limit:g} s will cut it evenly" if expected and expected > limit else ""
            _LOGGER.info("%d pairs (sample, transformation) planned%s%s", planned, cost, cut)
        if progress is not None:
            progress(done, planned)

    return show


def _shard(shard: tuple[int, int] | None) -> tuple[int, int]:
    if shard is None:
        return (0, 1)
    try:
        index, count = (_whole(part) for part in shard)
    except (TypeError, ValueError):
        index = count = None
    if index is None or count is None or not 0 <= index < count:
        raise SpecificationError(f"`shard`: expected (i, n) with 0 <= i < n, not {shard!r}")
    return (index, count)


def _left_out(in_layouts: Any, out_layouts: Any) -> _trees.Layouts:
    """Outputs that a custom action leaves alone: it says itself how tensors transform, so layouts may only be None."""
    result: _trees.Layouts = []
    for name, layouts in (("in_layouts", in_layouts), ("out_layouts", out_layouts)):
        if layouts is _NOT_GIVEN or layouts is None:
            continue
        entries = _trees.flatten_outputs(layouts)
        if any(layout is not None for _, layout in entries):
            raise SpecificationError(
                f"`{name}`: a CustomAction says itself how tensors transform: leave the layouts out, or give None for "
                "an output that is not audited"
            )
        result = entries
    return [] if out_layouts is _NOT_GIVEN or out_layouts is None else result


def adapter_for(model: Any, source: Samples, declared: _trees.Layouts, **options: Any) -> Adapter:
    torch = _trees.torch_module()
    if torch is not None:
        leaves = [leaf for _, leaf in _trees.leaves(_trees.as_args(source.sample(0)))]
        if (
            isinstance(model, torch.nn.Module)
            or options["module"] is not None
            or any(isinstance(leaf, torch.Tensor) for leaf in leaves)
        ):
            from ._torch import make

            return make(model, source, declared, **options)
    if options["module"] is not None or options["factory"] is not None:
        raise SpecificationError("`module` and `factory` are for torch models")
    name = getattr(model, "__qualname__", type(model).__name__)
    if options["method"] != "forward":
        raise SpecificationError("`method` is for an nn.Module; pass the bound method itself as the model")
    return Adapter(model, source, declared, name)


def _count(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    whole = _whole(value)
    if whole is None or whole < 1:
        raise SpecificationError(f"`{name}`: expected a whole number of at least 1, not {value!r}")
    return whole


def _word(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise SpecificationError(f"`{name}`: expected a word, not {value!r}")


def _segments(segments: Any) -> dict[str, str]:
    if segments is None:
        return {}
    if not isinstance(segments, Mapping) or not all(
        isinstance(part, str) for pair in segments.items() for part in pair
    ):
        raise SpecificationError(
            f'`segments`: expected a dict from permuted axis to input, such as {{"nodes": "batch"}}, not {segments!r}'
        )
    return dict(segments)


def _hidden_layouts(layouts: Any) -> list[tuple[str, str, str, str]]:
    """Module, ``in`` or ``out``, path of the tensor there, layout."""
    if layouts is None:
        return []
    if not isinstance(layouts, Mapping):
        raise SpecificationError(
            f'`hidden_layouts`: expected a dict such as {{"conv1": {{"out": "nodes 8x0e+8x1o"}}}}, not {layouts!r}'
        )
    result = []
    for module, sides in layouts.items():
        if not isinstance(sides, Mapping):
            sides = {"out": sides}
        for key, given in sides.items():
            side, _, leaf = str(key).partition(".")
            if side not in ("in", "out"):
                raise SpecificationError(
                    f'`hidden_layouts`: `{module}` has layouts for "in" and "out" (or "in.x", "out.0"), not for `{key}`'
                )
            tensors = given if isinstance(given, Mapping) else {leaf: given}
            for path, layout in tensors.items():
                text = _words.layout_text(layout)
                if text is None:
                    raise SpecificationError(
                        f"`hidden_layouts`: `{module}` at `{key}`: {layout!r} is no layout, which is a string"
                    )
                result.append((str(module), side, str(path), text))
    return result


def _noise_layouts(layouts: Any) -> str | list[str | None] | None:
    if layouts is None:
        return None
    one = _words.layout_text(layouts)
    if one is not None:
        return one
    if not isinstance(layouts, Sequence):
        raise SpecificationError("`noise_layouts`: expected a list of layouts in the order of the draws, or one string")
    texts = [None if layout is None else _words.layout_text(layout) for layout in layouts]
    for k, (layout, text) in enumerate(zip(layouts, texts, strict=True)):
        if layout is not None and text is None:
            kind = type(layout).__name__
            raise SpecificationError(f"`noise_layouts`: entry {k} is a {kind}, not a string or None")
    return texts


def _whole(value: Any) -> int | None:
    """A Python or numpy integer as an int; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _number(name: str, value: Any, default: float | None) -> float | None:
    if value is None:
        return default
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise SpecificationError(f"`{name}`: expected a number, not {value!r}") from None


def _levels(levels: Any) -> tuple[float, float, float] | None:
    if levels is None:
        return None
    names = ("perfect", "excellent", "approximate")
    if isinstance(levels, Mapping):
        unknown = [key for key in levels if key not in names]
        if unknown:
            raise SpecificationError(f"`levels`: `{unknown[0]}` is none of {', '.join(names)}")
        levels = [levels.get(name, default) for name, default in zip(names, (1e-6, 1e-4, 1e-2), strict=True)]
    if len(levels) != 3:
        raise SpecificationError("`levels`: expected three bounds (perfect, excellent, approximate)")
    return (float(levels[0]), float(levels[1]), float(levels[2]))
