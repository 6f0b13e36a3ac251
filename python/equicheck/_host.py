"""What the command asks of Python: functions that return reports, models by name, structures."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from . import _trees, _words
from ._audit import adapter_for
from ._equicheck import Buffer, Report
from ._model import Adapter, Samples


def is_of_user(error: BaseException, trace: TracebackType | None) -> bool:
    """Whether an exception passed through code of the user's: only then a traceback says where to look."""
    if isinstance(error, SyntaxError):
        return True
    own = str(Path(__file__).parent)
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((own, "<frozen", importlib.__file__ or own)):
            return True
        trace = trace.tb_next
    return False


def resolve(target: str, folder: str | Path = "") -> Any:
    """What ``FILE.py:NAME`` or ``package.module:NAME`` names; paths and imports begin at ``folder``."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise ValueError(f"`{target}`: expected FILE.py:NAME or package.module:NAME")
    if place.endswith(".py"):
        path = (Path(folder) / place).resolve()
        if not path.is_file():
            where = f" in `{folder}`, where the audit file is" if str(folder) not in ("", ".") else ""
            raise FileNotFoundError(f"no file `{place}`{where}")
        # Like `python FILE.py`: the file's neighbours can be imported.
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"`{place}` cannot be loaded as a module")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path[:0] = [str(folder), ""]
        module = importlib.import_module(place)
    found = getattr(module, name, None)
    if not callable(found):
        raise AttributeError(f"`{place}` has no function `{name}`")
    return found


def load(target: str) -> Report:
    """Calls the function that ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names; it returns a report."""
    report = resolve(target)()
    if not isinstance(report, Report):
        raise TypeError(f"`{target}` returned {type(report).__name__}, not an equicheck.Report")
    return report


def _is_module(value: Any) -> bool:
    torch = _trees.torch_module()
    return torch is not None and isinstance(value, torch.nn.Module)


def _takes_dtype(function: Any) -> bool:
    """Whether the function takes a dtype: as its one required argument, or as one of that name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters.values() if p.default is inspect.Parameter.empty and p.kind in positional]
    return bool(needed) or "dtype" in parameters


def _with_dtype(function: Any) -> Callable[[Any], Any]:
    """The function of a dtype alone."""
    named = "dtype" in inspect.signature(function).parameters
    return (lambda dtype: function(dtype=dtype)) if named else function


def build(target: str, folder: str | Path, dtype: str = "float32") -> tuple[Any, Callable[[Any], Any] | None]:
    """The model that a target names, in a precision, and the factory for other precisions if it is one.

    The target is an ``nn.Module``, or a function that returns a model, with or without a dtype as its argument.
    """
    found = resolve(target, folder)
    if _is_module(found):
        return found, None
    torch = _trees.torch_module()
    factory = _with_dtype(found) if _takes_dtype(found) else None
    made = found() if factory is None else factory(None if torch is None else getattr(torch, dtype))
    if isinstance(made, Report):
        raise TypeError(f"`{target}` returned a report: `equicheck run {target}` shows it")
    if not callable(made):
        raise TypeError(f"`{target}` returned {type(made).__name__}, which cannot be called: expected a model")
    return made, None if torch is None else factory


def _called(model: Any, method: str) -> Any:
    return getattr(model, method, model) if method != "forward" or _is_module(model) else model


def _parameters(model: Any, method: str) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(_called(model, method)).parameters.values())
    except (TypeError, ValueError):
        return None


