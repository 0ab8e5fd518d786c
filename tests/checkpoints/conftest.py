"""Fixtures of these tests. Ascend's quantized checkpoints mean the numbers that their documentation says."""

import pytest

from tests.checkpoints.ascend_models import LINEARS
from tests.helpers.ascend_files import (
    SCHEMES,
    make_ascend_checkpoint,
)
from tests.helpers.tiny import make_tiny_checkpoint
from workbench.loading.conversion import quantize_checkpoint


@pytest.fixture(scope="module", params=SCHEMES)
def written(request, tmp_path_factory):
    """Ascend's folder, the folder of what is meant, and the scheme; MoE and dense in turn."""
    architecture = list(LINEARS)[list(SCHEMES).index(request.param) % 2]
    folder = tmp_path_factory.mktemp(request.param)
    scheme = SCHEMES[request.param]
    return *make_ascend_checkpoint(folder, architecture, (scheme,)), scheme, architecture


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    source = make_tiny_checkpoint(folder / "source", "PanguEmbedded", dtype="bfloat16")
    return {bits: quantize_checkpoint(source, folder / str(bits), bits) for bits in (4, 8)}
