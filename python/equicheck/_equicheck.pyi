"""The engine, compiled from Rust: reports, errors, and what the package calls underneath."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Break",
    "Buffer",
    "Comparison",
    "Element",
    "EquicheckError",
    "EquicheckWarning",
    "Finding",
    "ModelError",
    "OutputReport",
    "Report",
    "SpecificationError",
    "__version__",
    "audit",
    "check",
    "command",
    "compare",
    "describe",
    "merge",
]

__version__: str

class EquicheckError(Exception):
    """Base of equicheck's errors: the audit could not be run."""

class SpecificationError(EquicheckError):
    """The group, a layout or an option is wrong, or does not fit the tensors."""

class ModelError(EquicheckError):
    """The model fails on an input as it was given."""

class EquicheckWarning(UserWarning):
    """Something that a person should look at."""

@final
class Element:
    """An element of the group, for a representation by a function of it.

    Actions are active. On space it takes ``v`` to ``matrix @ v + translation``, along a permuted axis it acts as
    ``x'[i] = x[p[i]]``; what the group does not hold is the identity. ``str`` says it in words.
    """

    @property
    def matrix(self) -> NDArray[np.float64] | None:
        """The matrix on space, shape (n, n); None where the group does not act on space.

        Lorentz transformations act on (t, x, y, z).
        """
    @property
    def translation(self) -> NDArray[np.float64] | None:
        """The translation, shape (n,), in the inputs' unit or in pixels; None where there is no space."""
    def permutation(self, axis: str) -> NDArray[np.int64]:
        """The permutation ``p`` along an axis of its length, acting as ``x'[i] = x[p[i]]``.

        As a matrix that is ``np.eye(len(p))[p]``.

        Raises:
            KeyError: the group does not permute this axis.
        """
    @property
    def determinant(self) -> float:
        """Determinant of ``matrix``; exactly 1 or -1 where the group preserves a metric."""
    @property
    def sign(self) -> float:
        """The element of ``Z2``: 1 or -1."""
    @property
    def phase(self) -> float:
        """The angle of ``U(1)``, in radian."""
    @property
    def scale(self) -> float:
        """The factor of a dilation, positive."""
    def shift(self, axis: str) -> float:
        """The shift along an axis of a grid, ``T(1) @ axis``, in pixels towards higher indices."""
    def lie_algebra(self) -> NDArray[np.float64] | None:
        """The logarithm of ``matrix`` without its reflections.

        The angle for n = 2, the rotation vector for n = 3, one angle per plane (i, j), i < j, for n > 3, rotation
        vector and rapidity vector for Lorentz groups; None for other matrices and where there is no space.
        """
    def compose(self, other: Element) -> Element:
        """The product: first ``other`` acts, then this one; ``g @ h`` is the same.

        Raises:
            ValueError: the two belong to different groups, or to axes of different lengths.
        """
    def __matmul__(self, other: Element, /) -> Element: ...
    def __rmatmul__(self, other: Element, /) -> Element: ...
    def inverse(self) -> Element:
        """The inverse."""
    @property
    def is_identity(self) -> bool:
        """Whether it is the identity, exactly."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Finding:
    """One thing that is wrong."""

    @property
    def mode(self) -> str:
        """Stable id of the failure mode, such as ``parity``."""
    @property
    def location(self) -> str:
        """Where: a module path, code between two of its calls, an output, an input."""
    @property
    def class_(self) -> str | None:
        """Class of that module."""
    @property
    def source(self) -> str | None:
        """``file.py:line`` of that class's forward."""
    @property
    def confidence(self) -> Literal["low", "medium", "high"]:
        """How sure."""
    @property
    def severity(self) -> Literal["High", "Medium", "Low"]:
        """High: the symmetry is broken; Medium: look at it; Low: worth knowing."""
    @property
    def message(self) -> str:
        """What was seen, in one sentence."""
    @property
    def evidence(self) -> list[str]:
        """The figures that support it."""
    @property
    def effects(self) -> list[str]:
        """What follows from it elsewhere: outputs that are wrong because of it."""
    @property
    def fix(self) -> str:
        """What to do about it."""
    @property
    def code(self) -> str | None:
        """The same in code, for the library in use, as Markdown."""
    @property
    def verify(self) -> str:
        """How to see that the fix has worked."""

