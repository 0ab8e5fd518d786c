"""A corpus is the sum of its documents' traces, survives being killed, and stays small."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import SafetensorError

import workbench as wb
from tests.helpers.tiny import make_tiny_checkpoint
from workbench.errors import TraceError
from workbench.tracing import corpus_folder, corpus_recording

ROOT = Path(__file__).parents[2]


def texts(documents: int, length: int = 24, seed: int = 0) -> dict[str, list[list[int]]]:
    """Token ids that repeat enough for a vocabulary; each text starts with BOS."""
    random = np.random.default_rng(seed)
    return {
        domain: [
            [1, *random.integers(low, low + 30, size=length + number).tolist()]
            for number in range(documents)
        ]
        for domain, low in (("low", 60), ("high", 90))
    }


@pytest.fixture(scope="module")
def corpus(moe, tmp_path_factory):
    return wb.trace_corpus(moe, texts(6), tmp_path_factory.mktemp("corpus") / "c")


@pytest.fixture(scope="module")
def traces(moe):
    return [moe.trace(ids, attention=None) for part in texts(6).values() for ids in part]


def pair_totals(source, **options) -> pd.DataFrame:
    """Co-activation without its intervals, which need every document's pairs."""
    return wb.expert_coactivation(source, **options).drop(columns=["lift_low", "lift_high"])


def test_every_measure_of_a_corpus_equals_that_of_the_traces(corpus, traces):
    labels = ["low"] * 6 + ["high"] * 6
    for measure, options in (
        (wb.expert_load, {}),
        (wb.load_balance, {}),
        (wb.group_profile, {}),
        (wb.never_used, {}),
        (wb.imbalance_score, {"draws": 200}),
        (wb.router_profile, {}),
        (wb.vocabulary_specialisation, {"minimum": 4}),
        (pair_totals, {}),
        (wb.expert_transitions, {"pairs": "weighted"}),
        (wb.expert_transitions, {"pairs": "top1"}),
        (wb.expert_transitions, {"pairs": "counted"}),
    ):
        pd.testing.assert_frame_equal(
            measure(corpus, **options), measure(traces, **options), rtol=1e-4, atol=1e-6
        )
    for measure in (wb.domain_specialisation, wb.domain_divergence):
        pd.testing.assert_frame_equal(measure(corpus), measure(traces, labels), rtol=1e-4)
    words = wb.expert_vocabulary(corpus, 1, 5, minimum=4)
    pd.testing.assert_frame_equal(words, wb.expert_vocabulary(traces, 1, 5, minimum=4))
    pd.testing.assert_frame_equal(pair_totals(corpus, domain="high"), pair_totals(traces[6:]))
    assert wb.expert_coactivation(corpus)["lift_low"].isna().all()  # a corpus keeps totals of pairs
    assert wb.expert_coactivation(traces)["lift_low"].notna().any()


def test_a_corpus_loads_back_and_is_not_read_again(corpus, moe):
    again = wb.RoutingCorpus.load(corpus.folder)
    assert again.complete
    assert repr(again) == repr(corpus)
    assert "12 documents of 2 domains" in repr(corpus)
    passes = []
    handle = moe.model.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    kept = wb.trace_corpus(moe, texts(6), corpus.folder)
    handle.remove()
    assert not passes
    assert kept.done == 12
    assert sorted(path.name for path in corpus.folder.iterdir()) == [
        "documents.safetensors",
        "progress.json",
        "settings.json",
        "totals-12.safetensors",
    ]


def test_its_files_are_plain_safetensors_and_json(corpus):
    from safetensors import safe_open

    with safe_open(corpus.folder / "documents.safetensors", "np") as file:
        count = file.get_tensor("count")
        assert not {"query", "key", "router_logits"} & set(file.keys())
    assert count.shape == (12, 3, 12)
    assert count.sum() == corpus.tokens.sum() * 3 * 4
    json.loads((corpus.folder / "settings.json").read_text(encoding="utf-8"))


