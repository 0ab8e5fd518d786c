"""The file: bit-equal, mapped into memory, and refused in plain words when it is something else."""

import json
import os
import struct

import numpy as np
import pytest

from workbench.errors import TraceError
from workbench.traces.trace import Trace


@pytest.fixture(scope="module")
def trace(moe) -> Trace:
    return moe.trace("To be, or 床前", max_new_tokens=3)


def test_a_saved_trace_loads_back_unchanged(trace, tmp_path):
    again = Trace.load(trace.save(tmp_path / "deep" / "a.trace"))
    assert again.meta == json.loads(json.dumps(trace.meta))
    assert again.arrays.keys() == trace.arrays.keys()
    for name, array in trace.arrays.items():
        assert again.arrays[name].dtype == array.dtype
        assert again.arrays[name].tobytes() == array.tobytes()
    np.testing.assert_array_equal(again.attention(1, 2), trace.attention(1, 2))


def test_a_loaded_trace_is_mapped_and_not_read(trace, tmp_path):
    again = Trace.load(trace.save(tmp_path / "a.trace"))
    assert all(isinstance(array, np.memmap) for array in again.arrays.values())
    with pytest.raises(ValueError, match="read-only"):
        again.query[0] = 0


def test_an_interrupted_save_leaves_the_old_file(trace, tmp_path, monkeypatch):
    path = trace.save(tmp_path / "a.trace")
    before = path.read_bytes()

    def fail(_arrays, file, **_):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("workbench.traces.trace.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        trace.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.trace"]


def rewrite(path, change):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header["__metadata__"])
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def test_a_newer_format_is_refused(trace, tmp_path):
    path = trace.save(tmp_path / "a.trace")
    rewrite(path, lambda header: header.update(format_version="2"))
    with pytest.raises(TraceError, match=r"trace format 2.*Update pangu-workbench"):
        Trace.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"PK\x03\x04" * 100, b"\x10" + b"\0" * 7 + b"{" * 16]
)
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(TraceError, match="is not a trace"):
        Trace.load(tmp_path / "x")


def test_weights_are_no_trace(tiny_moe):
    with pytest.raises(TraceError, match="is not a trace"):
        Trace.load(tiny_moe / "model.safetensors")


def test_a_truncated_trace_is_refused(trace, tmp_path):
    path = trace.save(tmp_path / "a.trace")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TraceError, match="ends early"):
        Trace.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(TraceError, match="is not a file"):
        Trace.load(tmp_path / "nothing")


def test_a_dense_trace_says_that_it_has_no_routing(dense):
    trace = dense.trace("To be", attention=None)
    assert not trace.is_moe
    with pytest.raises(TraceError, match="dense model without experts"):
        _ = trace.router_logits
    with pytest.raises(TraceError, match="attention=None"):
        trace.attention(0, 0)


def test_tokens_tells_of_every_token(trace):
    frame = trace.tokens()
    assert list(frame["piece"]) == trace.pieces
    assert list(frame["phase"])[-3:] == ["generated"] * 3
    np.testing.assert_array_equal(frame["logprob"][1:], trace.chosen_logprobs[:-1])
    for (start, end), piece in zip(trace.offsets, trace.pieces, strict=True):
        if not piece.startswith(("<", "[")) and start:
            assert trace.text[start:end] == piece


def damaged(path, change):
    """The file with its whole header changed; the arrays stay as they are."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header = change(header) or header
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])
    return path


def meta_without(key):
    def change(header):
        meta = json.loads(header["__metadata__"]["meta"])
        del meta[key]
        header["__metadata__"]["meta"] = json.dumps(meta)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header["__metadata__"].pop("meta") and None, "is damaged"),
        (lambda header: header["__metadata__"].update(meta="{"), "is damaged"),
        (lambda header: header["__metadata__"].update(meta="[]"), "meta is not a JSON object"),
        (lambda header: header["__metadata__"].update(meta=[1]), "is damaged"),
        (meta_without("pieces"), "pieces in its meta"),
        (meta_without("config"), "config in its meta"),
        (lambda header: header["key"].update(dtype="BF16"), "type BF16"),
        (lambda header: header["key"].update(dtype=[]), "is damaged"),
        (lambda header: header["key"].update(shape=[3, 3]), "cannot hold the shape"),
        (lambda header: header["key"].update(shape=[-1, -4]), "the shape or place"),
        (lambda header: header["key"].update(shape="ab"), "the shape or place"),
        (lambda header: header["key"].update(data_offsets=["a", 4]), "the shape or place"),
        (lambda header: header["key"].update(data_offsets=[-400, 4]), "the shape or place"),
        (lambda header: header["key"].update(data_offsets=[4]), "is damaged"),
        (lambda header: header.update(key=3), "is damaged"),
        (lambda header: header.pop("token_ids") and None, "has no token_ids"),
        (lambda header: header.pop("routed_norm") and None, "has no routed_norm"),
        (lambda header: header.pop("query") and None, "has no query"),
        (lambda header: header.update(routed_norm=header["top_ids"]), "routed_norm has"),
        (lambda header: header.update(token_ids=header["routed_norm"]), "token_ids has 2 axes"),
        (lambda header: header.update(__metadata__=[1]), "is not a trace"),
        (lambda header: header.update(__metadata__="a"), "is not a trace"),
        (lambda header: [header], "is not a trace"),
        (lambda header: header["__metadata__"].update(format_version=1), "trace format 1"),
        (lambda header: header["__metadata__"].update(format_version="²"), "trace format ²"),
        (lambda header: header["__metadata__"].update(format_version="0"), "trace format 0"),
        (lambda header: header["__metadata__"].update(format_version=[]), "trace format unknown"),
    ],
)
def test_a_damaged_header_is_refused_in_plain_words(trace, tmp_path, change, message):
    path = damaged(trace.save(tmp_path / "a.trace"), change)
    with pytest.raises(TraceError, match=message):
        Trace.load(path)


def test_what_is_recorded_has_the_same_meta_before_and_after_the_file(trace, tmp_path):
    assert Trace.load(trace.save(tmp_path / "a.trace")).meta == trace.meta


def test_a_place_where_nothing_can_be_written_is_refused(trace, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(TraceError, match="is a folder"):
        trace.save(tmp_path)
    with pytest.raises(TraceError, match="cannot be written"):
        trace.save(tmp_path / "file" / "x.trace")
    with pytest.raises(TraceError, match="cannot be written"):
        trace.save(tmp_path / ("x" * 300))
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "wish", [{"layer": "a"}, {"layer": 1.0}, {"head": None}, {"rows": "a"}, {"rows": [0.5]}]
)
def test_a_wish_of_another_kind_is_refused(trace, wish):
    with pytest.raises(TraceError, match="expected a whole number below"):
        trace.attention(**{"layer": 0, "head": 0, **wish})


def test_no_rows_give_an_empty_map(trace):
    assert trace.attention(0, 0, rows=[]).shape == (0, trace.num_tokens)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_others_may_read_a_saved_trace_as_any_new_file(trace, tmp_path):
    (tmp_path / "new").touch()
    saved = trace.save(tmp_path / "a.trace")
    assert saved.stat().st_mode == (tmp_path / "new").stat().st_mode
