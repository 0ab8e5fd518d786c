"""Every kind of broken checkpoint has its own error, and it says what to do: checkpoint."""

import errno
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints.damaged import change_config, change_tensors, config_of, infinity, nan
from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load
from workbench.checkpoints import reading
from workbench.checkpoints.checkpoint import open_checkpoint
from workbench.errors import CheckpointError, TokenizerError, WorkbenchError


def no_config(folder):
    (folder / "config.json").unlink()


def not_json(folder):
    (folder / "config.json").write_text("{")


def another_model(folder):
    change_config(folder, model_type="qwen3_moe", architectures=["Qwen3MoeForCausalLM"])


def version_two(folder):
    change_config(folder, model_type="PanguProMoE", architectures=["PanguProMoEV2ForCausalLM"])


def ultra(folder):
    change_config(folder, model_type="pangu_ultra_moe", architectures=["PanguUltraMoEForCausalLM"])


def flash(folder):
    change_config(folder, model_type="openpangu_v2", architectures=["OpenPanguV2ForCausalLM"])


def unknown_key(folder):
    change_config(folder, norm_topk_prob=True)


def missing_shard(folder):
    next(folder.glob("model-00002-of-*.safetensors")).unlink()


def truncated(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def truncated_header(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def missing_tensor(folder):
    change_tensors(folder, lambda t: t.pop("model.layers.1.mlp.router_scale"))


def extra_tensor(folder):
    change_tensors(folder, lambda t: t.update({"model.layers.0.q_norm.weight": torch.ones(3)}))


def wrong_shape(folder):
    name = "model.layers.0.mlp.gate.weight"
    change_tensors(folder, lambda t: t.update({name: torch.ones(5, 7)}))


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder):
    (folder / "tokenizer.model").unlink()


def foreign_quantization(folder):
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def trailing_bytes(folder):
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")


def change_header(folder, change):
    """Change the JSON of the header, keeping its length."""
    file = folder / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    head = len(text).to_bytes(8, "little") + text
    file.write_bytes(head + content[8 + length :])


def shape_and_bytes_differ(folder):
    change_header(folder, lambda h: h["model.norm.weight"].update(shape=[191]))


def offsets_overlap(folder):
    offsets = {"data_offsets": [0, 192 * 4]}
    change_header(folder, lambda h: h["model.norm.weight"].update(offsets))


def negative_offset(folder):
    change_header(folder, lambda h: h["model.norm.weight"].update(data_offsets=[-768, 0]))


def odd_type(folder):
    change_header(folder, lambda h: h["model.norm.weight"].update(dtype=["F32"]))


def eight_bit_floats(folder):
    change_header(folder, lambda h: h["model.norm.weight"].update(dtype="F8_E4M3"))


def config_value(**values):
    return lambda folder: change_config(folder, **values)


def config_without(key):
    def damage(folder):
        values = config_of(folder)
        del values[key]
        (folder / "config.json").write_text(json.dumps(values))

    return damage


def nested_json(folder):
    (folder / "config.json").write_text("[" * 100_000)


def tied_with_another_head(folder):
    change_config(folder, tie_word_embeddings=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (trailing_bytes, "4 bytes after its last tensor"),
        (shape_and_bytes_differ, r"shape \(191,\) of F32 does not take 768 bytes"),
        (offsets_overlap, "overlap or leave a hole"),
        (negative_offset, "not whole numbers"),
        (odd_type, "damaged safetensors header"),
        (eight_bit_floats, "F8_E4M3"),
        (config_value(rope_theta="abc"), "cannot be used|rope_theta='abc'"),
        (config_value(rope_theta=0), "rope_theta=0; expected a number above 0"),
        (config_value(rms_norm_eps=-1), "rms_norm_eps=-1; expected a number above 0"),
        (config_value(rms_norm_eps="1e-5"), "cannot be used|rms_norm_eps"),
        (config_value(bias="yes"), "cannot be used|bias='yes'"),
        (config_value(tie_word_embeddings="no"), "cannot be used|tie_word_embeddings"),
        (config_value(head_dim=31), "cannot be used|head_dim"),
        (config_value(model_type=["PanguProMoE"]), "not a Pangu model|not supported"),
        (config_value(architectures=[1, 2]), "not a Pangu model|not supported"),
        (config_value(quantization_config="x"), "expected an object"),
        (config_value(model_type="pangu_ultra_moe", architectures=None), "Ultra.*not supported"),
        (config_value(model_type="openpangu_v2", architectures=None), r"2\.0.*not supported yet"),
        (config_value(model_type="pangu_alpha", architectures=None), "pangu_alpha.*not supported"),
        (config_without("rope_theta"), "lacks rope_theta"),
        (config_without("num_experts"), "lacks num_experts"),
        (nested_json, "is not JSON"),
        (tied_with_another_head, "lm_head.weight that is not the embeddings"),
        (no_config, r"config\.json is missing"),
        (not_json, "is not JSON"),
        (another_model, "qwen3_moe.*not a Pangu model"),
        (version_two, "V2.*not supported yet"),
        (ultra, "Ultra.*not supported yet"),
        (flash, r"2\.0.*not supported yet"),
        (unknown_key, "norm_topk_prob=True"),
        (truncated, "ends early"),
        (truncated_header, "ends early"),
        (missing_tensor, r"model\.layers\.1\.mlp\.router_scale is missing"),
        (extra_tensor, r"q_norm\.weight is in .* and not in the model"),
        (wrong_shape, r"gate\.weight has shape \[5, 7\], expected \[12, 192\]"),
        (nan, r"experts\.3\.down_proj\.weight .* NaN or infinity"),
        (infinity, r"model\.norm\.weight .* NaN or infinity"),
        (pickled, "pickled weights"),
        (no_weights, "contains no weights"),
        (no_tokenizer, r"tokenizer\.model is missing"),
        (foreign_quantization, "gptq"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_its_own_words(damage, message, tiny_moe, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_moe, folder)
    damage(folder)
    with pytest.raises(WorkbenchError, match=message) as caught:
        load(folder, bits=16, device="cpu")
    assert isinstance(caught.value, TokenizerError if damage is no_tokenizer else CheckpointError)


@pytest.mark.parametrize("text", ["[]", "{bad", '{"max_new_tokens": "many", "num_beams": {}}'])
def test_settings_of_generation_that_cannot_be_used_are_named(text, tiny_dense, tmp_path):
    folder = tmp_path / "settings"
    shutil.copytree(tiny_dense, folder)
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        load(folder, bits=16, device="cpu")


def test_a_disk_that_cannot_be_read_is_told_with_the_file(tiny_dense, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(reading, "_read_into", broken)
    with pytest.raises(OSError, match=r"Input/output error: .*model\.safetensors"):
        load(tiny_dense, bits=16, device="cpu")


def test_a_missing_shard_is_named(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "sharded", shards=3)
    assert len(open_checkpoint(folder).tensors) > 100
    missing_shard(folder)
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "no such name", "nowhere"])
def test_a_path_that_is_not_there_is_refused(name):
    with pytest.raises(CheckpointError, match="is not a folder here"):
        open_checkpoint(name)


def test_a_repository_that_cannot_be_fetched_is_refused(monkeypatch):
    import huggingface_hub

    def refuse(*_args, **_kwargs):
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match="could not be fetched"):
        open_checkpoint("nobody/no-such-pangu")


def test_code_of_the_checkpoint_is_named_and_never_run(tiny_moe, tmp_path, caplog):
    folder = tmp_path / "with-code"
    shutil.copytree(tiny_moe, folder)
    change_config(folder, auto_map={"AutoConfig": "remote.Config"})
    (folder / "remote.py").write_text("raise SystemExit('this code was run')")
    pangu = load(folder, bits=16, device="cpu")
    assert [r.getMessage() for r in caplog.records if r.name == "workbench"] == [
        "with-code refers to its own Python code (auto_map), which is ignored and never run."
    ]
    assert "auto_map" not in pangu.config.to_dict()


def test_left_over_tensors_of_the_releases_are_ignored(tiny_dense, tmp_path):
    folder = tmp_path / "with-buffers"
    shutil.copytree(tiny_dense, folder)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(folder, lambda t: t.update({name: torch.ones(16)}))
    assert name not in open_checkpoint(folder).tensors
    load(folder, bits=16, device="cpu")


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "sharded", shards=2)
    first, second = (folder / f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    tensors = load_file(second)
    tensors |= {name: value for name, value in list(load_file(first).items())[:1]}
    save_file(tensors, second)
    with pytest.raises(CheckpointError, match="expected it once"):
        open_checkpoint(folder)


def test_an_index_that_names_the_wrong_shard_or_a_file_outside_is_refused(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "sharded", shards=2)
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    names = list(index["weight_map"])
    first, last = (index["weight_map"][name] for name in (names[0], names[-1]))
    assert first != last
    index["weight_map"][names[0]] = last
    file.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=rf"{names[0]} is missing from {last}"):
        open_checkpoint(folder)
    index["weight_map"][names[0]] = "../elsewhere.safetensors"
    file.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"a \.safetensors file of the same folder"):
        open_checkpoint(folder)
