"""Token ids become text, one by one."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from workbench.models.vocabulary import Vocabulary


class TextDecoder:
    """The text of tokens one by one, as they come; what `PanguTokenizer.decode` gives for all.

    Parameters
    ----------
    vocabulary
    skip_special, starts_text
        As for `PanguTokenizer.decode`.

    Attributes
    ----------
    waiting : int
        Byte tokens so far of a character that is not complete.
    """

    def __init__(self, vocabulary: Vocabulary, skip_special: bool, starts_text: bool) -> None:
        self._vocabulary, self._skip_special = vocabulary, skip_special
        self._starts = starts_text  # the next text has a space in front that `encode` put there
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self.waiting = 0

    def push(self, token: int) -> str:
        """What becomes readable with this token: nothing in the middle of a character."""
        return "".join(text for text, _ in self.texts(token))

    def texts(self, token: int) -> Iterator[tuple[str, int]]:
        """The same in parts, each with the number of tokens that make it up."""
        vocabulary = self._vocabulary
        if token in vocabulary.byte_values:
            self.waiting += 1
            self._starts = False
            text = self._utf8.decode(vocabulary.byte_values[token])
            if text:
                yield text, self.waiting
                self.waiting = 0
            return
        yield from self.rest()
        text = vocabulary.piece(token)
        if token in vocabulary.special_names or token >= vocabulary.num_pieces:
            yield "" if self._skip_special else text, 1
            self._starts = self._starts or token in vocabulary.special_names
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
