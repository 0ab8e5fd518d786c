"""Fixtures of these tests. Conversion on disk."""

from pathlib import Path

import pytest

from tests.helpers.tiny import make_tiny_checkpoint
from tests.loading.on_disk import ARCHITECTURES
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler


@pytest.fixture(scope="module", params=["PanguProMoE", "PanguEmbedded"])
def source(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / request.param
    return make_tiny_checkpoint(folder, request.param, dtype="bfloat16", shards=2)


@pytest.fixture
def moe_source(tmp_path) -> Path:
    return make_tiny_checkpoint(tmp_path / "moe-source", dtype="bfloat16", shards=2)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Path of a small checkpoint of an architecture, stored in so many bits."""
    made = {}

    def of(which, bits, **overrides):
        key = (which, bits, *overrides.items())
        if key not in made:
            folder = tmp_path_factory.mktemp("stored")
            source = make_tiny_checkpoint(
                folder / "16", ARCHITECTURES[which], dtype="bfloat16", **overrides
            )
            made[key] = source if bits == 16 else quantize_checkpoint(source, folder / "q", bits)
        return made[key]

    return of


@pytest.fixture
def fills(monkeypatch):
    """Names of modules in the order in which they are filled."""
    log, fill = [], Filler.fill

    def logged(self, module_name):
        fill(self, module_name)
        log.append(module_name)

    monkeypatch.setattr(Filler, "fill", logged)
    return log
