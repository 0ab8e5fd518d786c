"""Text becomes token ids: what is special, what is plain, and what only bytes can restore."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby
from typing import Any

from workbench.errors import TokenizerError
from workbench.models.text_decoder import TextDecoder
from workbench.models.vocabulary import SPACE, Vocabulary

MARK = "\udc80"  # half of a character: no text that can be encoded holds it


class TextEncoder:
    """Encodes stretches of text so that decoding them restores every character."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._model = vocabulary, vocabulary.model

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        names = sorted(self._vocabulary.special_tokens, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def marked(self, value: Any) -> Any:
        """A text in which no special token's name is left: a mark follows its first character."""
        if not isinstance(value, str):
            return value
        require_text(value)
        return re.sub(f"[{self._special_starts}]", rf"\g<0>{MARK}", value)

    @cached_property
    def _special_starts(self) -> str:
        return re.escape("".join(sorted({name[0] for name in self._vocabulary.special_tokens})))

    def encode_special(self, text: str, starts_text: bool = True) -> list[int]:
        """Ids of a text in which special tokens stand by name, and marks keep others plain."""
        ids: list[int] = []
        for part in self._special_pattern.split(text):
            if part in self._vocabulary.special_tokens:
                ids.append(self._vocabulary.special_tokens[part])
                starts_text = True
            else:
                ids += self.encode_plain(part.replace(MARK, ""), starts_text)
        return ids

    def encode_plain(self, text: str, starts_text: bool) -> list[int]:
        """Ids of a stretch of text, in which nothing is special; a space is put before its start."""
        if not text:
            return []
        text = " " + text if starts_text else text
        ids: list[int] = []
        # A literal "▁" would come back as a space, and a special token's name as that token.
        for part in re.split(f"({SPACE}|{self._special_pattern.pattern[1:-1]})", text):
            if part == SPACE:
                ids += self._encode_bytes(part)
            elif part in self._vocabulary.special_tokens:
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
        decoder = TextDecoder(self._vocabulary, skip_special=False, starts_text=False)
        parts = [part for token in ids for part, _ in decoder.texts(token)]
        return "".join([*parts, *(part for part, _ in decoder.rest())]) == text

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


def require_text(text: str) -> None:
    if not isinstance(text, str):
        raise TokenizerError(f"the text is a {type(text).__name__}; expected a string.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} of the text is a lone surrogate (U+{ord(text[error.start]):04X}), "
            "half of a character; remove it or read the text with the right encoding."
        ) from error