def arguments(names: list[str], tensors: list[Any], model: Any, method: str, flat: bool = False) -> _trees.Args:
    """The arguments of a call: by name where the model has such parameters, else by position; ``a.b`` is entry ``b`` of
    the dict ``a``, unless names are ``flat``."""
    tree: dict[str, Any] = {}
    for name, tensor in zip(names, tensors, strict=True):
        *above, last = [name] if flat else name.split(".")
        node = tree
        for step in above:
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                raise TypeError(f"input `{name}` would be inside another input, which is a tensor")
        if last in node:
            raise TypeError(f"input `{name}` is a tensor, and other inputs would be inside it")
        node[last] = tensor
    parameters = _parameters(model, method)
    # What can be given by position alone has a name for its author only.
    known = {p.name for p in parameters or [] if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
    accepts_all = parameters is None or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    by_position = all(re.fullmatch(r"\d+", name) for name in tree) or not (accepts_all or known & set(tree))
    made = _trees.Args(*tree.values()) if by_position else _trees.Args(**tree)
    if not by_position and not accepts_all and not set(tree) <= known:
        wrong = ", ".join(f"`{name}`" for name in tree if name not in known)
        raise TypeError(f"the model has no parameter {wrong}; it has {', '.join(p.name for p in parameters or [])}")
    # The engine knows tensors by their place in the list: the call must take them in the same order.
    called = {id(tensor): name for name, tensor in zip(names, tensors, strict=True)}
    order = [called[id(leaf)] for _, leaf in _trees.leaves(made) if _trees.is_tensor(leaf)]
    if order != names:
        raise TypeError(f"entries of one dict belong one after another: {', '.join(order)}")
    numbers = [name for name in tree if name.isdigit()]
    if len(numbers) == len(tree) and numbers != [str(k) for k in range(len(tree))]:
        raise TypeError(f"inputs that are named by position are listed from 0 on: not {', '.join(numbers)}")
    return made


def model(
    target: str,
    folder: str | Path,
    method: str,
    mode: str,
    dtype: str,
    names: list[str],
    flat: bool,
    sample: Callable[[int], list[Buffer]],
    outputs: _trees.Layouts,
) -> Adapter:
    """The adapter of the model that a target names; ``sample`` gives a sample's tensors in the order of ``names``."""
    made, factory = build(target, folder, dtype)
    torch = _trees.torch_module()
    convert = np.from_dlpack if torch is None else torch.from_dlpack

    def generate(index: int) -> _trees.Args:
        return arguments(names, [convert(buffer) for buffer in sample(index)], made, method, flat)

    source = Samples(generate, None)
    return adapter_for(made, source, outputs, module=None, factory=factory, method=method, mode=mode)


def describe(
    target: str, folder: str | Path, method: str
) -> tuple[str, list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """Name of a model, its parameters without a default, layouts that its library's metadata names, its modules."""
    made, _ = build(target, folder)
    parameters = _parameters(made, method) or []
    plain = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in plain]
    known: dict[str, str] = {}
    for owner in [made, *(getattr(made, "modules", list)() if _is_module(made) else [])]:
        for name in ("irreps_in", "irreps_node_input", "irreps_out", "irreps_node_output", "in_type", "out_type"):
            try:
                layout = _words.layout_text(getattr(owner, name, None))
            except Exception:  # an attribute of that name that means something else
                continue
            if layout:
                known.setdefault(name, layout)
    modules = made.named_modules() if _is_module(made) else []
    layers = [(name, type(module).__name__) for name, module in modules if name]
    return type(made).__name__, needed, list(known.items()), layers


def structures(path: str | Path) -> list[dict[str, Any]]:
    """The arrays of all structures in a file that ASE reads."""
    try:
        import ase.io
    except ImportError:
        raise ImportError("reading structures needs ASE: pip install ase") from None
    found = []
    for atoms in ase.io.read(path, index=":"):
        arrays = {name: np.ascontiguousarray(values) for name, values in atoms.arrays.items()}
        arrays["cell"] = np.array(atoms.cell.array)
        arrays["pbc"] = np.array(atoms.pbc)
        results = {} if atoms.calc is None else atoms.calc.results
        for name, value in (atoms.info | results).items():
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                arrays.setdefault(name, np.ascontiguousarray(array))
        found.append({name: array for name, array in arrays.items() if array.dtype.kind in "biuf"})
    return found
