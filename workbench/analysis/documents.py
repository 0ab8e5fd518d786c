"""One trace, many traces or a corpus: what the measures read, under one set of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from workbench.analysis import tallies
from workbench.analysis.selection import Where, token_mask
from workbench.errors import TraceError
from workbench.traces.documents import Documents
from workbench.traces.trace import Trace


class TraceDocuments(Documents):
    """Traces as documents; sums are made when they are asked for."""

    def __init__(
        self, traces: Sequence[Trace], labels: Sequence[str] | None = None, where: Where = None
    ) -> None:
        self.traces = require_traces(traces)
        if labels is not None and len(labels) != len(self.traces):
            raise TraceError(
                f"{len(self.traces)} traces and {len(labels)} labels of {len(set(labels))} kinds; "
                "expected one label per trace and at least two kinds."
            )
        first = self.traces[0]
        self.num_moe_layers, self.num_experts = first.num_moe_layers, first.num_experts
        self.num_groups, self.num_experts_per_tok = first.num_groups, first.num_experts_per_tok
        self.domains = None if labels is None else list(labels)
        self.masks = [token_mask(trace, where) for trace in self.traces]
        self.tokens = np.array([int(mask.sum()) for mask in self.masks])
        if not self.tokens.sum():
            raise TraceError(
                f"where={where!r} matches none of the {sum(t.num_tokens for t in self.traces)} tokens; "
                "trace.tokens() lists the span and the phase of each."
            )

    @cached_property
    def _pairs(self) -> list[tuple[Trace, np.ndarray]]:
        return list(zip(self.traces, self.masks, strict=True))

    def has(self, name: str) -> bool:
        needed = {
            "count": "selected_experts",
            "churn": "selected_experts",
            "weight": "routing_weights",
            "shared_share": "shared_norm",
        }.get(name, "router_logits")
        return all(needed in trace.arrays for trace in self.traces)

    def per_document(self, name: str) -> np.ndarray:
        if name in tallies.LOADS:
            return np.stack([tallies.load(trace, mask, name) for trace, mask in self._pairs])
        if name in tallies.DECISIONS:
            return self._decisions[name]
        if name == "shared_share":
            return self._sums(lambda *where: np.nansum(tallies.shared_share(*where)))
        assert name in ("churn", "churn_tokens"), name
        return self._sums(
            (lambda *where: tallies.churn(*where)[1].sum())
            if name == "churn"
            else (lambda *where: len(tallies.churn(*where)[0]))
        )

    def _sums(self, tally: Callable[[Trace, int, np.ndarray], float]) -> np.ndarray:
        """[document, layer]"""
        layers = range(self.num_moe_layers)
        return np.array(
            [[tally(trace, layer, mask) for layer in layers] for trace, mask in self._pairs], float
        )

    @cached_property
    def _decisions(self) -> dict[str, np.ndarray]:
        """[document, layer] sums of all `tallies.DECISIONS`, made together."""
        sums = {
            name: np.zeros((len(self.traces), self.num_moe_layers)) for name in tallies.DECISIONS
        }
        for document, (trace, mask) in enumerate(self._pairs):
            for layer in range(self.num_moe_layers):
                for name, values in tallies.decisions(trace, layer, mask).items():
                    sums[name][document, layer] = values.sum()
        return sums

    def _chosen(self, domain: str | None) -> list[tuple[Trace, np.ndarray]]:
        inside = self.in_domain(domain)
        return [pair for pair, keep in zip(self._pairs, inside, strict=True) if keep]

    def coactivation(self, domain: str | None) -> np.ndarray:
        return sum(tallies.coactivation(trace, mask) for trace, mask in self._chosen(domain))

    def coactivation_per_document(self, layer: int, domain: str | None) -> np.ndarray:
        pairs = self._chosen(domain)
        return np.stack([tallies.coactivation_of(trace, layer, mask) for trace, mask in pairs])

    def transitions(self, pairs: str, domain: str | None) -> np.ndarray:
        return sum(tallies.transitions(trace, mask, pairs) for trace, mask in self._chosen(domain))

    def imbalance(self, batch: int, devices: int, everywhere: bool) -> np.ndarray:
        return sum(
            tallies.imbalance(trace, mask, batch, devices, everywhere)
            for trace, mask in self._pairs
        )

    def vocabulary(self, minimum: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
        seen, piece_of = Counter(), {}
        for trace, mask in self._pairs:
            ids = np.asarray(trace.token_ids)[mask].tolist()
            seen.update(ids)
            piece_of.update(zip(trace.token_ids.tolist(), trace.pieces, strict=True))
        ids = np.array(sorted(i for i, n in seen.items() if n >= minimum), dtype=np.int64)
        shape = (len(ids), self.num_moe_layers, self.num_experts)
        counts = sum(
            (tallies.vocabulary(trace, mask, ids) for trace, mask in self._pairs),
            start=np.zeros(shape, dtype=np.int64),
        )
        return ids, [piece_of[i] for i in ids.tolist()], np.array([seen[i] for i in ids]), counts


Source = Trace | Sequence[Trace] | Documents


def documents(
    source: Source, labels: Sequence[str] | None = None, where: Where = None
) -> Documents:
    """What a measure reads, from a trace, several traces or a corpus.

    Raises
    ------
    TraceError
        For anything else; for traces of different models; for `where` or `labels` together with a
        corpus, whose tokens were chosen and whose documents were named when it was recorded.
    """
    if isinstance(source, Documents):
        if where is not None or labels is not None:
            raise TraceError(
                "a corpus keeps sums, not tokens: it has its own labels, and its tokens were chosen "
                "when it was recorded. Leave labels and where out, or pass traces."
            )
        return source
    return TraceDocuments([source] if isinstance(source, Trace) else source, labels, where)


def require_traces(source: Source) -> list[Trace]:
    """Traces, for measures of single tokens.

    Raises
    ------
    TraceError
        For a corpus, for a dense model's trace, and for traces whose experts differ.
    """
    if isinstance(source, Documents):
        raise TraceError(
            "a corpus keeps sums, not single tokens; wb.router_profile(corpus) has their means per "
            "layer. For single tokens pass a trace."
        )
    traces = [source] if isinstance(source, Trace) else list(source)
    if not traces or not all(isinstance(trace, Trace) for trace in traces):
        raise TraceError(
            "expected a trace, a sequence of traces or a corpus of wb.trace_corpus; "
            f"{'an empty sequence' if not traces else repr(traces[0])[:80]} was given."
        )
    shapes = {
        (t.selected_experts.shape[0], t.num_experts, t.num_groups, t.num_experts_per_tok)
        for t in traces
    }
    if len(shapes) > 1:
        raise TraceError(
            "these traces are of different models (layers, experts, groups, experts per token): "
            f"{', '.join(map(str, sorted(shapes)))}. Measure them one by one."
        )
    return traces
