"""Checkpoints and models that many tests share, made once a session."""

from pathlib import Path

import pytest

from tests.helpers.tiny import make_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "moe")


@pytest.fixture(scope="session")
def tiny_dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "dense", "PanguEmbedded")


@pytest.fixture(scope="session")
def moe(tiny_moe: Path):
    from workbench import load

    return load(tiny_moe, bits=16, device="cpu")


@pytest.fixture(scope="session")
def dense(tiny_dense: Path):
    from workbench import load

    return load(tiny_dense, bits=16, device="cpu")
