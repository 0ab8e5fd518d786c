"""What is recorded equals the float64 reference, and nothing stays behind."""

import threading

import numpy as np
import pytest
import torch

from tests.helpers.tiny import make_tiny_checkpoint
from tests.reference.pangu_numpy import run
from workbench.errors import TokenizerError, TraceError
from workbench.generation.sampling import Sampling
from workbench.tracing import capture

IDS = [1, 45, 99, 7, 300, 45, 211]


def hooks_of(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_routing_equals_the_reference(moe, tiny_moe):
    trace, expected = moe.trace(IDS), run(tiny_moe, IDS)
    np.testing.assert_array_equal(trace.selected_experts, expected["selected_experts"])
    for name in ("router_logits", "routing_weights", "routed_norm", "shared_norm"):
        np.testing.assert_allclose(getattr(trace, name), expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("which", ["moe", "dense"])
def test_queries_keys_and_attention_equal_the_reference(which, request):
    pangu = request.getfixturevalue(which)
    trace = pangu.trace(IDS)
    expected = run(request.getfixturevalue(f"tiny_{which}"), IDS)
    np.testing.assert_allclose(trace.query, expected["query"], atol=1e-4)
    np.testing.assert_allclose(trace.key, expected["key"], atol=1e-4)
    for layer in range(3):
        for head in range(6):
            attention = trace.attention(layer, head)
            np.testing.assert_allclose(attention, expected["attention"][layer, head], atol=1e-4)
            np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-6)
            assert not np.triu(attention, 1).any()


@pytest.mark.parametrize("which", ["moe", "dense"])
def test_attention_equals_transformers_eager_attention(which, request):
    pangu = request.getfixturevalue(which)
    trace, model = pangu.trace(IDS), pangu.model
    model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            maps = model(torch.tensor([IDS]), output_attentions=True).attentions
    finally:
        model.set_attn_implementation("sdpa")
    for layer in range(3):
        for head in range(6):
            np.testing.assert_allclose(
                trace.attention(layer, head), maps[layer][0, head].numpy(), atol=1e-3
            )


def test_some_rows_equal_the_rows_of_the_whole(moe):
    trace = moe.trace(IDS, attention=[2])
    np.testing.assert_allclose(
        trace.attention(2, 4, rows=[5, -1]), trace.attention(2, 4)[[5, 6]], atol=1e-6
    )
    with pytest.raises(TraceError, match=r"layer 1 was not recorded.*attention=\[1\]"):
        trace.attention(1, 0)
    with pytest.raises(TraceError, match="head 6 is out of range"):
        trace.attention(2, 6)


def test_predictions_are_those_of_the_model(dense):
    trace = dense.trace(IDS, top_k=4)
    with torch.inference_mode():
        logprobs = dense.model(torch.tensor([IDS])).logits[0].float().log_softmax(-1)
    top = logprobs.topk(4)
    np.testing.assert_array_equal(trace.top_ids, top.indices)
    np.testing.assert_allclose(trace.top_logprobs, top.values, atol=1e-5)
    following = logprobs[:-1].gather(-1, torch.tensor(IDS[1:])[:, None])[:, 0]
    np.testing.assert_allclose(trace.chosen_logprobs[:-1], following, atol=1e-5)
    assert np.isnan(trace.chosen_logprobs[-1])
    assert trace.alternative_pieces[2] == dense.tokenizer.pieces(top.indices[2].tolist())


@pytest.mark.parametrize("which", ["moe", "dense"])
def test_a_recorded_generation_equals_reading_its_tokens(which, request):
    pangu = request.getfixturevalue(which)
    generated = pangu.trace(IDS, max_new_tokens=5)
    greedy = pangu.generate(IDS, 5, Sampling(temperature=0))
    assert tuple(generated.token_ids) == greedy.token_ids
    assert generated.prompt_length == len(IDS)
    assert generated.phase.count("generated") == generated.num_tokens - len(IDS)
    read = pangu.trace(generated.token_ids.tolist())
    assert sorted(read.arrays) == sorted(generated.arrays)
    for name, array in read.arrays.items():
        np.testing.assert_allclose(generated.arrays[name], array, rtol=1e-3, atol=1e-4)


def test_every_token_uses_one_expert_of_each_group(moe):
    trace = moe.trace("To be, or not to be: 床前明月光")
    groups = trace.selected_experts.astype(int) // 3
    assert (groups == np.arange(4)).all()
    assert trace.num_groups == trace.num_experts_per_tok == 4


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_hooks_are_gone_after_a_trace_and_after_an_interruption(moe, error):
    before = hooks_of(moe.model)
    moe.trace(IDS)
    assert hooks_of(moe.model) == before

    def interrupt(*_):
        assert hooks_of(moe.model) > before + 1
        raise error

    handle = moe.model.model.layers[1].register_forward_hook(interrupt)
    with pytest.raises(error):
        moe.trace(IDS)
    handle.remove()
    assert hooks_of(moe.model) == before


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_model_is_traced_the_same_way(bits, tiny_moe):
    from workbench import load

    pangu = load(tiny_moe, bits=bits, device="cpu")
    trace = pangu.trace(IDS, max_new_tokens=2)
    assert trace.meta["receipt"]["bits"] == bits
    assert trace.query.dtype == np.float16
    assert trace.attention(1, 3).shape == (9, 9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": [7]}, "there is no layer 7"),
        ({"attention": "some"}, 'expected "all"'),
        ({"top_k": 0}, "top_k is 0"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"prompt": [5] * 600}, "context is 512"),
    ],
)
def test_impossible_wishes_are_refused(settings, message, moe):
    with pytest.raises(TraceError, match=message):
        moe.trace(**{"prompt": IDS, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": 1},
        {"attention": True},
        {"attention": ["a"]},
        {"attention": [1.5]},
        {"top_k": "3"},
        {"top_k": 2.5},
        {"top_k": None},
        {"max_new_tokens": None},
        {"max_new_tokens": "5"},
        {"max_new_tokens": 2.5},
    ],
    ids=repr,
)
def test_wishes_of_another_kind_are_refused(settings, moe):
    with pytest.raises(TraceError, match="expected"):
        moe.trace(IDS, **settings)


