"""Pangu's tokenizer: SentencePiece with byte fallback, plus special tokens and a chat template.

It reads the released `tokenizer.model` and `tokenizer_config.json`; the Python code that the
configuration's `auto_map` names is never run. Source: the released tokenizer configuration.
"""

from __future__ import annotations

import codecs
import json
import operator
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from workbench.conversation import checked_turns
from workbench.errors import TokenizerError
from workbench.models.chat_template import render

SPACE = "▁"  # how SentencePiece writes a space
MARK = "\udc80"  # half of a character: no text that can be encoded holds it


class PanguTokenizer:
    """Text to token ids and back, exactly; and which characters each token covers.

    Parameters
    ----------
    directory
        Holds `tokenizer.model` and, unless the model is bare, `tokenizer_config.json`.

    Raises
    ------
    TokenizerError
        If a file is missing or damaged.

    Notes
    -----
    Between special tokens every stretch of text is encoded with one space in front, as the
    released tokenizer does ("legacy", "add_prefix_space"); `decode` takes it away again.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        model_file = self.directory / "tokenizer.model"
        if not model_file.is_file():
            raise TokenizerError(
                f"{model_file} is missing: a Pangu checkpoint needs its SentencePiece model there; "
                "download tokenizer.model and tokenizer_config.json into the checkpoint's folder."
            )
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            proto = ModelProto.FromString(model_file.read_bytes())
            # The space in front and the spaces inside are this class's business: nothing is lost.
            proto.normalizer_spec.add_dummy_prefix = False
            proto.normalizer_spec.remove_extra_whitespaces = False
            self._model.LoadFromSerializedProto(proto.SerializeToString())
        except (DecodeError, RuntimeError) as error:
            raise TokenizerError(
                f"{model_file} is no SentencePiece model ({error}); download it again."
            ) from error
        self._config_file = self.directory / "tokenizer_config.json"
        self.config = self._read_config(self._config_file)
        self.special_tokens = self._find_special_tokens()
        self.bos_token_id = self._id_of("bos_token", "<s>")
        self.eos_token_id = self._id_of("eos_token", "[unused10]")
        self.unk_token_id = self._id_of("unk_token", "<unk>")
        self.pad_token_id = self._id_of("pad_token", "<unk>")
        self.turn_start_id = self.special_tokens.get("[unused9]")
        self.turn_end_id = self.special_tokens.get("[unused10]")
        self.thinking_start_id = self.special_tokens.get("[unused16]")
        self.thinking_end_id = self.special_tokens.get("[unused17]")

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> PanguTokenizer:
        """The tokenizer of the checkpoint in `directory`."""
        return cls(directory)

    def save_pretrained(self, directory: str | Path) -> None:
        """Copy the tokenizer's files into `directory`, which is made if it is not there."""
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
            source = self.directory / name
            if source.is_file() and source.resolve() != (target / name).resolve():
                shutil.copyfile(source, target / name)

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def vocab_size(self) -> int:
        """Number of ids: SentencePiece's own, and special tokens beyond them if there are any."""
        return max(self._model.get_piece_size(), 1 + max(self.special_tokens.values(), default=0))

    def encode(
        self, text: str, add_bos: bool = True, special: bool = False, starts_text: bool = True
    ) -> list[int]:
        """Token ids of a text.

        Parameters
        ----------
        text
            Any Unicode text.
        add_bos
            Put the beginning-of-sequence token first, as the model was trained.
        special
            Read strings such as "[unused9]" as the special tokens they name. Otherwise they are
            plain text, so that what a person typed cannot pass for a turn of the chat.
        starts_text
            The text is a whole one and gets a space in front, as the model was trained. With False
            it continues one, and gets none.

        Raises
        ------
        TokenizerError
            If the text is no string, or holds a lone surrogate, which no UTF-8 file can hold.
        """
        _require_text(text)
        ids = [self.bos_token_id] if add_bos else []
        encode = self._encode_special if special else self._encode_plain
        return ids + encode(text, starts_text)

    def decode(
        self, ids: Iterable[int], skip_special: bool = False, starts_text: bool = True
    ) -> str:
        """The text of token ids: the exact inverse of `encode`.

        Parameters
        ----------
        ids
            Token ids. One beyond the vocabulary, as models with padded embeddings can give, is
            named "<id 6174>" and treated like a special token.
        skip_special
            Leave special tokens out; otherwise they appear by name.
        starts_text
            The first id begins a text. With False it continues one, and a space in front stays.
        """
        return "".join(text for text, _ in self._walk(ids, skip_special, starts_text))

    def decoder(self, skip_special: bool = False, starts_text: bool = True) -> TextDecoder:
        """The same for tokens that come one by one."""
        return TextDecoder(self, skip_special, starts_text)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """One printable piece per token: bytes as "<0xE4>", special tokens by name, "▁" as " ".

        An id beyond the vocabulary has no piece and is named "<id 6174>".
        """
        return [self._piece(token) for token in self._checked(ids)]

    def offsets(self, ids: Sequence[int], starts_text: bool = True) -> list[tuple[int, int]]:
        """Start and end, in characters of `decode(ids, skip_special=True)`, that each token covers.

        The byte tokens of one character all cover that character; special tokens cover nothing.
        """
        ranges: list[tuple[int, int]] = []
        position = 0
        for text, tokens in self._walk(ids, True, starts_text):
            ranges += [(position, position + len(text))] * tokens
            position += len(text)
        return ranges

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, str]],
        add_generation_prompt: bool = True,
        thinking: str = "slow",
    ) -> list[int]:
        """Token ids of a conversation, with the beginning-of-sequence token.

        Only the template's own special tokens are special: names such as "[unused10]" inside a
        message stay plain text, so that no content can open or close a turn.

        Parameters
        ----------
        messages
            Each with a "role" (system, user, assistant, tool or function) and a "content". An
            empty system turn is put first when there is none.
        add_generation_prompt
            End with the opening of the assistant's turn.
        thinking
            "slow" thinks first; "fast" puts " /no_think", "auto" " /auto_think" at the end of the
            last user message.

        Raises
        ------
        TokenizerError
            For an unknown role, a message without content, an unknown `thinking`, or a
            chat_template that fails.
        """
        turns = [
            {key: value if key == "role" else self._marked(value) for key, value in turn.items()}
            for turn in checked_turns(messages, thinking)
        ]
        rendered = render(self.config, turns, add_generation_prompt, self._config_file)
        return [self.bos_token_id, *self._encode_special(rendered)]

    def render_chat(
        self,
        messages: Sequence[dict[str, str]],
        add_generation_prompt: bool = True,
        thinking: str = "slow",
    ) -> str:
        """The conversation as one string with special tokens by name; see `apply_chat_template`."""
        turns = checked_turns(messages, thinking)
        return render(self.config, turns, add_generation_prompt, self._config_file)

    def spans(self, ids: Sequence[int], prompt_length: int) -> list[dict[str, Any]]:
        """Which stretches of tokens are prompt, thinking and answer.

        Thinking runs from its opening to its closing token, both included, wherever it stands;
        what is left is "prompt" before `prompt_length` and "answer" after it. Found by token id,
        never by text. Each span is {"kind", "start", "end"}, `end` not included.
        """
        kinds: list[str] = []
        thinking = False
        for position, token in enumerate(ids):
            thinking = thinking or token == self.thinking_start_id
            kinds.append(
                "thinking" if thinking else "prompt" if position < prompt_length else "answer"
            )
            if token == self.thinking_end_id:
                thinking = False
        spans: list[dict[str, Any]] = []
        for position, kind in enumerate(kinds):
            if spans and spans[-1]["kind"] == kind:
                spans[-1]["end"] = position + 1
            else:
                spans.append({"kind": kind, "start": position, "end": position + 1})
        return spans

    # -- inside ---------------------------------------------------------------------------------

    def _read_config(self, file: Path) -> dict[str, Any]:
        if not file.is_file():
            return {}
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TokenizerError(f"{file} is not JSON ({error}); download it again.") from error
        if not isinstance(config, dict):
            raise TokenizerError(f"{file} holds no JSON object; download it again.")
        return config

    def _find_special_tokens(self) -> dict[str, int]:
        """Name → id: control and user-defined pieces of the model, and those of the config."""
        special = {
            self._model.id_to_piece(token): token
            for token in range(self._model.get_piece_size())
            if self._model.is_control(token)
            or self._model.is_unknown(token)
            or self._bracketed.fullmatch(self._model.id_to_piece(token))
        }
        file = self._config_file
        added = self.config.get("added_tokens_decoder") or {}
        if not isinstance(added, dict):
            raise TokenizerError(
                f"added_tokens_decoder in {file} is a {type(added).__name__}; expected an object of "
                "token ids; download the file again."
            )
        for token, entry in added.items():
            name = entry.get("content") if isinstance(entry, dict) else None
            if not (token.isascii() and token.isdigit() and isinstance(name, str) and name):
                raise TokenizerError(
                    f"added_tokens_decoder in {file} has {token!r}: {entry!r}; expected a token id "
                    'and {"content": name}; download the file again.'
                )
            special[name] = int(token)
        return special

    _bracketed = re.compile(r"\[unused\d+\]|<\|[^|]*\|>:?")

    def _id_of(self, key: str, default: str) -> int:
        name = self.config.get(key) or default
        name = name.get("content") if isinstance(name, dict) else name
        if not isinstance(name, str) or name not in self.special_tokens:
            raise TokenizerError(
                f"the tokenizer in {self.directory} has no token {name!r} for its {key}; "
                "tokenizer.model and tokenizer_config.json do not belong together."
            )
        return self.special_tokens[name]

    @cached_property
    def _special_names(self) -> dict[int, str]:
        return {token: name for name, token in self.special_tokens.items()}

    @cached_property
    def _pieces(self) -> list[str]:
        """The printable piece of every id of the SentencePiece model, worked out once."""
        ids = list(range(self._model.get_piece_size()))
        return [
            self._special_names.get(token) or piece.replace(SPACE, " ")
            for token, piece in zip(ids, self._model.id_to_piece(ids), strict=True)
        ]

    def _piece(self, token: int) -> str:
        if token < len(self._pieces):
            return self._pieces[token]
        return self._special_names.get(token, f"<id {token}>")

    @cached_property
    def _byte_values(self) -> dict[int, bytes]:
        """Byte tokens and what they stand for."""
        return {
            token: bytes([int(self._model.id_to_piece(token)[3:5], 16)])
            for token in range(self._model.get_piece_size())
            if self._model.is_byte(token) and token not in self._special_names
        }

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        names = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def _marked(self, value: Any) -> Any:
        """A text in which no special token's name is left: a mark follows its first character."""
        if not isinstance(value, str):
            return value
        _require_text(value)
        return re.sub(f"[{self._special_starts}]", rf"\g<0>{MARK}", value)

    @cached_property
    def _special_starts(self) -> str:
        return re.escape("".join(sorted({name[0] for name in self.special_tokens})))

    def _encode_special(self, text: str, starts_text: bool = True) -> list[int]:
        """Ids of a text in which special tokens stand by name, and marks keep others plain."""
        ids: list[int] = []
        for part in self._special_pattern.split(text):
            if part in self.special_tokens:
                ids.append(self.special_tokens[part])
                starts_text = True
            else:
                ids += self._encode_plain(part.replace(MARK, ""), starts_text)
        return ids

    def _encode_plain(self, text: str, starts_text: bool) -> list[int]:
        """Ids of a stretch of text, in which nothing is special; a space is put before its start."""
        if not text:
            return []
        text = " " + text if starts_text else text
        ids: list[int] = []
        # A literal "▁" would come back as a space, and a special token's name as that token.
        for part in re.split(f"({SPACE}|{self._special_pattern.pattern[1:-1]})", text):
            if part == SPACE:
                ids += self._encode_bytes(part)
            elif part in self.special_tokens:
                ids += self._model.encode(part[:1]) + self._model.encode(part[1:])
            elif part:
                ids += self._encode_part(part)
        return ids

    def _encode_part(self, part: str) -> list[int]:
        ids = self._model.encode(part)
        if self._restores(ids, part):
            return ids
        # The model's normalizer drops or folds characters: only those go by bytes.
        ids = []
        for stretch, kept in self._kept_stretches(part):
            encoded = self._model.encode(stretch)
            whole = kept and self._restores(encoded, stretch)
            ids += encoded if whole else self._encode_bytes(stretch)
        return ids

    def _restores(self, ids: list[int], text: str) -> bool:
        return "".join(part for part, _ in self._walk(ids, False, False)) == text

    def _kept_stretches(self, text: str) -> Iterator[tuple[str, bool]]:
        """The text in stretches that the normalizer leaves alone (True) and changes (False)."""
        normalized, starts = self._model.normalize(text, with_offsets=True)
        changed = [True] * len(text)
        for place, character in enumerate(normalized):
            start, end = starts[place], starts[place + 1]
            if text[start:end] == character.replace(SPACE, " "):
                changed[start] = False
        for is_changed, places in groupby(range(len(text)), changed.__getitem__):
            yield "".join(text[place] for place in places), not is_changed

    def _encode_bytes(self, text: str) -> list[int]:
        return [self._model.piece_to_id(f"<0x{byte:02X}>") for byte in text.encode("utf-8")]

    def _walk(
        self, ids: Iterable[int], skip_special: bool, starts_text: bool
    ) -> Iterable[tuple[str, int]]:
        """Texts in order, each with the number of tokens that make it up."""
        decoder = self.decoder(skip_special, starts_text)
        for token in self._checked(ids):
            yield from decoder.texts(token)
        yield from decoder.rest()

    @staticmethod
    def _checked(ids: Iterable[int]) -> Iterator[int]:
        for token in ids:
            try:
                number = operator.index(token)
            except TypeError as error:
                raise TokenizerError(
                    f"a token id is {token!r}; expected a whole number."
                ) from error
            if number < 0:
                raise TokenizerError(f"token id {number} is negative; ids are counted from 0.")
            yield number


