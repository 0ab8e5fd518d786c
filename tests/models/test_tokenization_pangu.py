"""Text survives, tokens know their characters, and the chat template is the released one."""

import json
from pathlib import Path

import pytest

from tests.tiny import tokenizer_folder
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


def test_a_conversation_without_system_turn_gets_an_empty_one_first(tokenizer):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    assert tokenizer.render_chat(messages, add_generation_prompt=True) == (
        "[unused9]系统：[unused10][unused9]用户：Hi[unused10]"
        "[unused9]助手：Yes[unused10][unused9]助手："
    )
    ids = tokenizer.apply_chat_template(messages)
    assert ids[:2] == [tokenizer.bos_token_id, tokenizer.turn_start_id]
    assert ids.count(tokenizer.turn_end_id) == 3


@pytest.mark.parametrize("role", ["system", "tool", "function"])
def test_every_role_has_its_released_name(tokenizer, role):
    name = {"system": "系统", "tool": "工具", "function": "方法"}[role]
    text = tokenizer.render_chat([{"role": role, "content": "x"}], add_generation_prompt=False)
    assert text.endswith(f"[unused9]{name}：x[unused10]")
    assert text.startswith("[unused9]系统：")


@pytest.mark.parametrize(("thinking", "suffix"), [("fast", " /no_think"), ("auto", " /auto_think")])
def test_thinking_is_chosen_at_the_end_of_the_last_user_turn(tokenizer, thinking, suffix):
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    text = tokenizer.render_chat(messages, thinking=thinking)
    assert f"用户：b{suffix}[unused10]" in text
    assert "用户：a[unused10]" in text
    assert messages[1]["content"] == "b"


@pytest.mark.parametrize(
    "messages", [[], [{"role": "user"}], [{"role": "robot", "content": ""}], ["Hi"]], ids=repr
)
def test_a_malformed_conversation_is_refused(tokenizer, messages):
    with pytest.raises(TokenizerError):
        tokenizer.apply_chat_template(messages)


def test_the_template_equals_the_released_one(tokenizer):
    released = "shared/pangu/openpangu-embedded-7b/tokenizer_config.json"
    for parent in Path(__file__).resolve().parents:
        if (parent / released).is_file():
            from jinja2 import Template

            template = Template(json.loads((parent / released).read_text())["chat_template"])
            messages = [
                {"role": role, "content": f" {role} "}
                for role in ("user", "assistant", "tool", "function", "user")
            ]
            for opening in (True, False):
                assert template.render(
                    messages=messages, add_generation_prompt=opening
                ) == tokenizer.render_chat(messages, opening)
            return
    pytest.skip("the released tokenizer_config.json is not at hand")


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
    with pytest.raises(TokenizerError, match="no SentencePiece model"):
        PanguTokenizer(tmp_path)