KILLED = """
import os, sys
import workbench as wb
from tests.tracing.test_corpus import texts
pangu = wb.load(sys.argv[1], bits=16, device="cpu")
passes = 0
def die(*_):
    global passes
    passes += 1
    if passes == 6:
        os.kill(os.getpid(), 9)
pangu.model.model.layers[1].register_forward_hook(die)
wb.trace_corpus(pangu, texts(6), sys.argv[2], save_seconds=0)
"""


def test_a_killed_recording_goes_on_where_it_was(moe, tiny_moe, corpus, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(tiny_moe), str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == -9, result.stderr
    part = wb.RoutingCorpus.load(folder)
    assert (part.done, part.complete) == (5, False)
    assert "5 of 12 documents" in repr(part)
    # what a kill may leave behind: a half written row, a totals file that no number points to
    rows = np.memmap(folder / "documents.safetensors", np.uint8, "r+")
    rows[-40:] = 7
    rows.flush()
    (folder / "totals-6.safetensors").write_bytes(b"half")
    passes = []
    handle = moe.model.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    whole = wb.trace_corpus(moe, texts(6), folder)
    handle.remove()
    assert len(passes) == 7  # the five that were finished are not read again
    for name in ("count", "weight", "entropy", "churn"):
        np.testing.assert_allclose(
            whole.per_document(name), corpus.per_document(name), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(whole.coactivation(None), corpus.coactivation(None))
    np.testing.assert_allclose(
        whole.transitions("weighted", "low"), corpus.transitions("weighted", "low"), rtol=1e-5
    )


def test_an_interruption_keeps_every_finished_document(moe, tmp_path):
    passes = []

    def interrupt(*_):
        passes.append(1)
        if len(passes) == 4:
            raise KeyboardInterrupt

    handle = moe.model.model.layers[2].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        wb.trace_corpus(moe, texts(3), tmp_path / "c")
    handle.remove()
    assert wb.RoutingCorpus.load(tmp_path / "c").done == 3


def test_an_interruption_within_a_document_keeps_nothing_of_it(moe, tmp_path):
    long = {"a": [[1, *range(60, 99)]] * 3}  # two windows each
    passes = []

    def interrupt(*_):
        passes.append(1)
        if len(passes) == 4:  # the second window of the second document
            raise KeyboardInterrupt

    handle = moe.model.model.layers[2].register_forward_hook(interrupt)
    with pytest.warns(UserWarning, match="longer than 30"), pytest.raises(KeyboardInterrupt):
        wb.trace_corpus(moe, long, tmp_path / "c", window=30)
    handle.remove()
    part = wb.RoutingCorpus.load(tmp_path / "c")
    assert part.done == 1
    assert part.coactivation(None).diagonal(axis1=1, axis2=2).sum() == 40 * 3 * 4
    with pytest.warns(UserWarning, match="longer than 30"):
        whole = wb.trace_corpus(moe, long, tmp_path / "c", window=30)
    np.testing.assert_array_equal(whole.coactivation(None), 3 * part.coactivation(None))


def test_the_bar_moves_within_a_document(moe, tmp_path, monkeypatch):
    seen = []

    class Bar(corpus_recording.tqdm):
        def update(self, n=1):
            super().update(n)
            seen.append(self.n)

    monkeypatch.setattr(corpus_recording, "tqdm", Bar)
    with pytest.warns(UserWarning, match="longer than 20"):
        wb.trace_corpus(moe, {"a": [[1, *range(60, 109)], [1, 70]]}, tmp_path / "c", window=20)
    assert len(set(seen)) >= 4  # three windows, and the second document
    assert seen == sorted(seen)
    assert seen[-1] == 52


def test_another_model_other_texts_and_other_settings_are_noticed(corpus, moe, tmp_path):
    folder = corpus.folder
    with pytest.raises(TraceError, match="with other texts"):
        wb.trace_corpus(moe, texts(6, seed=1), folder)
    with pytest.raises(TraceError, match="with other texts"):
        wb.trace_corpus(moe, dict(reversed(texts(6).items())), folder)
    with pytest.raises(TraceError, match=r"other settings \(window=512.*window=100"):
        wb.trace_corpus(moe, texts(6), folder, window=100)
    other = wb.load(make_tiny_checkpoint(tmp_path / "other", seed=1), bits=16, device="cpu")
    with pytest.raises(TraceError, match="another model"):
        wb.trace_corpus(other, texts(6), folder)
    scale = moe.model.model.layers[1].mlp.router_scale
    kept = scale.data.clone()
    scale.data[0, 3] += 1  # changed after loading
    try:
        with pytest.raises(TraceError, match="another model"):
            wb.trace_corpus(moe, texts(6), folder)
    finally:
        scale.data.copy_(kept)


def test_a_model_that_stays_on_disk_records_the_same_and_goes_on_with_what_another_began(
    moe, tiny_moe, corpus, tmp_path
):
    on_disk = wb.load(tiny_moe, bits=16, device="cpu", memory="1MB")
    assert on_disk.streaming is not None
    passes = []

    def interrupt(*_):
        passes.append(1)
        if len(passes) == 4:
            raise KeyboardInterrupt

    handle = on_disk.model.model.norm.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        wb.trace_corpus(on_disk, texts(6), tmp_path / "c")
    handle.remove()
    part = wb.trace_corpus(on_disk, texts(6), tmp_path / "c")  # other weights are at hand now
    np.testing.assert_array_equal(part.coactivation(None), corpus.coactivation(None))
    assert part.settings["fingerprints"] == corpus.settings["fingerprints"]
    assert wb.trace_corpus(moe, texts(6), tmp_path / "c").complete


def test_long_documents_are_cut_into_windows_and_it_says_so(moe, tmp_path):
    long = {"a": [[1, *range(60, 109)], [1, 70, 71]]}  # 50 and 3 tokens
    with pytest.warns(UserWarning, match="1 of 2 documents are longer than 20 tokens"):
        corpus = wb.trace_corpus(moe, long, tmp_path / "c", window=20)
    assert corpus.windows.tolist() == [3, 1]
    assert corpus.tokens.tolist() == [50, 3]
    assert "1 documents cut into windows of 20" in repr(corpus)
    # the windows by hand: 20 tokens, then BOS and 19, then BOS and 11; BOS counts only once
    whole, short = long["a"]
    parts = [(whole[:20], 0), ([1, *whole[20:39]], 1), ([1, *whole[39:]], 1), (short, 0)]
    frames = [
        wb.expert_load(trace := moe.trace(ids, attention=None), np.arange(len(ids)) >= first)
        for ids, first in parts
    ]
    assert trace.num_tokens == 3
    count = sum(frame["count"] for frame in frames)
    assert wb.expert_load(corpus)["count"].tolist() == count.tolist()


def test_where_counts_only_the_thinking(moe, tmp_path):
    opening = moe.tokenizer.thinking_start_id
    closing = moe.tokenizer.thinking_end_id
    ids = [1, 70, opening, 80, 81, closing, 90]
    corpus = wb.trace_corpus(moe, {"a": [ids]}, tmp_path / "c", where="thinking")
    assert corpus.tokens.tolist() == [4]
    trace = moe.trace(ids, attention=None)
    pd.testing.assert_frame_equal(wb.expert_load(corpus), wb.expert_load(trace, where="thinking"))
    with pytest.raises(TraceError, match="matches none of the"):
        wb.trace_corpus(moe, {"a": [ids]}, tmp_path / "d", where="decode")


def test_memory_does_not_grow_with_the_number_of_tokens(moe, tmp_path):
    def peak(length: int, name: str) -> int:
        documents = {"a": [[1, *range(60, 400)] * (length // 341)] * 3}
        tracemalloc.start()
        with pytest.warns(UserWarning, match="longer than 64"):
            corpus = wb.trace_corpus(moe, documents, tmp_path / name, window=64, vocabulary=50)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert corpus.tokens.sum() == 3 * length
        return most

    peak(341, "warm")
    short, long = peak(341 * 2, "short"), peak(341 * 16, "long")
    # 14,322 more tokens: their ids, masks and sums take 5 to 16 bytes each; a trace would take 350
    assert (long - short) / (3 * 341 * 14) < 35


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot take room")
def test_the_room_for_all_documents_is_taken_before_the_first_is_read(moe, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        patched.setattr(corpus_recording, "_read", None)
        with pytest.raises(TraceError, match=r"cannot be written .*No space left.*free some space"):
            wb.trace_corpus(moe, texts(1), tmp_path / "c")
    corpus = wb.trace_corpus(moe, texts(1), tmp_path / "c")  # there is room now
    assert corpus.complete
    rows = (corpus.folder / "documents.safetensors").stat()
    assert rows.st_blocks * 512 >= rows.st_size


def test_a_disk_that_fills_meanwhile_keeps_what_was_saved(moe, tmp_path, monkeypatch):
    save_file, saved = corpus_folder.save_file, []

    def filling(*arguments):
        saved.append(arguments)
        if len(saved) > 1:
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save_file(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(corpus_folder, "save_file", filling)
        with pytest.raises(TraceError, match=r"cannot be written .*No space left.*free some space"):
            wb.trace_corpus(moe, texts(2), tmp_path / "c", save_seconds=0)
    assert wb.RoutingCorpus.load(tmp_path / "c").done == 1
    assert wb.trace_corpus(moe, texts(2), tmp_path / "c").complete


def test_what_a_corpus_cannot_give_is_said(corpus, moe, dense, tmp_path):
    with pytest.raises(TraceError, match="keeps sums, not single tokens"):
        wb.router_entropy(corpus)
    with pytest.raises(TraceError, match="keeps sums, not tokens"):
        wb.expert_load(corpus, where="prompt")
    with pytest.raises(TraceError, match="batches of 16 tokens on 4 devices"):
        wb.imbalance_score(corpus, batch=8)
    with pytest.raises(TraceError, match="no domain 'middle'; there are: low, high"):
        wb.expert_coactivation(corpus, domain="middle")
    with pytest.raises(TraceError, match="dense model"):
        wb.trace_corpus(dense, texts(1), tmp_path / "a")
    with pytest.raises(TraceError, match="no documents"):
        wb.trace_corpus(moe, {"a": []}, tmp_path / "b")
    with pytest.raises(TraceError, match="documents of 'a' are one text; expected a list"):
        wb.trace_corpus(moe, {"a": "hello"}, tmp_path / "b")
    with pytest.raises(TraceError, match="expected 2 to 512"):
        wb.trace_corpus(moe, texts(1), tmp_path / "c", window=513)
    with pytest.raises(TraceError, match="does not contain a corpus"):
        wb.RoutingCorpus.load(tmp_path)
    shutil.copytree(corpus.folder, tmp_path / "copy")
    totals = (tmp_path / "copy" / "totals-12.safetensors").read_bytes()
    rows = (tmp_path / "copy" / "documents.safetensors").read_bytes()
    (tmp_path / "copy" / "totals-12.safetensors").write_bytes(b"cut off")
    with pytest.raises(TraceError, match=r"missing or damaged.*record again"):
        wb.RoutingCorpus.load(tmp_path / "copy")
    (tmp_path / "copy" / "totals-12.safetensors").write_bytes(totals)
    for content in (b"", rows[:200], rows[:-100]):
        (tmp_path / "copy" / "documents.safetensors").write_bytes(content)
        with pytest.raises(TraceError, match=r"documents.* is missing or damaged.*record again"):
            wb.RoutingCorpus.load(tmp_path / "copy")
        with pytest.raises(TraceError, match=r"documents.* is missing or damaged.*record again"):
            wb.trace_corpus(moe, texts(6), tmp_path / "copy")