@pytest.mark.parametrize(
    "ids",
    [
        np.array(IDS, np.int32),
        torch.tensor(IDS),
        list(np.array(IDS)),
        list(torch.tensor(IDS)),
        tuple(IDS),
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_token_ids_may_come_from_numpy_and_torch(ids, moe):
    assert moe.encode(ids) == IDS
    assert all(type(token) is int for token in moe.encode(ids))


def test_a_traced_text_can_be_traced_again_by_its_ids(moe):
    trace = moe.trace("To be")
    np.testing.assert_array_equal(moe.trace(trace.token_ids).query, trace.query)


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        5,
        b"abc",
        {1: 2},
        {3},
        [1.5],
        ["a"],
        [True],
        [[1, 2]],
        torch.tensor([[1, 2]]),
        np.array([1.5]),
        [],
    ],
    ids=repr,
)
def test_a_prompt_of_no_known_kind_is_refused(prompt, moe):
    with pytest.raises(TokenizerError, match="expected a text, a list of token ids"):
        moe.trace(prompt)


def test_a_model_with_padding_ids_is_traced_and_generates(tmp_path):
    from workbench import load

    folder = make_tiny_checkpoint(tmp_path, vocab_size=1400, num_hidden_layers=1)
    pangu = load(folder, bits=16, device="cpu")
    beyond = pangu.tokenizer.vocab_size
    trace = pangu.trace([*IDS, beyond + 3], top_k=40)
    assert (trace.top_ids >= beyond).any()
    assert trace.pieces[-1] == f"<id {beyond + 3}>"
    for row, pieces in zip(trace.top_ids, trace.alternative_pieces, strict=True):
        assert pieces == pangu.tokenizer.pieces(row.tolist())
    result = pangu.generate(IDS, 20, Sampling(2.0, 1.0, 0))
    assert any(token >= beyond for token in result.token_ids)


def test_a_generation_in_another_thread_leaves_no_mark_in_a_trace(moe):
    alone = moe.trace(IDS)
    stop, going, failures = threading.Event(), threading.Event(), []

    def generate():
        try:
            for seed in range(1000):
                for _ in moe.stream([1, 99], 400, Sampling(1.0, 1.0, 0, seed), stop=stop):
                    going.set()
                if stop.is_set():
                    return
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=generate)
    thread.start()
    try:
        assert going.wait(60)
        for _ in range(8):
            trace = moe.trace(IDS)
            for name, array in alone.arrays.items():
                np.testing.assert_array_equal(trace.arrays[name], array)
    finally:
        stop.set()
        thread.join(60)
    assert not failures


def test_a_pass_of_the_same_thread_in_between_is_noticed(moe):
    inner = moe.model.model.layers[1].mlp
    done = []

    def run_again(_module, _inputs, _output):
        if not done:
            done.append(True)
            inner(torch.zeros(1, 3, 192))

    handle = moe.model.model.layers[2].register_forward_hook(run_again)
    try:
        with pytest.raises(TraceError, match="layer 1 was recorded for 10 tokens and not for 7"):
            moe.trace(IDS)
    finally:
        handle.remove()


@pytest.mark.parametrize("layers", [[0, 2], None])
def test_queries_and_keys_are_told_step_by_step(moe, layers):
    told = []
    trace = moe.trace(IDS, 4, layers, on_step=lambda _, arrays: told.append(arrays))
    assert ("query" in told[0]) == (layers is not None)
    for name in ("query", "key") if layers else ():
        assert [part[name].shape[1] for part in told] == [len(IDS), *[1] * (len(told) - 1)]
        joined = np.concatenate([part[name] for part in told], axis=1)
        np.testing.assert_array_equal(joined, getattr(trace, name)[:, : joined.shape[1]])


def test_the_bar_of_a_generation_that_ends_early_is_full(moe, monkeypatch):
    bars = []

    class Kept(capture.tqdm):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            bars.append(self)

    monkeypatch.setattr(capture, "tqdm", Kept)
    monkeypatch.setattr("workbench.generation.stream.end_ids", lambda _pangu: set(range(1000)))
    trace = moe.trace(IDS, max_new_tokens=9)
    (bar,) = bars
    assert trace.num_tokens < len(IDS) + 9
    assert bar.total == bar.n == trace.num_tokens - len(IDS)