class TextDecoder:
    """The text of tokens one by one, as they come; what `PanguTokenizer.decode` gives for all.

    Parameters
    ----------
    tokenizer
    skip_special, starts_text
        As for `PanguTokenizer.decode`.

    Attributes
    ----------
    waiting : int
        Byte tokens so far of a character that is not complete.
    """

    def __init__(self, tokenizer: PanguTokenizer, skip_special: bool, starts_text: bool) -> None:
        self._tokenizer, self._skip_special = tokenizer, skip_special
        self._starts = starts_text  # the next text has a space in front that `encode` put there
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self.waiting = 0
        self._size = tokenizer._model.get_piece_size()

    def push(self, token: int) -> str:
        """What becomes readable with this token: nothing in the middle of a character."""
        return "".join(text for text, _ in self.texts(token))

    def texts(self, token: int) -> Iterator[tuple[str, int]]:
        """The same in parts, each with the number of tokens that make it up."""
        tokenizer = self._tokenizer
        if token in tokenizer._byte_values:
            self.waiting += 1
            self._starts = False
            text = self._utf8.decode(tokenizer._byte_values[token])
            if text:
                yield text, self.waiting
                self.waiting = 0
            return
        yield from self.rest()
        text = tokenizer._piece(token)
        if token in tokenizer._special_names or token >= self._size:
            yield "" if self._skip_special else text, 1
            self._starts = self._starts or token in tokenizer._special_names
            return
        if self._starts and text.startswith(" "):
            text = text[1:]
        self._starts = False
        yield text, 1

    def rest(self) -> Iterator[tuple[str, int]]:
        """A character that stays incomplete, as U+FFFD."""
        if self.waiting:
            text, tokens = self._utf8.decode(b"", final=True), self.waiting
            self._utf8.reset()
            self.waiting = 0
            yield text, tokens


def require_vocabulary(tokenizer: PanguTokenizer, vocab_size: int) -> None:
    """Refuse a tokenizer that has ids for which the model has no embedding.

    The other way round is allowed: models are padded to a round number of ids.

    Raises
    ------
    TokenizerError
        If the tokenizer's vocabulary is larger than the model's.
    """
    if tokenizer.vocab_size > vocab_size:
        raise TokenizerError(
            f"the tokenizer in {tokenizer.directory} has ids up to {tokenizer.vocab_size - 1} and the "
            f"model's vocab_size is {vocab_size}; tokenizer.model, tokenizer_config.json and the "
            "weights do not belong together."
        )


def _require_text(text: str) -> None:
    if not isinstance(text, str):
        raise TokenizerError(f"the text is a {type(text).__name__}; expected a string.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} of the text is a lone surrogate (U+{ord(text[error.start]):04X}), "
            "half of a character; remove it or read the text with the right encoding."
        ) from error
