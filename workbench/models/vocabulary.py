"""What every token id stands for: a piece of text, a byte, or a special token."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import sentencepiece

SPACE = "▁"  # how SentencePiece writes a space


class Vocabulary:
    """The pieces of a SentencePiece model, and special tokens beyond them.

    Attributes
    ----------
    model : sentencepiece.SentencePieceProcessor
    special_tokens : mapping of str to int
        Name → id.
    num_pieces : int
        Ids from here on are not the model's.
    """

    def __init__(
        self, model: sentencepiece.SentencePieceProcessor, special_tokens: Mapping[str, int]
    ) -> None:
        self.model, self.special_tokens = model, special_tokens
        self.num_pieces = model.get_piece_size()

    def __len__(self) -> int:
        return max(self.num_pieces, 1 + max(self.special_tokens.values(), default=0))

    @cached_property
    def special_names(self) -> dict[int, str]:
        """Id → name of the special tokens."""
        return {token: name for name, token in self.special_tokens.items()}

    @cached_property
    def byte_values(self) -> dict[int, bytes]:
        """Byte tokens and what they stand for."""
        return {
            token: bytes([int(self.model.id_to_piece(token)[3:5], 16)])
            for token in range(self.num_pieces)
            if self.model.is_byte(token) and token not in self.special_names
        }

    def piece(self, token: int) -> str:
        """The printable piece of an id; one beyond the vocabulary is named "<id 6174>"."""
        if token < self.num_pieces:
            return self._pieces[token]
        return self.special_names.get(token, f"<id {token}>")

    @cached_property
    def _pieces(self) -> list[str]:
        """The printable piece of every id of the SentencePiece model, worked out once."""
        ids = list(range(self.num_pieces))
        return [
            self.special_names.get(token) or piece.replace(SPACE, " ")
            for token, piece in zip(ids, self.model.id_to_piece(ids), strict=True)
        ]
