"""Every kind of broken checkpoint has its own error, and it says what to do: quantized files."""

import shutil

import bitsandbytes as bnb
import pytest
import torch

from tests.checkpoints.damaged import change_config, change_tensors, config_of
from workbench import load
from workbench.errors import CheckpointError

WEIGHT = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("bits", "change", "message"),
    [
        (4, lambda t: t.pop(f"{WEIGHT}.absmax"), "absmax is missing"),
        (4, lambda t: t.pop(f"{WEIGHT}.nested_absmax"), "nested_absmax is missing"),
        (4, lambda t: t.pop(f"{WEIGHT}.quant_state.bitsandbytes__nf4"), "quant_state.* is missing"),
        (4, lambda t: t.update({WEIGHT: t[WEIGHT][:-8]}), "expected U8 with"),
        (4, lambda t: t.update({WEIGHT: torch.ones(320, 192)}), "stored as F32"),
        (4, lambda t: t.update({f"{WEIGHT}.foo": torch.ones(3)}), "foo is in .* not in the model"),
        (
            4,
            lambda t: t.update({f"{WEIGHT}.absmax": t[f"{WEIGHT}.absmax"][:-8]}),
            "expected 960 scales",
        ),
        (8, lambda t: t.pop("model.layers.1.mlp.up_proj.SCB"), "SCB is missing"),
        (
            8,
            lambda t: t.update({"model.layers.1.mlp.up_proj.SCB": torch.ones(7)}),
            "7 scales, expected 320",
        ),
        (
            8,
            lambda t: t["model.layers.1.mlp.up_proj.weight_format"].fill_(2),
            "laid out for one kind of GPU",
        ),
    ],
)
def test_a_damaged_quantized_checkpoint_is_refused(bits, change, message, quantized, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(quantized[bits], folder)
    change_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load(folder, device="cpu")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("size", [32, 128])
def test_a_quantized_checkpoint_of_another_block_size_is_refused(size, nested, quantized, tmp_path):
    folder = tmp_path / "blocks"
    shutil.copytree(quantized[4], folder)
    weight = bnb.nn.Params4bit(
        torch.randn(320, 192), False, blocksize=size, compress_statistics=nested, quant_type="nf4"
    ).to("cpu")
    state = {f"{WEIGHT}.{part}": v for part, v in weight.quant_state.as_dict(packed=True).items()}
    change_tensors(folder, lambda t: t.update({WEIGHT: weight.data, **state}))
    with pytest.raises(CheckpointError, match=r"expected 960 scales, one for every 64 numbers"):
        load(folder, device="cpu")


def test_a_quantized_checkpoint_of_another_four_bit_type_is_refused(quantized, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(quantized[4], folder)
    for name, message in (("fp4", "bitsandbytes__fp4 is missing"), ("xyz", "expected nf4 or fp4")):
        settings = config_of(folder)["quantization_config"] | {"bnb_4bit_quant_type": name}
        change_config(folder, quantization_config=settings)
        with pytest.raises(CheckpointError, match=message):
            load(folder, device="cpu")
