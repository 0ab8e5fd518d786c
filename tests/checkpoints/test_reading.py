"""Every kind of broken checkpoint has its own error, and it says what to do: reading."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load
from workbench.checkpoints import reading
from workbench.checkpoints.shards import read_header
from workbench.errors import CheckpointError


def test_the_router_keeps_the_precision_of_its_file(tmp_path):
    folder = make_tiny_checkpoint(tmp_path, dtype="float32")
    stored = load_file(folder / "model.safetensors")
    for bits in (4, 8):
        mlp = load(folder, bits=bits, device="cpu").model.model.layers[1].mlp
        assert torch.equal(mlp.gate.weight, stored["model.layers.1.mlp.gate.weight"])
        assert torch.equal(mlp.router_scale, stored["model.layers.1.mlp.router_scale"])


def test_what_is_loaded_shares_no_memory_with_the_file(tmp_path):
    folder = make_tiny_checkpoint(tmp_path, "PanguEmbedded", dtype="bfloat16")
    pangu = load(folder, bits=16, device="cpu")
    before = pangu.model.model.norm.weight.clone()
    file = folder / "model.safetensors"
    with file.open("r+b") as stream:
        stream.write(bytes(file.stat().st_size))
    assert torch.equal(pangu.model.model.norm.weight, before)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 30), (1, 1), (), (0, 5)])
def test_a_tensor_is_converted_piece_by_piece_as_it_would_be_whole(
    stored, shape, tmp_path, monkeypatch
):
    monkeypatch.setattr(reading, "PIECE", 32)
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(stored)
    save_file({"other": torch.zeros(3), "numbers": numbers}, tmp_path / "model.safetensors")
    info = read_header(tmp_path / "model.safetensors")["numbers"]
    for wanted in (None, torch.float32, torch.float16, torch.bfloat16):
        read = reading.read_tensor("numbers", info, wanted)
        assert read.dtype == (wanted or stored)
        assert torch.equal(read, numbers.to(read.dtype))
    if numbers.numel() > 32:  # in the last piece
        numbers[-1, -1] = torch.nan
        save_file({"numbers": numbers}, tmp_path / "damaged.safetensors")
        info = read_header(tmp_path / "damaged.safetensors")["numbers"]
        for wanted in (None, torch.float32, torch.bfloat16):
            with pytest.raises(CheckpointError, match=r"numbers in damaged.* NaN or infinity"):
                reading.read_tensor("numbers", info, wanted)
