"""Every kind of broken checkpoint has its own error, and it says what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import make_tiny_checkpoint
from workbench import load
from workbench.checkpoint import open_checkpoint
from workbench.errors import CheckpointError, TokenizerError, WorkbenchError


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def change_config(folder: Path, **values) -> None:
    (folder / "config.json").write_text(json.dumps(config_of(folder) | values))


def change_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


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


def nan(folder):
    name = "model.layers.2.mlp.experts.3.down_proj.weight"
    change_tensors(folder, lambda t: t[name][0].fill_(float("nan")))


def infinity(folder):
    change_tensors(folder, lambda t: t["model.norm.weight"][0].fill_(float("inf")))


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder):
    (folder / "tokenizer.model").unlink()


def foreign_quantization(folder):
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def ascend_quantization(folder):
    (folder / "quant_model_description.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
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
        (no_weights, "holds no weights"),
        (no_tokenizer, r"tokenizer\.model is missing"),
        (foreign_quantization, "gptq"),
        (ascend_quantization, "msmodelslim"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_its_own_words(damage, message, tiny_moe, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_moe, folder)
    damage(folder)
    with pytest.raises(WorkbenchError, match=message) as caught:
        load(folder, bits=16, device="cpu")
    assert isinstance(caught.value, TokenizerError if damage is no_tokenizer else CheckpointError)


def test_a_missing_shard_is_named(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "sharded", shards=3)
    assert len(open_checkpoint(folder).tensors) > 100
    missing_shard(folder)
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "no such name", "nowhere"])
def test_a_path_that_is_not_there_is_refused(name):
    with pytest.raises(CheckpointError, match="is no folder here"):
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
        "with-code names Python code of its own (auto_map); it is ignored and never run."
    ]
    assert "auto_map" not in pangu.config.to_dict()


def test_left_over_tensors_of_the_releases_are_ignored(tiny_dense, tmp_path):
    folder = tmp_path / "with-buffers"
    shutil.copytree(tiny_dense, folder)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(folder, lambda t: t.update({name: torch.ones(16)}))
    assert name not in open_checkpoint(folder).tensors
    load(folder, bits=16, device="cpu")
