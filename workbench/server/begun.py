"""The start of an answer that a server is to go on with: tokens, and the text that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan

from workbench.errors import GenerationError
from workbench.generation.steps import Step
from workbench.server.tokens import NAMED_BY_ID, ChunkReader, Vocabulary, content_of, piece


class Begun:
    """Tells tokens that were given by what the server said of them in this session.

    Parameters
    ----------
    url
        Of the server, for messages.
    """

    def __init__(self, vocabulary: Vocabulary, url: str) -> None:
        self._vocabulary, self._url = vocabulary, url

    def steps(self, begun: Sequence[int | str | Step], reader: ChunkReader) -> list[Step]:
        """Begun tokens as Steps, each with its own text; the reader goes on from them."""
        steps = []
        for place, item in enumerate(begun):
            step = self._step(item)
            text, span = reader.given(self.content(step))
            if not isinstance(item, Step):
                step = replace(step, text=text, span=span)
            elif place == len(begun) - 1:
                # Where a branch leaves, the token was exchanged, and the text is still the other's.
                step = replace(step, text=text)
            steps.append(step)
        return steps

    def _step(self, item: int | str | Step) -> Step:
        if isinstance(item, Step):
            return item
        if isinstance(item, str):
            if by_id := NAMED_BY_ID.fullmatch(item):
                return Step(int(by_id[1]), item, "", nan, (), "answer")
            token_id = self._vocabulary.learn(None, content_of(item))
            return Step(token_id, item, "", nan, (), "answer")
        known = self._vocabulary.content(item)
        if known is None:
            raise GenerationError(
                f"token {item} was not received from {self._url}; pass its Step or its piece."
            )
        return Step(item, piece(known), "", nan, (), "answer")

    def content(self, step: Step) -> bytes:
        """A token's bytes, as its piece tells them, in whatever session it came."""
        if not NAMED_BY_ID.fullmatch(step.piece):
            return content_of(step.piece)
        known = self._vocabulary.content(step.token_id)
        if known is None:
            raise GenerationError(
                f"the server identifies this token only by its id, {step.piece!r}, so no answer can continue "
                "from it; start the server without --return-tokens-as-token-ids."
            )
        return known

    def text(self, begun: Sequence[Step]) -> str:
        """What the server is to go on from: the bytes of the tokens, special ones by name."""
        return b"".join(map(self.content, begun)).decode("utf-8", errors="replace")
