"""The Trace: everything a model did with one text, as named NumPy arrays. The house's currency.

A trace needs no torch and no checkpoint: what was recorded on one machine opens on any other.
The file is in the safetensors format, arrays plus a JSON header, and is mapped into memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import save_file

from workbench.arguments import whole_number
from workbench.errors import TraceError
from workbench.traces.trace_file import FORMAT_VERSION, KIND, ROUTING, read, require_writable

NOT_EXPORTED = {  # by serving engines
    "router_logits": "the router's scores of all experts",
    "routing_weights": "the experts' weights",
    "routed_norm": "the norm of the routed experts' output",
    "shared_norm": "the norm of the shared expert's output",
    "query": "the attention's queries",
    "key": "the attention's keys",
    "top_ids": "the model's alternatives",
    "top_logprobs": "the model's alternatives",
    "chosen_logprobs": "the tokens' probabilities",
}


@dataclass(frozen=True, eq=False)
class Trace:
    """What a model did with one text of T tokens.

    Attributes
    ----------
    arrays : dict of str to numpy.ndarray
        token_ids [token] int32;
        router_logits [moe_layer, token, expert] float32, before the softmax;
        selected_experts [moe_layer, token, slot] uint8 or int16, slot = group;
        routing_weights [moe_layer, token, slot] float32, after router_scale;
        routed_norm, shared_norm [moe_layer, token] float32, Euclidean norms of the routed experts'
        weighted sum and of the shared expert's output;
        query [layer, token, head, head_dim], key [layer, token, kv_head, head_dim], after the
        rotary embedding, float16 where it holds the model's values and else float32, only for
        `attention_layers`;
        top_ids, top_logprobs [token, rank], the model's alternatives for the token that follows
        (natural logarithm, before any sampling setting);
        chosen_logprobs [token] of the token that really followed, NaN at the last token.
    meta : dict
        Pieces, spans, model, config, receipt, sampling, versions: plain JSON values.

    Every array is also an attribute of that name. A dense model's trace has no routing arrays, and
    one without attention has no query and key; asking for them raises `TraceError`.
    """

    arrays: Mapping[str, np.ndarray]
    meta: Mapping[str, Any]

    def __getattr__(self, name: str) -> np.ndarray:
        if name.startswith("_") or name in ("arrays", "meta"):
            raise AttributeError(name)
        if name in self.arrays:
            return self.arrays[name]
        if "origin" in self.meta and name in NOT_EXPORTED:
            raise TraceError(
                f"this trace has no {name}, {NOT_EXPORTED[name]}: it was imported from "
                f"{self.meta['origin']}, which records only the chosen experts. Trace the "
                "text with the model itself, pangu.trace(…), to get it."
            )
        if name in ROUTING:
            raise TraceError(
                f"this trace has no {name}: {self.model_name} is a dense model without experts. "
                'Trace a Pangu Pro MoE model, for example wb.load("demo").'
            )
        if name in ("query", "key"):
            raise TraceError(
                f"this trace has no {name}: it was recorded with attention=None. "
                'Trace again with attention="all" or with a list of layers.'
            )
        raise AttributeError(f"a Trace has no {name!r}; it holds {', '.join(self.arrays)}")

    def __repr__(self) -> str:
        kind = f"{self.num_experts} experts in {self.num_groups} groups" if self.is_moe else "dense"
        return (
            f"Trace({self.model_name!r}, {self.num_tokens} tokens, {self.num_layers} layers, {kind}, "
            f"attention of {len(self.attention_layers)} layers, {self.nbytes / 1e6:,.2f} MB)"
        )

    # -- what it is -----------------------------------------------------------------------------

    @property
    def model_name(self) -> str:
        """What the checkpoint was called."""
        return self.meta["model_name"]

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's configuration as plain values."""
        return self.meta["config"]

    @property
    def num_tokens(self) -> int:
        """T: prompt and generated tokens together."""
        return len(self.arrays["token_ids"])

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt; what follows was generated."""
        return self.meta["prompt_length"]

    @property
    def num_layers(self) -> int:
        """Layers of the model, recorded or not."""
        return self.config["num_hidden_layers"]

    @property
    def num_heads(self) -> int:
        """Query heads of a layer; TraceError if the trace was imported without telling them."""
        return self._configured("num_attention_heads")

    @property
    def num_key_value_heads(self) -> int:
        """Key heads of a layer; each serves num_heads / num_key_value_heads query heads."""
        return self._configured("num_key_value_heads")

    @property
    def is_moe(self) -> bool:
        """Whether the model has routed experts."""
        return "selected_experts" in self.arrays

    @property
    def num_moe_layers(self) -> int:
        """Layers with routed experts; in a Pangu Pro MoE model all of them."""
        return self.selected_experts.shape[0]

    @property
    def num_experts(self) -> int:
        """E: routed experts of a layer."""
        if "router_logits" in self.arrays:
            return self.router_logits.shape[-1]
        assert self.selected_experts is not None  # a dense trace says so here
        return self.config["num_experts"]

    @property
    def num_experts_per_tok(self) -> int:
        """k: experts that each token uses."""
        return self.selected_experts.shape[-1]

    @property
    def num_groups(self) -> int:
        """M: groups of experts; 1 where the model has none."""
        return self.meta["num_groups"]

    @property
    def attention_layers(self) -> list[int]:
        """Layers whose queries and keys were recorded."""
        return list(self.meta["attention_layers"])

    @property
    def pieces(self) -> list[str]:
        """One printable piece per token."""
        return list(self.meta["pieces"])

    @property
    def text(self) -> str:
        """The text without special tokens; `offsets` counts in it."""
        return self.meta["text"]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Characters of `text` that each token covers, start and end."""
        return [(start, end) for start, end in self.meta["offsets"]]

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Stretches of tokens: {"kind": "prompt", "thinking" or "answer", "start", "end"}."""
        return [dict(span) for span in self.meta["spans"]]

    @property
    def phase(self) -> list[str]:
        """ "prompt" or "generated" for each token."""
        return [
            "prompt" if token < self.prompt_length else "generated"
            for token in range(self.num_tokens)
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    @cached_property
    def alternative_pieces(self) -> list[list[str]]:
        """The pieces of `top_ids`, [token][rank]."""
        vocabulary = self.meta["vocabulary"]
        return [[vocabulary[str(token)] for token in row] for row in self.top_ids.tolist()]

    def tokens(self) -> pd.DataFrame:
        """One row per token: id, piece, span, phase and the log-probability it was given."""
        kind = np.empty(self.num_tokens, dtype=object)
        for span in self.spans:
            kind[span["start"] : span["end"]] = span["kind"]
        logprob = np.full(self.num_tokens, np.nan)
        if "chosen_logprobs" in self.arrays:
            logprob[1:] = self.chosen_logprobs[:-1]
        return pd.DataFrame(
            {
                "token": np.arange(self.num_tokens),
                "token_id": self.arrays["token_ids"],
                "piece": self.pieces,
                "span": kind,
                "phase": self.phase,
                "logprob": logprob,
            }
        )

    # -- what it can work out -------------------------------------------------------------------

    def router_probabilities(self, layer: int) -> np.ndarray:
        """Softmax over all experts before selection, [token, expert], of one layer."""
        return softmax(self.router_logits[self._layer(layer)])

    def attention(self, layer: int, head: int, rows: Sequence[int] | None = None) -> np.ndarray:
        """Attention of one head, worked out now from its queries and keys.

        Parameters
        ----------
        layer, head
            Counted from 0; a negative number counts from the end.
        rows
            Query tokens; all of them by default.

        Returns
        -------
        [row, token] float32; each row sums to 1 and is 0 after its own token (causal):
        softmax(query · key / sqrt(head_dim)).

        Notes
        -----
        It is worked out in float32 from the recorded queries and keys, to 1e-6, and equals eager
        attention to 1e-3 in float32; in bfloat16 eager attention rounds its scores before the
        softmax, which moves its weights by up to 0.024 on the demo checkpoints given the same
        inputs of a layer, and the fused attention that the model runs does not.

        Raises
        ------
        TraceError
            If the layer was not recorded, or a number is out of range.
        """
        layer = self._layer(layer)
        queries, keys = self.query, self.key
        if layer not in self.attention_layers:
            raise TraceError(
                f"layer {layer} was not recorded; this trace has the attention of layers "
                f"{self.attention_layers}. Trace again with attention=[{layer}]."
            )
        head = _in_range("head", head, self.num_heads)
        if rows is None:
            chosen = np.arange(self.num_tokens)
        else:
            wanted = np.atleast_1d(rows).ravel().tolist()
            chosen = np.array([_in_range("row", row, self.num_tokens) for row in wanted], dtype=int)
        index = self.attention_layers.index(layer)
        key_head = head // (self.num_heads // self.num_key_value_heads)
        query = np.asarray(queries[index, :, head])[chosen]  # [row, head_dim]
        weights = np.zeros((len(chosen), self.num_tokens), dtype=np.float32)
        for block, part, _ in attention_blocks(query, keys[index, :, key_head], chosen):
            weights[block, : part.shape[1]] = part
        return weights

    def _configured(self, name: str) -> int:
        if name not in self.config:
            raise TraceError(
                f"the trace of {self.model_name} was imported with a configuration that lacks {name}; "
                "import it again with the model's whole config.json."
            )
        return self.config[name]

    def _layer(self, layer: int) -> int:
        return _in_range("layer", layer, self.num_layers)

    # -- the file -------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the trace to one file; an existing one is replaced only when all is written.

        Raises
        ------
        TraceError
            If nothing can be written there.
        """
        path = Path(path)
        header = {
            "kind": KIND,
            "format_version": str(FORMAT_VERSION),
            "meta": json.dumps(self.meta, ensure_ascii=False),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        temporary = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            require_writable(path)
            try:
                temporary.touch()
                mode = temporary.stat().st_mode  # safetensors' files are their owner's alone
                save_file(arrays, temporary, metadata=header)
                temporary.chmod(mode)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            raise TraceError(f"{path} cannot be written ({error}); choose another file.") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Open a saved trace. Arrays are mapped, not read: they cost memory when looked at.

        Raises
        ------
        TraceError
            If the file is missing, damaged, of another kind, or of a newer format.
        """
        return cls(*read(Path(path)))


def attention_blocks(
    query: np.ndarray, key: np.ndarray, tokens: np.ndarray, rows: int = 64
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Causal attention of one head, some rows at a time.

    Parameters
    ----------
    query
        [row, head_dim].
    key
        [token, head_dim].
    tokens
        [row], the token of each query; it attends to none after it.
    rows
        Worked out at once; few, so that their scores stay in the processor's cache.

    Yields
    ------
    Which rows; their weights, [row, token] float32, as far as any of them attends; and the
    logarithm of each softmax's denominator, [row] float32: a weight is
    exp(query · key / sqrt(head_dim) - that).
    """
    query = np.asarray(query, dtype=np.float32) / np.float32(math.sqrt(query.shape[-1]))
    key = np.asarray(key, dtype=np.float32)
    together = rows * max(1, 512 // rows)  # few large products: each costs a meeting of threads
    for start in range(0, len(query), rows):
        block = slice(start, min(start + rows, len(query)))
        if start % together == 0:
            products = query[start : start + together]
            products = products @ key[: int(tokens[start : start + together].max()) + 1].T
        last = tokens[block]
        low, end = int(last.min()) + 1, int(last.max()) + 1
        scores = products[start % together :][: len(last), :end]
        scores[:, low:][np.arange(low, end) > last[:, None]] = -np.inf  # what comes later
        largest = scores.max(axis=-1, keepdims=True)
        scores -= largest
        np.exp(scores, out=scores)
        total = scores.sum(axis=-1, keepdims=True)
        scores /= total
        yield block, scores, (largest + np.log(total))[:, 0]


def _in_range(what: str, number: int, size: int) -> int:
    number = whole_number(what, number, TraceError, f"a whole number below {size}")
    if not -size <= number < size:
        raise TraceError(f"{what} {number} is out of range; there are {size}, counted from 0.")
    return number % size


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    values = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True, initial=-np.inf))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
