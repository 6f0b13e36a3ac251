"""The networks that declare nothing are what they say, by an action of our own; no engine takes part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from hidden import truth
from hidden_networks import HEALTHY


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_is_equivariant_to_rounding(name: str) -> None:
    entry = HEALTHY[name]
    assert truth.error(entry, entry.build(0)) < entry.tolerance


def test_the_catalogue_is_wide() -> None:
    assert len(HEALTHY) >= 40
    assert {entry.kind for entry in HEALTHY.values()} == {"point-cloud", "graph", "set", "image", "Lorentz"}
    for entry in HEALTHY.values():
        model = entry.build(0)
        assert any(isinstance(module, nn.Module) for module in model.children())