@final
class OutputReport:
    """Everything that was found about one output."""

    @property
    def name(self) -> str:
        """Path of the output, such as ``aux.0.mean``; ``output`` for a single tensor."""
    @property
    def layout(self) -> str:
        """Its layout, in canonical form."""
    @property
    def symmetry_type(self) -> Literal["Invariant", "Equivariant"]:
        """Whether any factor of the group moves it."""
    @property
    def classification(
        self,
    ) -> Literal["exact", "consistent", "approximate", "broken", "undetermined"]:
        """What the evidence says."""
    @property
    def verdict(self) -> Literal["PASS", "FAIL", "NEEDS_ATTENTION"]:
        """The verdict that follows from the class."""
    @property
    def level(self) -> Literal["perfect", "excellent", "approximate", "broken"]:
        """Band of the raw error."""
    @property
    def reason(self) -> str:
        """Why this class and verdict, in one sentence."""
    @property
    def mean_absolute(self) -> float:
        """Mean norm of ``f(T x) - T' f(x)`` over the random elements, in the output's unit."""
    @property
    def max_absolute(self) -> float:
        """The largest of these norms, planned elements included."""
    @property
    def mean_relative(self) -> float:
        """Mean error of the worst block relative to its size, over the random elements."""
    @property
    def max_relative(self) -> float:
        """The largest of these errors, planned elements included."""
    @property
    def scaled_max(self) -> float:
        """Largest error relative to the output's scale over the run; the level is read off it."""
    @property
    def scale(self) -> float:
        """Median norm of the output over the base inputs."""
    @property
    def row_quantile(self) -> float | None:
        """Rows (nodes, pixels) apart: largest 99.9 % quantile of their relative errors; None without rows."""
    @property
    def pulled_back(self) -> float | None:
        """Largest ``||T'^-1 f(Tx) - f(x)||``, relative, where T' changes lengths; None elsewhere."""
    @property
    def violation(self) -> float:
        """What remains after rounding is accounted for, relative."""
    @property
    def noise(self) -> float:
        """Measured noise floor of the precision under audit, relative."""
    @property
    def tolerance(self) -> float | None:
        """The tolerance that was given for this output."""
    @property
    def absolute(self) -> dict[str, float]:
        """Absolute error: ``mean standard_deviation median quantile_95 max``."""
    @property
    def relative(self) -> dict[str, float]:
        """The same of the relative error."""
    @property
    def worst(self) -> dict[str, Any] | None:
        """The largest error: ``sample index element factor kind block``."""
    @property
    def factors(self) -> list[dict[str, Any]]:
        """Errors by factor of the group, alone and jointly."""
    @property
    def planned(self) -> list[dict[str, Any]]:
        """Errors under planned elements, by kind."""
    @property
    def float64(self) -> dict[str, Any]:
        """The double-precision comparison.

        ``status`` is ``available``, ``unavailable``, ``void`` or ``not_requested``.
        """
    @property
    def repeatability(self) -> dict[str, float]:
        """Differences of repeated calls: ``seeded``, ``unseeded``, ``drift``."""
    @property
    def vacuity(self) -> list[dict[str, Any]]:
        """Sensitivity and discrimination, by factor of the group."""
    @property
    def distribution(self) -> dict[str, Any] | None:
        """The comparison of laws, for a random output with ``randomness="distribution"``.

        ``draws significance spread detectable detectable_relative tests second_look``; ``tests`` are dicts with
        ``sample element factor p_value adjusted_p_value shift equivalent_shift``.
        """
    @property
    def interpolation(self) -> dict[str, Any] | None:
        """The control for elements that interpolate a grid; None where there are none.

        Keys: ``model`` and ``control`` (largest relative errors of the model and of a reference that is equivariant in
        the continuum, on smooth inputs known between pixels), ``pairs``, ``receptive_field`` (pixels to each side), and
        ``note`` where nothing could be judged.
        """

