"""What vLLM and SGLang record becomes the trace that the model itself would have left."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.errors import TraceError

IDS = [1, 45, 99, 7, 300, 45, 211, 80]
PROMPT = 5


@pytest.fixture(scope="module")
def trace(moe):
    return moe.trace(IDS, attention=None)


@pytest.fixture(scope="module")
def config(tiny_moe):
    return json.loads((tiny_moe / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows(trace):
    """[token, layer, slot] as an engine sends it: best score first, nothing for the last token."""
    order = np.argsort(-trace.routing_weights, axis=-1, kind="stable")
    by_score = np.take_along_axis(trace.selected_experts, order, -1).astype(np.int32)
    return by_score.transpose(1, 0, 2)[:-1].copy()


def npy(array: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, array)
    return base64.b64encode(file.getvalue()).decode()


def int32(array: np.ndarray) -> str:
    return base64.b64encode(array.astype("<i4").tobytes()).decode()


def as_vllm_object(rows, **_):
    answer = SimpleNamespace(token_ids=IDS[PROMPT:], routed_experts=rows)
    return wb.import_vllm, SimpleNamespace(prompt_token_ids=IDS[:PROMPT], outputs=[answer])


def as_vllm_completion(rows, **_):
    choice = {
        "prompt_token_ids": IDS[:PROMPT],
        "token_ids": IDS[PROMPT:],
        "routed_experts": npy(rows.astype(np.uint8)),
    }
    return wb.import_vllm, {"choices": [choice]}


def as_vllm_chat(rows, **_):
    choice = {"token_ids": IDS[PROMPT:], "routed_experts": npy(rows)}
    return wb.import_vllm, {"choices": [choice], "prompt_token_ids": IDS[:PROMPT]}


def as_vllm_in_two_parts(rows, **_):
    choice = {"token_ids": IDS[PROMPT:], "routed_experts": rows[PROMPT:].tolist()}
    output = {"choices": [choice], "prompt_token_ids": IDS[:PROMPT]}
    return wb.import_vllm, output | {"prompt_routed_experts": rows[:PROMPT].tolist()}


def as_vllm_object_in_two_parts(rows, **_):
    answer = SimpleNamespace(token_ids=IDS[PROMPT:], routed_experts=rows[PROMPT:])
    return wb.import_vllm, SimpleNamespace(
        prompt_token_ids=IDS[:PROMPT], prompt_routed_experts=rows[:PROMPT], outputs=[answer]
    )


def as_sglang(rows, **more):
    info = {
        "prompt_tokens": PROMPT,
        "completion_tokens": len(IDS) - PROMPT,
        "routed_experts": int32(rows),
        "input_token_logprobs": [[-1.0, token, None] for token in IDS[:PROMPT]],
        "output_token_logprobs": [[-1.0, token, None] for token in IDS[PROMPT:]],
    }
    return wb.import_sglang, {"text": "…", "meta_info": info | more}


FORMS = [
    as_vllm_object,
    as_vllm_object_in_two_parts,
    as_vllm_completion,
    as_vllm_chat,
    as_vllm_in_two_parts,
    as_sglang,
]


@pytest.mark.parametrize("form", FORMS)
def test_recorded_experts_become_the_model_s_own_trace(form, rows, trace, config, moe):
    read, output = form(rows)
    imported = read(output, config, moe.tokenizer)
    np.testing.assert_array_equal(imported.selected_experts, trace.selected_experts[:, :-1])
    assert imported.selected_experts.dtype == np.uint8
    assert imported.token_ids.tolist() == IDS[:-1]  # the last was sampled and not run
    assert (imported.num_experts, imported.num_groups, imported.num_experts_per_tok) == (12, 4, 4)
    assert imported.prompt_length == PROMPT
    assert imported.pieces == trace.pieces[:-1]
    assert [span["kind"] for span in imported.spans] == ["prompt", "answer"]


@pytest.mark.parametrize("measure", [wb.expert_load, wb.never_used, wb.churn])
def test_measures_of_choices_are_the_same(measure, rows, trace, config, moe):
    imported = wb.import_routed_experts(rows, IDS, config, PROMPT, moe.tokenizer)
    keep = np.arange(len(IDS)) < len(IDS) - 1
    mine, other = measure(imported), measure(trace, where=keep)
    alike = [name for name in mine.columns if name != "weight_share"]
    pd.testing.assert_frame_equal(mine[alike], other[alike])
    pairs = wb.expert_coactivation(imported)
    pd.testing.assert_frame_equal(pairs, wb.expert_coactivation(trace, where=keep))
    decode = wb.expert_load(imported, where="decode")
    assert decode["count"].sum() == 3 * 4 * (len(IDS) - 1 - PROMPT)


def test_what_was_not_recorded_is_named_when_it_is_asked_for(rows, config):
    imported = wb.import_routed_experts(rows, IDS, config, engine="vLLM")
    for name in ("router_logits", "routing_weights", "shared_norm", "query", "top_ids"):
        with pytest.raises(TraceError, match=rf"no {name}, .*imported from vLLM.*pangu.trace"):
            getattr(imported, name)
    for measure, name in (
        (wb.router_entropy, "router_logits"),
        (wb.grouping_tax, "router_logits"),
        (wb.boundary_margin, "router_logits"),
        (wb.shared_share, "shared_norm"),
        (wb.expert_transitions, "routing_weights"),
    ):
        with pytest.raises(TraceError, match=f"no {name}"):
            measure(imported)
    assert wb.expert_load(imported)["weight_share"].isna().all()
    assert wb.router_profile(imported)["measure"].unique().tolist() == ["churn"]
    assert wb.imbalance_score(imported, batch=3, draws=50)["routing"].unique().tolist() == [
        "grouped",
        "uniform",
    ]
    assert len(wb.expert_transitions(imported, "counted")) == 2 * 144
    assert imported.tokens()["logprob"].isna().all()
    assert "12 experts in 4 groups" in repr(imported)
    assert imported.pieces[:2] == ["1", "45"]


def test_an_imported_trace_is_saved_and_loaded(rows, config, tmp_path):
    imported = wb.import_routed_experts(rows, IDS, config, engine="SGLang")
    again = wb.Trace.load(imported.save(tmp_path / "served.trace"))
    np.testing.assert_array_equal(again.selected_experts, imported.selected_experts)
    with pytest.raises(TraceError, match="imported from SGLang"):
        _ = again.router_logits


def test_three_keys_of_a_config_are_enough_to_save_and_load(rows, config, tmp_path):
    names = ("num_experts", "num_experts_per_tok", "num_hidden_layers")
    imported = wb.import_routed_experts(rows, IDS, {name: config[name] for name in names})
    again = wb.Trace.load(imported.save(tmp_path / "served.trace"))
    np.testing.assert_array_equal(again.selected_experts, imported.selected_experts)
    pd.testing.assert_frame_equal(wb.expert_load(again), wb.expert_load(imported))
    with pytest.raises(TraceError, match="a configuration that lacks num_attention_heads"):
        _ = again.num_heads


def test_numpy_arrays_do_in_the_place_of_lists(rows, trace, config):
    answer = SimpleNamespace(token_ids=np.array(IDS[PROMPT:]), routed_experts=rows)
    output = SimpleNamespace(prompt_token_ids=None, outputs=[answer])
    mine = wb.import_vllm(output, config, prompt_ids=np.array(IDS[:PROMPT]))
    as_json = {"choices": [vars(answer) | {"prompt_token_ids": np.array(IDS[:PROMPT])}]}
    info = {"routed_experts": rows, "prompt_tokens": PROMPT}
    theirs = wb.import_sglang({"meta_info": info}, config, token_ids=np.array(IDS))
    for imported in (mine, wb.import_vllm(as_json, config), theirs):
        np.testing.assert_array_equal(imported.selected_experts, trace.selected_experts[:, :-1])
        assert (imported.token_ids.tolist(), imported.prompt_length) == (IDS[:-1], PROMPT)


def test_another_name_for_the_number_of_experts(rows, config):
    other = config | {"n_routed_experts": config["num_experts"]}
    del other["num_experts"]
    assert wb.import_routed_experts(rows, IDS, other).num_experts == 12


def test_rows_that_begin_later_and_layers_without_experts(rows, trace, config, tiny_moe):
    read, output = as_sglang(rows[2:], routed_experts_start_len=2)
    imported = read(output, tiny_moe)  # a folder does as well
    assert imported.token_ids.tolist() == IDS[2:-1]
    assert imported.prompt_length == PROMPT - 2
    np.testing.assert_array_equal(imported.selected_experts, trace.selected_experts[:, 2:-1])
    wide = np.concatenate([np.zeros_like(rows[:, :1]), rows], axis=1)
    with pytest.raises(TraceError, match=r"layer 0, token 0 names an expert twice.*moe_layers"):
        wb.import_routed_experts(wide, IDS, config | {"num_hidden_layers": 4})
    kept = wb.import_routed_experts(
        wide, IDS, config | {"num_hidden_layers": 4}, moe_layers=[1, 2, 3]
    )
    np.testing.assert_array_equal(kept.selected_experts, trace.selected_experts[:, :-1])


def test_a_model_without_groups_keeps_the_engine_s_order(rows, config):
    other = config | {"model_type": "qwen3_moe"}
    imported = wb.import_routed_experts(rows, IDS, other)
    assert imported.num_groups == 1
    np.testing.assert_array_equal(imported.selected_experts, rows.transpose(1, 0, 2))
    assert wb.expert_coactivation(imported)["possible"].all()


def test_what_does_not_fit_is_refused(rows, config):
    def read(array, ids=IDS, values=config, **options):
        return wb.import_routed_experts(array, ids, values, **options)

    two = rows.copy()
    two[3, 1] = [0, 1, 4, 8]  # two of group 0, none of group 3
    with pytest.raises(TraceError, match=r"layer 1, token 3 uses \[2, 1, 1, 0\].*1 of each"):
        read(two)
    filled = rows.copy()
    filled[2, 0, 1] = 255
    with pytest.raises(TraceError, match="layer 0, token 2 names expert 255"):
        read(filled)
    with pytest.raises(TraceError, match="5 rows of experts for 8 tokens"):
        read(rows[:5])
    with pytest.raises(TraceError, match="3 layers and the model 5"):
        read(rows, values=config | {"num_hidden_layers": 5})
    with pytest.raises(TraceError, match="3 experts per token and the model 4"):
        read(rows[..., :3])
    with pytest.raises(TraceError, match="expected integers"):
        read(rows.astype(float))
    with pytest.raises(TraceError, match="not base64"):
        read("…")
    with pytest.raises(TraceError, match="not a multiple of 4 · 3 layers · 4 slots"):
        read(base64.b64encode(b"123456").decode())
    with pytest.raises(TraceError, match=r"damaged \.npy"):
        read(base64.b64encode(b"\x93NUMPY\x01\x00").decode())
    for layers in ([0, 3], [-1], [0.5]):
        with pytest.raises(TraceError, match=r"moe_layers.* a layer of the recording, 0 to 2"):
            read(rows, moe_layers=layers)
    with pytest.raises(TraceError, match="no num_experts"):
        read(rows, values={"num_experts_per_tok": 4, "num_hidden_layers": 3})
    with pytest.raises(TraceError, match="cannot be read as a config"):
        read(rows, values="nowhere")


def test_a_pickle_in_the_place_of_numbers_is_not_executed(config):
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(TraceError, match=r"damaged \.npy"):
        wb.import_routed_experts(base64.b64encode(file.getvalue()).decode(), IDS, config)


def test_outputs_without_experts_or_ids_say_how_to_ask_for_them(rows, config):
    with pytest.raises(TraceError, match="--enable-return-routed-experts"):
        wb.import_vllm({"choices": [{"token_ids": [1], "routed_experts": None}]}, config)
    with pytest.raises(TraceError, match="return_token_ids"):
        wb.import_vllm({"choices": [{"token_ids": None, "routed_experts": npy(rows)}]}, config)
    with pytest.raises(TraceError, match="no choice 1; the output has 1"):
        wb.import_vllm({"choices": [{}]}, config, choice=1)
    with pytest.raises(TraceError, match="return_routed_experts=True"):
        wb.import_sglang({"meta_info": {}}, config)
    with pytest.raises(TraceError, match="no prompt_tokens in its meta_info"):
        wb.import_sglang({"meta_info": {"routed_experts": int32(rows)}}, config, token_ids=IDS)
    read, output = as_sglang(rows, input_token_logprobs=None)
    with pytest.raises(TraceError, match="ids of 3 of its 8 tokens"):
        read(output, config)
    assert read(output, config, token_ids=IDS).num_tokens == 7
