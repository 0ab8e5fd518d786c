"""Pangu's tokenizer: SentencePiece with byte fallback, plus special tokens and a chat template.

It reads the released `tokenizer.model` and `tokenizer_config.json`; the Python code that the
configuration's `auto_map` names is never run. Source: the released tokenizer configuration.
"""

from __future__ import annotations

import json
import operator
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from workbench.conversation import checked_turns
from workbench.errors import TokenizerError
from workbench.models.chat_template import render
from workbench.models.text_decoder import TextDecoder
from workbench.models.text_encoder import TextEncoder, require_text
from workbench.models.vocabulary import Vocabulary


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
                f"{model_file} is not a SentencePiece model ({error}); download it again."
            ) from error
        self._config_file = self.directory / "tokenizer_config.json"
        self.config = self._read_config(self._config_file)
        self.special_tokens = self._find_special_tokens()
        self.vocabulary = Vocabulary(self._model, self.special_tokens)
        self._encoder = TextEncoder(self.vocabulary)
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
        return len(self.vocabulary)

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
        require_text(text)
        ids = [self.bos_token_id] if add_bos else []
        encode = self._encoder.encode_special if special else self._encoder.encode_plain
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
        return TextDecoder(self.vocabulary, skip_special, starts_text)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """One printable piece per token: bytes as "<0xE4>", special tokens by name, "▁" as " ".

        An id beyond the vocabulary has no piece and is named "<id 6174>".
        """
        return [self.vocabulary.piece(token) for token in self._checked(ids)]

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
            {
                key: value if key == "role" else self._encoder.marked(value)
                for key, value in turn.items()
            }
            for turn in checked_turns(messages, thinking)
        ]
        rendered = render(self.config, turns, add_generation_prompt, self._config_file)
        return [self.bos_token_id, *self._encoder.encode_special(rendered)]

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
            raise TokenizerError(f"{file} does not contain a JSON object; download it again.")
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