@final
class Break:
    """Where symmetry is lost."""

    @property
    def location(self) -> str:
        """The module as in ``named_modules()``, or ``(root)``; for code, the module whose forward holds it."""
    @property
    def call(self) -> int:
        """Which call of it, from 0."""
    @property
    def class_(self) -> str:
        """Class of the module, with the module that defines it."""
    @property
    def kind(self) -> str:
        """``module``, ``functional`` (code of a module's own forward) or ``bracket`` (somewhere between two calls)."""
    @property
    def between(self) -> tuple[str, str] | None:
        """The calls before and after, for what is no module."""
    @property
    def source(self) -> str | None:
        """``file.py:line`` of the forward of its class."""
    @property
    def own_error(self) -> float | None:
        """Relative error that arises there."""
    @property
    def remaining(self) -> float:
        """Share of the model's error that is left when it is mended."""
    @property
    def factor(self) -> str:
        """The part of the group that breaks."""
    @property
    def confidence(self) -> str:
        """``high``: to mend it, and nothing else, mends the model; ``medium``; ``low``."""

@final
class Report:
    """What an audit found. ``print(report)`` shows it whole."""

    @property
    def verdict(self) -> Literal["PASS", "FAIL", "NEEDS_ATTENTION"]:
        """The worst verdict over outputs and findings."""
    @property
    def exit_status(self) -> int:
        """0 PASS, 1 FAIL, 2 NEEDS_ATTENTION."""
    @property
    def group(self) -> str:
        """The group, in canonical form."""
    @property
    def outputs(self) -> dict[str, OutputReport]:
        """Results by output path."""
    @property
    def not_audited(self) -> list[str]:
        """Outputs that were returned and not audited."""
    @property
    def composition(self) -> dict[str, Any]:
        """Whether entries of a batch depend on each other.

        ``status`` is ``ran`` (with ``rows``: ``kind output batches max_relative max_relative_f64 noise outcome
        reason``) or ``not_run`` (with ``reason``).
        """
    @property
    def stress(self) -> dict[str, Any]:
        """The symmetry on stress inputs.

        ``status`` is ``ran`` (with ``rows``: ``kind sample output elements max_relative max_relative_f64 noise outcome
        reason``) or ``not_run`` (with ``reason``).
        """
    @property
    def layers(self) -> dict[str, Any]:
        """The layer-wise stage.

        ``status`` is ``ran`` (with ``rows``, one per module call: ``location call class source kind inputs outputs
        own_error propagated_error noise verdict note``, ``breaks``, ``probes``, ``precision``, ``skipped``, ``notes``)
        or ``not_run`` (with ``reason``).
        """
    @property
    def first_break(self) -> Break | None:
        """Where symmetry is first lost; None where nothing was found."""
    @property
    def breaks(self) -> list[Break]:
        """All places that are needed to explain the error, in the order of the pass."""
    @property
    def inquiries(self) -> dict[str, Any]:
        """What was asked of the model because outputs break: other declarations, smaller groups, the other mode."""
    @property
    def gradients(self) -> dict[str, Any]:
        """Whether gradients transform as the symmetry says, and are derivatives.

        ``status`` is ``"ran"`` or ``"not_run"`` (then with ``reason``); ``rows`` are dicts with ``check``
        (``"input"``, ``"parameter"``, ``"derivative"``, ...), ``mode``, ``output``, ``target`` (the input or
        parameter), ``pairs``, ``max_relative``, ``max_relative_f64``, ``noise``, ``outcome`` (``"holds"``,
        ``"violated"``, ...), ``verdict`` (None where none hangs on the row) and ``reason``.
        """
    @property
    def findings(self) -> list[Finding]:
        """What is wrong, the most severe first."""
    @property
    def recommendations(self) -> list[str]:
        """What to do, the most urgent first."""
    @property
    def quality(self) -> dict[str, Any] | None:
        """How good the audit was, from 1 to 5, whatever the model is.

        ``overall``, and ``dimensions`` with ``name weight score raise`` (what would raise it, most gain first). None
        in a report that an earlier version wrote.
        """
    @property
    def notes(self) -> list[str]:
        """Remarks that are neither findings nor figures."""
    @property
    def transforms(self) -> list[dict[str, Any]]:
        """How each tensor is transformed.

        Keys: ``role``, ``name``, ``layout``, ``shape``, ``dtype``, ``description``.
        """
    @property
    def plan(self) -> dict[str, Any]:
        """What was executed: seed, samples, transformations, pairs, calls."""
    @property
    def environment(self) -> dict[str, str]:
        """Versions, threads, platform."""
    @property
    def timings(self) -> dict[str, float] | None:
        """Seconds ``total`` and inside the ``model``; None if a file did not hold them."""
    def replay(self, output: str | None = None) -> dict[str, Any] | None:
        """The pair with the largest error of an output (or of the worst one), to compute with.

        A dict of ``output``, ``sample`` (its index), ``element`` (in words), ``inputs`` and ``transformed`` (x and
        T x: arrays by path), ``expected`` (T' f(x), float64) and ``returned`` (f(T x), float64; None where the model
        raises). Complex outputs have a last axis of real and imaginary part; bfloat16 inputs come as float32. None
        where no error was seen, or in a report that was read from a file or merged.

        Raises:
            ValueError: no such output was audited.
        """
    def to_text(self) -> str:
        """The text form."""
    def to_markdown(self) -> str:
        """The Markdown form."""
    def to_json(self, *, timings: bool = False) -> str:
        """The JSON form; equal plans give equal bytes unless ``timings`` are asked for."""
    @staticmethod
    def from_json(text: str) -> Report:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: it is no report, or one of a newer version.
        """
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report; the ending decides the form: ``.json``, ``.txt`` or ``.md``.

        Raises:
            ValueError: another ending.
            OSError: the file cannot be written.
        """
    def raise_for_failure(self, on: Literal["FAIL", "NEEDS_ATTENTION"] = "FAIL") -> None:
        """Makes a test of it. A NEEDS_ATTENTION that does not raise issues an ``EquicheckWarning``.

        Raises:
            AssertionError: the verdict is ``on`` or worse; the message is the report.
        """
    def _repr_markdown_(self) -> str: ...

