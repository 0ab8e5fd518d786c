"""One or more traces as one row of tokens: what the routing view counts, and what it sends."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from workbench.analysis.router import margins, uses
from workbench.analysis.statistics import entropy
from workbench.errors import TraceError
from workbench.traces.trace import Trace, softmax

OPTIONAL = ("router_logits", "routing_weights", "chosen_logprobs", "router_scale")
# Pieces that are names and not what a token says; `search.js` has the same patterns.
NAME = re.compile(r"\[unused[0-9]+\]|<(s|/s|unk|pad|id [0-9]+|0x[0-9A-F]{2})>|<\|[^|]*\|>:?")
BYTE = re.compile(r"<0x([0-7][0-9A-F])>")  # that is a character
ASKED = re.compile(r"\[unused|<[a-z0-9/|]", re.IGNORECASE)


@dataclass
class Document:
    """One text: what its tokens are, and their arrays [moe_layer, token, …] in pieces."""

    label: str
    model_name: str
    pieces: list[str] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    prompt_length: int = 0
    surprisal_bits: np.ndarray | None = None  # [token], NaN where unknown
    router_scale: np.ndarray | None = None  # [moe_layer, expert]
    parts: list[Mapping[str, np.ndarray]] = field(default_factory=list)

    @classmethod
    def of(cls, trace: Trace, label: str) -> Document:
        """The document that a trace holds."""
        tokens = len(trace.arrays["selected_experts"][0])
        logprobs, surprisal = trace.arrays.get("chosen_logprobs"), None
        if logprobs is not None:
            before = np.concatenate([[np.nan], np.asarray(logprobs[:-1], dtype=np.float64)])
            surprisal = -before / np.log(2)
        scale = trace.meta.get("router_scale")
        return cls(
            label,
            trace.model_name,
            list(trace.meta.get("pieces") or [str(token) for token in range(tokens)]),
            list(trace.meta.get("spans") or [{"kind": "prompt", "start": 0, "end": tokens}]),
            trace.meta.get("prompt_length", tokens),
            surprisal,
            np.asarray(scale, dtype=np.float32) if scale else None,
            [trace.arrays],
        )


class Routing:
    """Documents side by side on one axis of tokens.

    Attributes
    ----------
    documents : list of Document
    layers, slots, experts, groups : int
        Slots are the experts of a token.
    """

    def __init__(
        self, documents: list[Document], layers: int, slots: int, experts: int, groups: int
    ) -> None:
        self.documents = documents
        self.layers, self.slots, self.experts, self.groups = layers, slots, experts, groups

    @classmethod
    def of(cls, traces: Sequence[Trace], labels: Sequence[str]) -> Routing:
        """Join traces of the same architecture."""
        shapes = [_shape(trace) for trace in traces]
        for trace, shape in zip(traces, shapes, strict=True):
            if shape != shapes[0]:
                words = "{} layers, {} slots, {} experts, {} groups"
                raise TraceError(
                    f"{trace.model_name} has {words.format(*shape)} and {traces[0].model_name} has "
                    f"{words.format(*shapes[0])}; only traces of the same shape can be shown side by side."
                )
        documents = [Document.of(trace, str(label)) for trace, label in zip(traces, labels)]  # noqa: B905
        return cls(documents, *shapes[0])

    @cached_property
    def _choices(self) -> tuple[np.ndarray, np.ndarray | None, int]:
        chosen = [
            np.asarray(part["selected_experts"]).astype(np.int16).swapaxes(0, 1)
            for document in self.documents
            for part in document.parts
        ]
        empty = np.zeros((0, self.layers, self.slots), dtype=np.int16)
        raw = np.concatenate([empty, *chosen])
        ordered = np.sort(raw, axis=-1)
        expected = np.arange(self.slots, dtype=np.int16) // max(1, self.slots // self.groups)
        if self.slots % self.groups or (ordered // (self.experts // self.groups) != expected).any():
            return raw, None, 1
        # Serving engines list a token's experts by rank: bring them into the order of the groups.
        order = np.argsort(raw, axis=-1) if (raw != ordered).any() else None
        return ordered, order, self.groups

    @property
    def chosen(self) -> np.ndarray:
        """[token, layer, slot] expert ids; slot = group where `grouped`."""
        return self._choices[0]

    @property
    def obeyed_groups(self) -> int:
        """Groups of which every token uses equally many experts; 1 where choices break them."""
        return self._choices[2]

    @property
    def grouped(self) -> bool:
        """Whether every token uses exactly one expert of each group."""
        return self.obeyed_groups == self.slots

    def append(self, pieces: Sequence[str], arrays: Mapping[str, np.ndarray]) -> None:
        """Add tokens to the last document; arrays are [moe_layer, new token, …]."""
        document = self.documents[-1]
        document.pieces += pieces
        document.parts.append(arrays)
        self.__dict__.pop("_choices", None)  # worked out again when next asked for

    # -- tokens ---------------------------------------------------------------------------------

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return sum(len(document.pieces) for document in self.documents)

    @property
    def starts(self) -> list[int]:
        """Where each document begins on the joined axis."""
        lengths = [len(document.pieces) for document in self.documents]
        return [int(start) for start in np.cumsum([0, *lengths[:-1]])]

    @property
    def pieces(self) -> list[str]:
        """Of all tokens."""
        return [piece for document in self.documents for piece in document.pieces]

    @property
    def labels(self) -> list[str]:
        """Each label once, in the order of the documents."""
        return list(dict.fromkeys(document.label for document in self.documents))

    def column(self, what: str) -> np.ndarray:
        """ "document", "label", "token", "span" or "phase" of every token."""
        values: list[Any] = []
        for number, document in enumerate(self.documents):
            size = len(document.pieces)
            if what == "document":
                values += [number] * size
            elif what == "label":
                values += [document.label] * size
            elif what == "token":
                values += range(size)
            elif what == "phase":
                values += ["prefill" if t < document.prompt_length else "decode" for t in range(size)]  # fmt: skip
            else:
                kinds = ["prompt"] * size
                for span in document.spans:
                    kinds[span["start"] : span["end"]] = [span["kind"]] * (
                        span["end"] - span["start"]
                    )
                values += kinds
        return np.array(values)

    def surprisal_bits(self) -> np.ndarray:
        """-log2 of the probability each token was given; NaN where unknown."""
        parts = [
            np.full(len(document.pieces), np.nan)
            if document.surprisal_bits is None
            else document.surprisal_bits
            for document in self.documents
        ]
        return np.concatenate([np.empty(0), *parts])

    def mask(self, domain: str, span: str, phase: str, search: str) -> np.ndarray:
        """Which tokens pass all filters, [token] bool."""
        keep = np.ones(self.num_tokens, dtype=bool)
        if domain != "all":
            keep &= self.column("label") == domain
        if span != "all":
            keep &= self.column("span") == span
        if phase != "all":
            keep &= self.column("phase") == phase
        if search:
            found = matcher(search)
            keep &= np.array([found(piece) for piece in self.pieces], dtype=bool)
        return keep

    def counts(self, keep: np.ndarray) -> np.ndarray:
        """Uses of every expert by the kept tokens, [layer, expert]."""
        chosen = self.chosen[keep]
        return np.stack([uses(chosen[:, layer], self.experts) for layer in range(self.layers)])

    # -- numbers that need more than the choices ------------------------------------------------

    def missing(self) -> list[str]:
        """Of the optional arrays, those that not every document has."""
        absent = []
        for name in OPTIONAL:
            for document in self.documents:
                if name == "router_scale":
                    there = document.router_scale is not None
                elif name == "chosen_logprobs":
                    there = document.surprisal_bits is not None
                else:
                    there = all(name in part for part in document.parts)
                if not there:
                    absent.append(name)
                    break
        return absent

    def weights(self, layer: int) -> np.ndarray | None:
        """Routing weights after router_scale, [token, slot] float32."""
        values = self._joined("routing_weights", layer, self.slots)
        if values is None or self._choices[1] is None:
            return values
        return np.take_along_axis(values, self._choices[1][:, layer], -1)

    def probabilities(self, layer: int, start: int = 0, stop: int | None = None) -> np.ndarray | None:  # fmt: skip
        """Softmax over all experts before selection, [token, expert]."""
        logits = self._joined("router_logits", layer, self.experts, start, stop)
        return None if logits is None else softmax(logits)

    def entropy(self, probability: np.ndarray) -> np.ndarray:
        """H(p) / ln E of each token, [token]."""
        return entropy(probability) / np.log(self.experts)

    def margins(self, layer: int, probability: np.ndarray) -> np.ndarray:
        """Lead of each chosen expert over the best one not chosen in its group, [token, slot]."""
        return margins(probability, self.chosen[:, layer].astype(int), self.obeyed_groups)

    def _joined(
        self, name: str, layer: int, width: int, start: int = 0, stop: int | None = None
    ) -> np.ndarray | None:
        parts = [part for document in self.documents for part in document.parts]
        if not all(name in part for part in parts):
            return None
        rows, before = [np.zeros((0, width), dtype=np.float32)], 0
        stop = self.num_tokens if stop is None else stop
        for part in parts:
            array = part[name]
            size = array.shape[1]
            if before < stop and start < before + size:
                cut = slice(max(0, start - before), max(0, stop - before))
                rows.append(np.asarray(array[layer, cut], dtype=np.float32))
            before += size
        return np.concatenate(rows)


def matcher(search: str) -> Callable[[str], bool]:
    """A test of pieces: /…/ is a regular expression, anything else a text, in any case.

    It looks at what tokens say; names of special tokens and bytes, such as "[unused9]" and "<0x0A>",
    are looked at only if "[unused" stands in the search, or "<" before a letter, a digit, "/" or "|".
    """
    if len(search) > 2 and search.startswith("/") and search.endswith("/"):
        try:
            test = re.compile(search[1:-1], re.ASCII).search
        except re.error as error:
            raise TraceError(
                f"search {search} is not a regular expression ({error}); expected a text, or a "
                "pattern between slashes such as /[0-9]/."
            ) from error
    else:
        wanted = search.lower()

        def test(text: str) -> Any:
            return wanted in text.lower()

    asked = ASKED.search(search)

    def found(piece: str) -> bool:
        said = _said(piece)
        return bool((said is not None and test(said)) or (asked and test(piece)))

    return found


def _said(piece: str) -> str | None:
    """What a token says; None for a special token and for a byte that is no character."""
    if byte := BYTE.fullmatch(piece):
        return chr(int(byte[1], 16))
    return None if NAME.fullmatch(piece) else piece


def _shape(trace: Trace) -> tuple[int, int, int, int]:
    if "selected_experts" not in trace.arrays:
        raise TraceError(
            f"{trace.model_name} is a dense model without experts; RoutingView needs the trace "
            'of a Pangu Pro MoE model, for example wb.load("demo").trace("…").'
        )
    chosen = trace.arrays["selected_experts"]
    layers, _, slots = chosen.shape
    if "router_logits" in trace.arrays:
        experts = trace.arrays["router_logits"].shape[-1]
    else:
        experts = trace.config.get("num_experts") or int(np.asarray(chosen).max()) + 1
    groups = trace.meta.get("num_groups") or 1
    return layers, slots, experts, groups if experts % groups == 0 else 1
