"""Random draws inside a torch model: recorded, and replayed with other values. Which values is not decided here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ._model import Draw
from ._tensors import host

#: Operations whose whole result is drawn, by their name without a trailing underscore.
_KINDS = {
    "randn": "normal",
    "randn_like": "normal",
    "normal": "normal",
    "normal_functional": "normal",
    "rand": "uniform",
    "rand_like": "uniform",
    "uniform": "uniform",
    "bernoulli": "bernoulli",
    "randint": "integer",
    "randint_like": "integer",
    "random": "integer",
    "randperm": "permutation",
    "multinomial": "multinomial",
    "poisson": "poisson",
    "binomial": "binomial",
    "exponential": "exponential",
    "geometric": "geometric",
    "cauchy": "cauchy",
    "log_normal": "log-normal",
    "_standard_gamma": "gamma",
    "_sample_dirichlet": "dirichlet",
}


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every random operation below autograd, whatever generator it uses.

    ``replayed``: kinds and values, in order; a draw of another kind or shape than the one whose turn it is stays the
    model's own. Of normal draws ``mean + std z`` the ``z`` are recorded and replayed.
    """

    def __init__(self, replayed: list[tuple[str, torch.Tensor]] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._replayed = replayed
        self.made: list[Draw] = []
        #: Operations that draw inside a kernel that does more.
        self.out_of_reach: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        if name == "native_dropout":
            return self._dropout(func, args, kwargs)
        kind = _KINDS.get(name.rstrip("_"))
        if kind is None:
            return self._fused(name, func, args, kwargs)
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        mean, std = given.get("mean", 0.0), given.get("std", 1.0)
        # The mean may share memory with the result.
        mean, std = (v.clone() if isinstance(v, torch.Tensor) else v for v in (mean, std))
        result = func(*args, **kwargs)
        if kind != "normal" or (isinstance(mean, float) and isinstance(std, float) and (mean, std) == (0.0, 1.0)):
            self._drawn(kind, result)
            return result
        # The result has the right type and place; its values are made again from standard ones.
        standard = torch.empty_like(result).normal_(generator=given.get("generator"))
        self._drawn(kind, standard)
        return result.copy_(standard * std + mean)

    def _drawn(self, kind: str, values: torch.Tensor) -> bool:
        """Records or replaces ``values``; returns whether they are replaced."""
        turn = len(self.made)
        shape = tuple(values.shape)
        gaussian = kind == "normal"
        if self._replayed is None:
            # The model may go on to write to them.
            self.made.append((kind, gaussian, shape, host(values.clone())))
            return False
        self.made.append((kind, gaussian, shape, None))
        if turn >= len(self._replayed):
            return False
        own_kind, own = self._replayed[turn]
        if own_kind != kind or tuple(own.shape) != shape:
            return False
        values.copy_(own)
        return True

    def _dropout(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Dropout with its mask in one kernel, as on CUDA: ``(input, p, train)`` to ``(output, mask)``."""
        output, mask = func(*args, **kwargs)
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        p = given["p"]
        if given.get("train") is False or p == 0:
            return output, mask
        if self._drawn("bernoulli", mask):
            output = given["input"] * mask * (0.0 if p == 1 else 1 / (1 - p))
        return output, mask

    def _fused(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Kernels that may draw: attention draws for its dropout alone."""
        before = _states()
        result = func(*args, **kwargs)
        if any(not torch.equal(a, b) for a, b in zip(before, _states(), strict=True)):
            self.out_of_reach.append(name)
        return result


def _states() -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += torch.cuda.get_rng_state_all()
    return states