@final
class Comparison:
    """What became of a model between two audits. ``print(comparison)`` shows it whole.

    Parts are dicts and lists as in the JSON form; what changed has ``before`` and ``after``, and ``trend`` is
    ``better``, ``same`` or ``worse``.
    """

    @property
    def regressed(self) -> bool:
        """Whether a verdict got worse, or a violation grew beyond what noise explains."""
    @property
    def regressions(self) -> list[str]:
        """What got worse, one sentence each."""
    @property
    def verdict(self) -> dict[str, Literal["PASS", "FAIL", "NEEDS_ATTENTION"]]:
        """The verdict ``before`` and ``after``."""
    @property
    def outputs(self) -> list[dict[str, Any]]:
        """By output: ``name violation explained level classification verdict trend``."""
    @property
    def layers(self) -> dict[str, Any]:
        """By module call.

        ``rows`` with ``location call class own_error propagated_error explained verdict trend``, names that are
        ``only_before`` and ``only_after``, and why it was ``not_compared``, if it was not.
        """
    @property
    def gradients(self) -> dict[str, Any]:
        """By row of the gradient stage, as ``layers``.

        ``rows`` with ``check mode output target error explained outcome verdict trend``.
        """
    @property
    def findings(self) -> dict[str, list[dict[str, Any]]]:
        """Findings that ``went``, ``stayed`` and ``came``."""
    @property
    def notes(self) -> list[str]:
        """What to know when reading the figures."""
    def to_text(self) -> str:
        """The text form."""
    def to_markdown(self) -> str:
        """The Markdown form."""
    def to_json(self) -> str:
        """The JSON form."""
    def _repr_markdown_(self) -> str: ...

