"""Presets: built in, a checkpoint's own, and those kept in the notebook's folder."""

import json

import pytest
from transformers import GenerationConfig

import workbench as wb
from workbench.errors import HistoryError
from workbench.prompts.presets import CHECKPOINT, checkpoint_preset


@pytest.fixture
def presets(tmp_path):
    return wb.Presets(path=tmp_path / "pangu-presets.json")


def test_the_models_recommended_settings_are_there(presets):
    assert presets["Pangu Pro MoE"].sampling == wb.Sampling(0.6, 0.95, 50)
    assert presets["openPangu Embedded"].sampling == wb.Sampling(1.0, 0.8, 0)
    assert presets["greedy"].sampling.temperature == 0
    assert presets.table()["origin"].unique().tolist() == ["built in"]
    with pytest.raises(HistoryError, match="no preset 'Greedy'; there are 'greedy'"):
        presets["Greedy"]


def test_a_preset_of_mine_is_there_after_a_restart(presets):
    mine = wb.Sampling(0.9, min_p=0.05, logit_bias={7: -100}, seed=11)
    presets.save(" mine 我 ", mine, about="for <b>poems</b>")
    again = wb.Presets(path=presets.path)
    assert again["mine 我"].sampling == mine
    assert again["mine 我"].about == "for <b>poems</b>"
    assert "mine 我" in presets.path.read_text(encoding="utf-8")
    again.save("mine 我", wb.Sampling.greedy())
    assert presets["mine 我"].sampling == wb.Sampling.greedy()
    presets.remove("mine 我")
    assert "mine 我" not in again


def test_names_that_cannot_be_used_are_refused(presets):
    with pytest.raises(HistoryError, match="'greedy' is built in and cannot be"):
        presets.save("greedy", wb.Sampling())
    with pytest.raises(HistoryError, match="'greedy' is built in and cannot be"):
        presets.remove("greedy")
    with pytest.raises(HistoryError, match="needs a name"):
        presets.save("  ", wb.Sampling())
    with pytest.raises(HistoryError, match="expected workbench"):
        presets.save("mine", {"temperature": 1})
    assert not presets.path.exists()


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"format": 2, "presets": {}}', '{"format": 1, "presets": {"a": {"sampling": {"top": 1}}}}',
     '{"format": 1, "presets": {"a": {"sampling": {"top_p": 3}}}}'],
)  # fmt: skip
def test_a_damaged_file_is_told_and_left_as_it_is(presets, content):
    presets.path.write_text(content)
    with pytest.raises(HistoryError, match="pangu-presets"):
        presets.names()
    with pytest.raises(HistoryError):
        presets.save("mine", wb.Sampling())
    assert presets.path.read_text() == content


@pytest.mark.parametrize(
    "config",
    [
        {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 0.8},
        {"do_sample": True, "min_p": 0.1, "repetition_penalty": 1.1},
        {"temperature": 0.7},
    ],
)
def test_a_checkpoints_own_settings_are_read_as_transformers_reads_them(tmp_path, config):
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    sampling = checkpoint_preset(tmp_path).sampling
    read = GenerationConfig.from_pretrained(tmp_path)
    defaults = GenerationConfig._get_default_generation_params()
    for name in ("top_p", "top_k", "repetition_penalty"):
        expected = getattr(read, name)
        assert getattr(sampling, name) == (defaults[name] if expected is None else expected)
    assert sampling.min_p == (read.min_p or 0)
    assert sampling.temperature == ((read.temperature or 1.0) if read.do_sample else 0)


def test_the_loaded_models_own_settings_are_among_the_presets(moe, tmp_path, monkeypatch):
    presets = wb.Presets(moe, tmp_path / "p.json")
    file = moe.checkpoint.path / "generation_config.json"
    assert (CHECKPOINT in presets) == file.is_file()
    folder = tmp_path / "with"
    folder.mkdir()
    (folder / "generation_config.json").write_text('{"do_sample": true, "top_p": 0.8, "top_k": 0}')

    class Loaded:
        class checkpoint:  # noqa: N801
            path = folder

    assert wb.Presets(Loaded(), tmp_path / "p.json")[CHECKPOINT].sampling == wb.Sampling(
        1.0, 0.8, 0
    )
    (folder / "generation_config.json").write_text('{"do_sample": true, "top_p": 8}')
    with pytest.raises(HistoryError, match=r"generation_config.json cannot be used \(top_p is 8"):
        wb.Presets(Loaded(), tmp_path / "p.json")
