"""Text survives, tokens know their characters, and damaged files are named."""

import json

import pytest
import sentencepiece

from tests.helpers.tiny import SPECIAL, make_tiny_checkpoint, tokenizer_folder
from workbench.errors import TokenizerError
from workbench.models import PanguTokenizer

TEXTS = [
    "",
    " ",
    "   three spaces before and two after  ",
    "To be, or not to be",
    "tab\tnewline\nreturn\r\n\n",
    "床前明月光，疑是地上霜",
    "emoji 🙂 and a family 👩‍👩‍👧‍👦 and 🇫🇷",
    "e\u0301 decomposed, é composed, ﬁ ligature, Ａ wide",
    "\x00\x01\x02\x1f\x7f control",
    "a literal ▁ and ▁▁ two",
    "typed [unused9] and <s> and <0x41>",
    "naïve façade — “quoted” …",
]


@pytest.fixture(scope="module")
def tokenizer() -> PanguTokenizer:
    return PanguTokenizer.from_pretrained(tokenizer_folder())


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_every_text_survives_encode_and_decode(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special=True) == text
    assert not set(ids[1:]) & set(tokenizer.special_tokens.values())


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_a_text_that_continues_another_gets_no_space_in_front(tokenizer, text):
    ids = tokenizer.encode(text, add_bos=False, starts_text=False)
    assert tokenizer.decode(ids, skip_special=True, starts_text=False) == text
    after = [*tokenizer.encode("To be"), *ids]
    assert tokenizer.decode(after, skip_special=True) == "To be" + text
    marked = tokenizer.encode(f"{text}[unused9]x", False, special=True, starts_text=False)
    assert marked[-3:] == tokenizer.encode("[unused9]x", False, special=True)


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_tokens_cover_the_text_in_order_and_without_gaps(tokenizer, text):
    ids = tokenizer.encode(text)
    covered = 0
    for start, end in tokenizer.offsets(ids):
        assert start <= covered <= end or start == covered
        covered = max(covered, end)
    assert covered == len(text)


def test_the_bytes_of_one_character_share_its_range(tokenizer):
    ids = tokenizer.encode("x🙂y", add_bos=False)
    ranges = dict.fromkeys(tokenizer.offsets(ids))
    pieces = tokenizer.pieces(ids)
    assert [piece for piece in pieces if piece.startswith("<0x")] == [
        "<0xF0>",
        "<0x9F>",
        "<0x99>",
        "<0x82>",
    ]
    assert tokenizer.offsets(ids).count((1, 2)) == 4
    assert (2, 3) in ranges


def test_a_lone_surrogate_is_refused_in_plain_words(tokenizer):
    with pytest.raises(TokenizerError, match="lone surrogate"):
        tokenizer.encode("half \ud83d")


def test_special_tokens_are_read_only_where_asked_for(tokenizer):
    marker = tokenizer.special_tokens["[unused9]"]
    assert marker in tokenizer.encode("[unused9]", special=True)
    assert marker not in tokenizer.encode("[unused9]")
    assert tokenizer.decode(tokenizer.encode("[unused9]x", special=True)) == "<s>[unused9]x"


def test_spans_are_found_by_token_id(tokenizer):
    begin, end = tokenizer.thinking_start_id, tokenizer.thinking_end_id
    spans = tokenizer.spans([1, 40, 41, begin, 42, 43, end, 44, tokenizer.turn_end_id], 3)
    assert [(span["kind"], span["start"], span["end"]) for span in spans] == [
        ("prompt", 0, 3),
        ("thinking", 3, 7),
        ("answer", 7, 9),
    ]


def test_a_saved_tokenizer_loads_back(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "copy")
    again = PanguTokenizer.from_pretrained(tmp_path / "copy")
    assert again.encode("To be 🙂") == tokenizer.encode("To be 🙂")
    assert again.special_tokens == tokenizer.special_tokens


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"tokenizer\.model is missing"):
        PanguTokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(TokenizerError, match="not a SentencePiece model"):
        PanguTokenizer(tmp_path)


# -- what other tokenizers and configurations bring ----------------------------------------------


@pytest.fixture(scope="module")
def folding(tmp_path_factory) -> PanguTokenizer:
    """A tokenizer whose SentencePiece model folds characters (NFKC)."""
    folder = tmp_path_factory.mktemp("nfkc")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(
            ["hello world, the file 用户:你好", "naïve fi office 床前明月光"] * 60
        ),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        normalization_rule_name="nfkc",
        user_defined_symbols=SPECIAL,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return PanguTokenizer(folder)


@pytest.mark.parametrize("text", [*TEXTS, "½ ㍿　Ａ ［unused9］ \u1100\u1161\u11a8 end"], ids=repr)
def test_every_text_survives_a_normalizer_that_folds(folding, text):
    ids = folding.encode(text)
    assert folding.decode(ids, skip_special=True) == text
    assert not set(ids[1:]) & set(folding.special_tokens.values())


def test_only_the_folded_characters_go_by_bytes(folding):
    pieces = folding.pieces(folding.encode("用户：hello world ﬁle", add_bos=False))
    spelled = [piece for piece in pieces if piece.startswith("<0x")]
    assert spelled == [f"<0x{byte:02X}>" for byte in "：ﬁ".encode()]
    plain = folding.pieces(folding.encode("hello world", add_bos=False))
    assert len(plain) < 6
    assert "".join(plain[1:]) in "".join(pieces)


def test_ids_that_only_pad_the_model_are_named(tokenizer):
    beyond = tokenizer.vocab_size + 30
    ids = [*tokenizer.encode("To be"), beyond, *tokenizer.encode("or", add_bos=False)]
    assert f"<id {beyond}>" in tokenizer.pieces(ids)
    assert tokenizer.decode(ids) == f"<s>To be<id {beyond}> or"
    assert tokenizer.decode(ids, skip_special=True) == "To be or"
    assert len(tokenizer.offsets(ids)) == len(ids)
    with pytest.raises(TokenizerError, match="-1 is negative"):
        tokenizer.pieces([-1])
    with pytest.raises(TokenizerError, match=r"1\.5; expected a whole number"):
        tokenizer.decode([1.5])


@pytest.mark.parametrize(
    "added", [["x"], {"7": None}, {"7": {}}, {"x": {"content": "a"}}, {"7": {"content": 3}}, "x"]
)
def test_a_damaged_list_of_special_tokens_is_refused(tokenizer, added, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    config = {**tokenizer.config, "added_tokens_decoder": added}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"added_tokens_decoder in .*tokenizer_config\.json"):
        PanguTokenizer(tmp_path)


@pytest.mark.parametrize("name", [3, {"text": "<s>"}, ["<s>"]])
def test_a_damaged_name_of_a_special_token_is_refused(tokenizer, name, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    config = {**tokenizer.config, "bos_token": name}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TokenizerError, match="for its bos_token"):
        PanguTokenizer(tmp_path)


def test_a_tokenizer_larger_than_the_model_is_refused_before_loading(tmp_path, monkeypatch):
    from workbench import load

    small = make_tiny_checkpoint(tmp_path / "small", vocab_size=300)
    far = make_tiny_checkpoint(tmp_path / "far")
    config = json.loads((far / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["added_tokens_decoder"]["7000"] = {"content": "[unused99]"}
    (far / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("workbench.pangu.load_model", None)
    with pytest.raises(TokenizerError, match="vocab_size is 300"):
        load(small, bits=16, device="cpu")
    with pytest.raises(TokenizerError, match="ids up to 7000"):
        load(far, bits=16, device="cpu")