@final
class Buffer:
    """A tensor of the engine in host memory; ``torch.from_dlpack(buffer)`` takes it over, once."""

    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __dlpack__(self, **kwargs: Any) -> Any: ...

class _Adapter(Protocol):
    """What the engine calls of a model."""

    def info(self) -> dict[str, Any]: ...
    def environment(self) -> dict[str, str]: ...
    def forward(
        self, sample: int, buffers: list[Buffer], reset_generators: bool, restore_state: bool
    ) -> tuple[list[tuple[str, bool, Any | None]], list[Any]]: ...
    def check_draws(self) -> None: ...
    def forward_with_draws(
        self,
        sample: int,
        buffers: list[Buffer],
        reset_generators: bool,
        restore_state: bool,
        replayed: list[tuple[str, Buffer]] | None,
    ) -> tuple[
        list[tuple[str, bool, Any | None]], list[Any], list[tuple[str, bool, tuple[int, ...], Any]], list[str]
    ]: ...
    def double(self) -> _Adapter: ...
    def state(self) -> list[tuple[str, bool, Any]]: ...
    def with_state(self, values: list[tuple[int, Buffer]]) -> _Adapter: ...

class _Samples(Protocol):
    """What the engine calls of the test samples."""

    def count(self) -> int | None: ...
    def tensors(self, index: int) -> list[Any]: ...

class _Action(Protocol):
    """What the engine calls of a custom action; an element is its kind and up to two keys."""

    doing: str

    def info(self) -> tuple[str, bool, bool, bool]: ...
    def describe(self, element: tuple[str, int, int]) -> str: ...
    def act_on_inputs(self, element: tuple[str, int, int], sample: int, buffers: list[Buffer]) -> list[Any]: ...
    def act_on_outputs(self, element: tuple[str, int, int], names: list[str], buffers: list[Buffer]) -> list[Any]: ...

def check(
    group: str,
    inputs: Sequence[tuple[str, str | None]],
    outputs: Sequence[tuple[str, str | None]],
    representations: dict[str, Callable[[Element], Any]],
) -> None:
    """Parses a group and layouts without running anything.

    Raises:
        SpecificationError: one of them is wrong.
    """

def describe(
    group: str,
    layout: str,
    shape: Sequence[int],
    domain: str | None,
    representations: dict[str, Callable[[Element], Any]],
) -> str:
    """Says in words how a tensor is transformed; see :func:`equicheck.describe`.

    Raises:
        SpecificationError: the group or layout is wrong, or the layout does not fit the shape.
    """

def audit(
    adapter: _Adapter,
    samples: _Samples,
    group: str,
    inputs: Sequence[tuple[str, str | None]],
    outputs: Sequence[tuple[str, str | None]],
    options: dict[str, Any],
    progress: Callable[[int, int, float | None], object] | None,
    custom: _Action | None,
    representations: dict[str, Callable[[Element], Any]],
) -> Report:
    """Runs an audit; see :func:`equicheck.audit`."""

def merge(reports: Sequence[Report]) -> Report:
    """Joins the reports of all shards of one audit; see :func:`equicheck.merge`."""

def compare(before: Report, after: Report) -> Comparison:
    """Compares an audit with an earlier one: did a change help?

    A regression is a verdict that got worse, or a violation that grew by more than the noise floors of both reports
    explain.

    Raises:
        ValueError: the two audits did not ask the same of the model.
    """

def command(arguments: Sequence[str], host: Any) -> int:
    """Runs the command line, program name first, and returns its exit status; ``host`` is ``equicheck._host``."""
