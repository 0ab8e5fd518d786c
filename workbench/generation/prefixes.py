"""Key-value caches of what ran before, so that branches do not compute their start again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from workbench.arguments import whole_number
from workbench.errors import GenerationError
from workbench.generation.engine import Engine, Recorder


@dataclass(frozen=True, eq=False)
class Prefix:
    """What one generation left.

    Attributes
    ----------
    prompt_ids, answer_ids : tuple of int
        What the cache holds: a prompt that was read in one pass, then tokens one by one.
    cache : DynamicCache
    prompt_logits : torch.Tensor
        [1, vocabulary], float32: for the first token of an answer.
    recorder : Recorder or None
        What was recorded of these tokens.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    cache: DynamicCache
    prompt_logits: torch.Tensor
    recorder: Recorder | None = None

    @property
    def nbytes(self) -> int:
        """Memory of keys, values, logits and recording."""
        tokens = len(self.prompt_ids) + len(self.answer_ids)
        recorded = 0 if self.recorder is None else self.recorder.nbytes(tokens)
        return cache_bytes(self.cache) + self.prompt_logits.nbytes + recorded

    def shared(self, answer_ids: Sequence[int]) -> int:
        """How many tokens of an answer this one begins with."""
        count = 0
        for own, other in zip(self.answer_ids, answer_ids, strict=False):
            if own != other:
                break
            count += 1
        return count


class Prefixes:
    """What ran before, for branches: the start they share is not computed again.

    A generation that is given these uses the longest start that ran before, and leaves its own.
    The result is the same as without them, bit for bit: only a prompt that is the same to its last
    token is used again (read in one pass, a longer one rounds differently), and of its answer the
    tokens that are the same, which were run one by one as they would be again.

    Parameters
    ----------
    pangu
        The model that ran.
    max_bytes
        The most that all of it may take; what was used longest ago goes first.
    """

    def __init__(self, pangu: Engine, max_bytes: int = 2**29) -> None:
        max_bytes = whole_number("max_bytes", max_bytes, GenerationError, "a number of bytes")
        if max_bytes < 0:
            raise GenerationError(f"max_bytes is {max_bytes}; expected 0 or more.")
        self.pangu, self.max_bytes = pangu, max_bytes
        self._kept: list[Prefix] = []  # what was used last stands last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return (
            f"Prefixes({len(self)} kept, {self.nbytes / 1e6:.1f} of {self.max_bytes / 1e6:.1f} MB)"
        )

    @property
    def nbytes(self) -> int:
        """What all of it takes now."""
        return sum(prefix.nbytes for prefix in list(self._kept))

    def clear(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._kept.clear()

    def longest(
        self, prompt_ids: Sequence[int], answer_ids: Sequence[int], layers: Sequence[int] | None
    ) -> Prefix | None:
        """The one that shares most of an answer to this very prompt.

        With `layers`, only one that was recorded for the same.
        """
        with self._lock:
            found = [
                prefix
                for prefix in self._kept
                if prefix.prompt_ids == tuple(prompt_ids)
                and (
                    layers is None or (prefix.recorder and prefix.recorder.layers == tuple(layers))
                )
            ]
            if not found:
                return None
            best = max(found, key=lambda prefix: prefix.shared(answer_ids))
            self._kept.remove(best)
            self._kept.append(best)
            return best

    def add(self, prefix: Prefix) -> None:
        """Keep one more; what it holds as well goes, and what there is no room for."""
        with self._lock:
            if any(_holds(other, prefix) for other in self._kept):
                return
            kept = [other for other in self._kept if not _holds(prefix, other)]
            sizes = [other.nbytes for other in kept]
            total = sum(sizes) + prefix.nbytes
            while total > self.max_bytes and kept:
                kept.pop(0)
                total -= sizes.pop(0)
            self._kept = [*kept, prefix] if total <= self.max_bytes else kept


def first_of(cache: DynamicCache, tokens: int) -> DynamicCache:
    """A cache of the first so many tokens, which grows on its own; nothing is copied until then."""
    part = DynamicCache()
    for index, layer in enumerate(cache.layers):
        if layer.is_initialized:
            part.update(layer.keys[..., :0, :], layer.values[..., :0, :], index)
            part.layers[index].keys = layer.keys[..., :tokens, :]
            part.layers[index].values = layer.values[..., :tokens, :]
    return part


def cache_bytes(cache: DynamicCache) -> int:
    """Memory of the keys and values of all layers."""
    return sum(
        layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.is_initialized
    )


def _holds(prefix: Prefix, other: Prefix) -> bool:
    """Whether `prefix` can stand for `other` wherever that is asked for."""
    return (
        prefix.prompt_ids == other.prompt_ids
        and prefix.answer_ids[: len(other.answer_ids)] == other.answer_ids
        and (
            other.recorder is None
            or (prefix.recorder is not None and prefix.recorder.layers == other.recorder.layers)
        )
    )
