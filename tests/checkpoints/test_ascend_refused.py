"""Ascend's quantized checkpoints mean the numbers that their documentation says: ascend refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.checkpoints.ascend_models import DESCRIPTION, WEIGHTS, logits_of
from tests.helpers.ascend_files import (
    SCHEMES,
    change_json,
    change_tensors,
    make_ascend_checkpoint,
)
from workbench import load
from workbench.errors import CheckpointError, QuantizationError
from workbench.linear.ascend_linear import AscendLinear
from workbench.loading.conversion import quantize_checkpoint

K = "model.layers.1.self_attn.k_proj"


def described(folder, **kinds):
    change_json(folder / DESCRIPTION, **{key.replace("__", "."): kinds[key] for key in kinds})


def unknown_type(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": "W4A8_DYNAMIC"})


def not_described(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": None})


def no_name_of_a_type(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": 8})


def described_as_float(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": "FLOAT"})


def described_as_quantized(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight": np.ones((40, 120), np.float32)}))


def described_as_another_type(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": "W8A8"})


def no_scale(folder):
    change_tensors(folder, lambda t: t.pop(f"{K}.weight_scale"))


def no_offset(folder):
    change_tensors(folder, lambda t: t.pop(f"{K}.weight_offset"))


def short_scale(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((39, 1), np.float32)}))


def uneven_groups(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((40, 7), np.float32)}))


def other_groups_of_offsets(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((40, 6), np.float32)}))


def half_a_weight(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight": t[f"{K}.weight"][:, :60]}))


def whole_scale(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((40, 1), np.int32)}))


def added_bias_of_another_size(folder):
    name = "model.layers.1.input_layernorm.bias"
    change_tensors(folder, lambda t: t.update({name: np.ones(119, np.float32)}))


def rotation(folder):
    name = "model.layers.1.self_attn.o_proj.heads_rotation"
    change_tensors(folder, lambda t: t.update({name: np.ones((6, 6), np.float32)}))


def left_over(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.scale_bias": np.ones((40, 1), np.float32)}))


def missing_weight(folder):
    change_tensors(folder, lambda t: t.pop(f"{K}.weight"))


def another_layer(folder):
    name = "model.layers.2.self_attn.k_proj"
    for part in ("weight", "weight_scale", "weight_offset"):
        change_tensors(folder, lambda t, p=part: t.update({f"{name}.{p}": t[f"{K}.{p}"]}))
    change_json(folder / DESCRIPTION, **{f"{name}.weight": "W8A16"})


def description_is_no_json(folder):
    (folder / DESCRIPTION).write_text("W8A16")


def two_descriptions(folder):
    (folder / "quant_model_description_w8a16.json").write_text("{}")


def damaged_number(folder):
    change_tensors(folder, lambda t: t[f"{K}.weight_scale"].fill(np.nan))


def truncated(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-10])


def no_file(folder):
    (folder / WEIGHTS).unlink()


def second_file_without_index(folder):
    (folder / "quant_model_weight_w8a8.safetensors").write_bytes((folder / WEIGHTS).read_bytes())


def type_is_a_list(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": ["W8A16"]})


def no_input_scale(tensors):
    tensors[f"{K}.input_scale"][:] = 0


def not_a_number(tensors):
    tensors[f"{K}.deq_scale"] = np.full(40, 0x7FC00000, np.int64)


def more_than_32_bits(tensors):
    tensors[f"{K}.deq_scale"] = tensors[f"{K}.deq_scale"].view(np.int32).astype(np.int64) | 1 << 40


def test_saving_what_stays_as_stored_is_refused_with_what_to_do(tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path)
    with pytest.raises(QuantizationError, match=r"copy that folder; .* workbench quantize"):
        load(ascend, device="cpu").save(tmp_path / "saved")
    load(ascend, bits=4, device="cpu").save(tmp_path / "saved")
    assert load(tmp_path / "saved", device="cpu").bits == 4


def test_a_kind_of_4_bit_is_refused_where_it_would_not_be_used(tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path, "PanguEmbedded", (SCHEMES["w4a16"],))
    with pytest.raises(QuantizationError, match=r"stored, in w4a16, .* Leave quant_type out"):
        load(ascend, device="cpu", quant_type="fp4")
    written = quantize_checkpoint(ascend, tmp_path / "fp4", 4, "fp4")
    assert load(written, device="cpu", quant_type="fp4").bits == 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (type_is_a_list, r"k_proj\.weight .* quantized as \['W8A16'\], which is not supported"),
        (unknown_type, r"k_proj\.weight .* quantized as 'W4A8_DYNAMIC', which is not supported"),
        (no_name_of_a_type, r"k_proj\.weight .* quantized as 8, which is not supported"),
        (not_described, r"does not say how .*k_proj\.weight is stored"),
        (described_as_float, r"k_proj\.weight .* described as FLOAT and stored as I8"),
        (described_as_quantized, r"k_proj\.weight is F32 \[40, 120\]; .* W8A16 has I8 \[40, 120\]"),
        (described_as_another_type, r"k_proj\.deq_scale is missing .* type W8A8 needs weight, deq"),
        (no_scale, r"k_proj\.weight_scale is missing .* type W8A16 needs weight, weight_scale"),
        (no_offset, r"k_proj\.weight_offset is missing"),
        (short_scale, r"k_proj\.weight_scale is F32 \[39, 1\]; .*\[40\] or \[40, 1\]"),
        (uneven_groups, r"k_proj\.weight_scale is F32 \[40, 7\]"),
        (other_groups_of_offsets, r"k_proj\.weight_scale and \.weight_offset .* differ in shape"),
        (half_a_weight, r"k_proj\.weight is I8 \[40, 60\]"),
        (whole_scale, r"k_proj\.weight_scale is I32"),
        (added_bias_of_another_size, r"input_layernorm\.bias has shape \[119\], expected \[120\]"),
        (rotation, r"heads_rotation .* changes activations"),
        (left_over, r"k_proj\.scale_bias is in .* and not in the model"),
        (missing_weight, r"k_proj\.weight is missing"),
        (another_layer, r"model\.layers\.2\..* is in .* and not in the model"),
        (description_is_no_json, "is not JSON"),
        (two_descriptions, "holds 2 descriptions"),
        (damaged_number, r"k_proj\.weight_scale .* NaN or infinity"),
        (truncated, "ends early"),
        (no_file, "contains no weights"),
        (second_file_without_index, "no index that says which belong together"),
    ],
)
@pytest.mark.parametrize("bits", [None, 16])
def test_a_damaged_ascend_checkpoint_is_refused_in_its_own_words(damage, message, bits, tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path)
    damage(ascend)
    with pytest.raises(CheckpointError, match=message):
        load(ascend, bits=bits, device="cpu")


@pytest.mark.parametrize("change", [no_input_scale, not_a_number, more_than_32_bits])
@pytest.mark.parametrize("bits", [None, 4, 16])
def test_static_numbers_that_give_no_weights_are_refused(change, bits, tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path, schemes=(SCHEMES["w8a8-static"],))
    change_tensors(ascend, change)
    with pytest.raises(CheckpointError, match=r"k_proj\.deq_scale .* the file is damaged"):
        load(ascend, bits=bits, device="cpu")


def test_other_names_of_the_files_are_found(tmp_path):
    ascend, meant = make_ascend_checkpoint(tmp_path)
    expected = logits_of(load(meant, bits=16, device="cpu"))

    def same():
        ours = logits_of(load(ascend, bits=16, device="cpu"))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)

    old = ascend / "quant_model_weight_w8a16.safetensors"
    (ascend / WEIGHTS).rename(old)
    (ascend / DESCRIPTION).rename(ascend / "quant_model_description_w8a16.json")
    of_the_source = {"weight_map": {"lm_head.weight": "model-00001-of-00004.safetensors"}}
    (ascend / "model.safetensors.index.json").write_text(json.dumps(of_the_source))
    same()
    part = ascend / "quant_model_weights-00001-of-00001.safetensors"
    old.rename(part)
    index = {"weight_map": {name: part.name for name in load_file(part)}}
    (ascend / "quant_model_weights.safetensors.index.json").write_text(json.dumps(index))
    same()
    description = json.loads((ascend / "quant_model_description_w8a16.json").read_text())
    (ascend / "quant_model_description_w8a16.json").unlink()
    change_json(ascend / "config.json", quantization_config=description, quantize=None)
    same()


def test_an_ascend_module_says_what_it_is():
    assert "kind='W4A16'" in str(AscendLinear(120, 40, "W4A16"))
