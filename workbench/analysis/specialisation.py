"""Whether experts prefer kinds of text: shares, lifts and divergences between domains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import factorial, prod

import numpy as np
import pandas as pd

from workbench.analysis.documents import Source, TraceDocuments, documents, require_traces
from workbench.analysis.selection import Where, token_mask
from workbench.analysis.statistics import MINIMUM_EXPECTED, bootstrap, entropy
from workbench.arguments import whole_number
from workbench.errors import TraceError
from workbench.traces.trace import Trace


def domain_specialisation(
    source: Source,
    labels: Sequence[str] | None = None,
    where: Where = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Which share of a domain's tokens uses an expert, and how far that is from the other domains.

    Parameters
    ----------
    labels
        One domain per trace; at least two kinds. A corpus has its own.

    Returns
    -------
    One row per (layer, expert, domain): count N(e,D); tokens N(D); share N(e,D) / N(D), with its
    interval over the domain's documents share_low and share_high (NaN for fewer than 5); chance
    k / E; lift log2 [P(e|D) / P(e)], where P(e) is the mean over domains, each weighing the same,
    and every count has +0.5 (so has its complement: P(e|D) = (N(e,D) + 0.5) / (N(D) + 1)); 0 is no
    preference; with its interval lift_low and lift_high (NaN if any domain has fewer than 5); enough, whether uniform routing would give
    the expert at least 5 tokens of this domain.

    Source: Muennighoff et al., OLMoE (arXiv 2409.02060), section 5.3, for the share; figure 7 of
    arXiv 2505.21411 draws it.
    """
    found = documents(source, labels, where)
    label = found.labels()
    names = list(dict.fromkeys(label.tolist()))
    count = found.per_document("count")  # [document, layer, expert]
    tokens = found.tokens.astype(float)
    inside = np.stack([label == name for name in names])  # [domain, document]

    total = np.tensordot(inside.astype(float), count, 1)  # [domain, layer, expert]
    size = inside @ tokens  # [domain]
    chance = found.num_experts_per_tok / found.num_experts
    frames = []
    for layer in range(found.num_moe_layers):
        parts = [count[:, layer] * mask[:, None] for mask in inside]
        sizes = [tokens * mask for mask in inside]

        def lift(*sums: np.ndarray) -> np.ndarray:
            """[draw, domain, expert]"""
            return _lift(np.stack(sums[: len(names)], 1), np.stack(sums[len(names) :], 1))

        low, high = bootstrap(lift, *parts, *sizes, strata=label, confidence=confidence)
        shares = [  # a domain's share needs no other domain
            bootstrap(_share, count[mask, layer], tokens[mask], confidence=confidence)
            for mask in inside
        ]
        share_low, share_high = np.stack(shares, 1)  # [domain, expert]
        experts = found.num_experts
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "expert": np.repeat(np.arange(experts), len(names)),
                    "group": np.repeat(found.group_of(), len(names)),
                    "domain": np.tile(names, experts),
                    "count": total[:, layer].T.ravel().astype(int),
                    "tokens": np.tile(size.astype(int), experts),
                    "share": (total[:, layer] / np.maximum(1, size[:, None])).T.ravel(),
                    "share_low": share_low.T.ravel(),
                    "share_high": share_high.T.ravel(),
                    "chance": chance,
                    "lift": _lift(total[None, :, layer], size[None])[0].T.ravel(),
                    "lift_low": low.T.ravel(),
                    "lift_high": high.T.ravel(),
                    "enough": np.tile(size * chance >= MINIMUM_EXPECTED, experts),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _share(count: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """[draw, expert]; count of that shape, tokens [draw]."""
    return count / np.maximum(1, tokens)[:, None]


def _lift(count: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """[draw, domain, expert] log2 lift; count of that shape, tokens [draw, domain]."""
    probability = (count + 0.5) / (tokens[..., None] + 1)
    return np.log2(probability / probability.mean(1, keepdims=True))


def domain_divergence(
    source: Source,
    labels: Sequence[str] | None = None,
    permutations: int = 200,
    seed: int = 0,
    where: Where = None,
    pairwise: bool = False,
) -> pd.DataFrame:
    """How differently domains use the experts: Jensen-Shannon divergence per layer, in bits.

    Parameters
    ----------
    source, labels
        Traces with one label each (a trace is a document) and at least two different labels, or a
        corpus.
    permutations
        How often labels are shuffled over documents for the chance level.
    pairwise
        Compare every two domains instead of all together.

    Returns
    -------
    One row per layer, with `pairwise` per (layer, domain, other): divergence_bits H(mean of P_d) - mean of H(P_d), with P_d the load share of
    domain d and domains weighted equally; shuffled_bits, its mean under shuffled labels;
    shuffled_95_bits, their 95 % quantile; p_value, the share of shuffles (and of the true labels)
    that reach it: (1 + n) / (1 + permutations); enough, whether the documents can be shared out in
    at least 20 ways: with fewer, no p_value of 0.05 is possible.

    Raises
    ------
    TraceError
        If lengths differ, there are fewer than two labels, or `permutations` is not 1 or more.

    Source: Lin, Divergence measures based on the Shannon entropy (1991).
    """
    _require_permutations(permutations)
    found = documents(source, labels, where)
    label = found.labels()
    counts = found.per_document("count")  # [document, layer, expert]
    if not pairwise:
        return _tested(counts, label, permutations, seed)
    frames = []
    for domain, other in combinations(dict.fromkeys(label.tolist()), 2):
        both = (label == domain) | (label == other)
        frame = _tested(counts[both], label[both], permutations, seed)
        frame.insert(1, "domain", domain)
        frame.insert(2, "other", other)
        frames.append(frame)
    return pd.concat(frames).sort_values("layer", kind="stable", ignore_index=True)


def _require_permutations(permutations: int) -> None:
    expected = "1 or more, which the chance level is computed from"
    if whole_number("permutations", permutations, TraceError, expected) < 1:
        raise TraceError(f"permutations is {permutations}; expected {expected}.")


def _tested(counts: np.ndarray, label: np.ndarray, permutations: int, seed: int) -> pd.DataFrame:
    """The divergence per layer beside that of shuffled labels; counts [document, layer, expert]."""
    value = _divergence(counts, label)
    random = np.random.default_rng(seed)
    shuffled = np.stack(
        [_divergence(counts, random.permutation(label)) for _ in range(permutations)]
    )
    return pd.DataFrame(
        {
            "layer": np.arange(counts.shape[1]),
            "divergence_bits": value,
            "shuffled_bits": shuffled.mean(0),
            "shuffled_95_bits": np.quantile(shuffled, 0.95, axis=0),
            "p_value": (1 + (shuffled >= value - 1e-12).sum(0)) / (1 + permutations),
            "enough": _arrangements(label) >= 20,
        }
    )


def _arrangements(label: np.ndarray) -> int:
    """Ways to share documents out among domains; domains of the same size may change places."""
    sizes = np.unique(label, return_counts=True)[1].tolist()
    ways = factorial(sum(sizes)) // prod(map(factorial, sizes))
    return ways // prod(factorial(sizes.count(size)) for size in set(sizes))


def _divergence(counts: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Per layer, in bits; counts [document, layer, expert]."""
    domains = np.stack([counts[label == name].sum(0) for name in np.unique(label)])
    shares = domains / np.maximum(1, domains.sum(-1, keepdims=True))  # [domain, layer, expert]
    return (entropy(shares.mean(0)) - entropy(shares).mean(0)) / np.log(2)


def expert_preference(
    source: Trace | Sequence[Trace], where: Where, permutations: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Which experts the tokens of one kind prefer over all other tokens of the same traces.

    Parameters
    ----------
    where
        The tokens in question, for example "thinking", or digits:
        ``lambda trace: np.array([piece.strip().isdigit() for piece in trace.pieces])``.
    permutations
        For the chance level: within each trace the mask is turned round by a random number of
        tokens, so that its stretches stay as long as they are.

    Returns
    -------
    One row per (layer, expert), largest lift of a layer first: group; count N(e) inside; tokens
    inside; share, of the tokens inside that use the expert; share_outside; chance k / E; lift
    log2 of share / share_outside with +0.5 on every count; shuffled_95, the 95 % quantile of the
    layer's largest lift under shuffled masks (one threshold for all E experts: it accounts for
    looking at all of them); beyond_chance, lift > shuffled_95; enough, whether uniform routing would
    give the expert at least 5 tokens inside.

    Raises
    ------
    TraceError
        If `permutations` is not 1 or more.

    Source: the lift of `domain_specialisation`, between two kinds of tokens; one threshold for the
    largest of all experts: Westfall and Young, Resampling-Based Multiple Testing (1993).
    """
    _require_permutations(permutations)
    traces = require_traces(source)
    masks = [token_mask(trace, where) for trace in traces]
    found = TraceDocuments(traces, where=where)
    used = [_used(trace) for trace in traces]  # [layer, token, expert] each
    whole = sum(part.sum(1, dtype=float) for part in used)  # [layer, expert]
    tokens = float(found.tokens.sum())
    others = sum(trace.num_tokens for trace in traces) - tokens

    def lift(chosen: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        inside = sum(
            mask.astype(np.float32) @ part for mask, part in zip(chosen, used, strict=True)
        )
        above = (inside + 0.5) / (tokens + 1)
        return inside, np.log2(above / ((whole - inside + 0.5) / (others + 1)))

    inside, value = lift(masks)
    random = np.random.default_rng(seed)
    largest = np.stack(
        [
            lift([np.roll(mask, random.integers(len(mask))) for mask in masks])[1].max(-1)
            for _ in range(permutations)
        ]
    )  # [permutation, layer]
    layers, experts = value.shape
    threshold = np.quantile(largest, 0.95, axis=0)
    chance = found.num_experts_per_tok / experts
    frame = pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), experts),
            "expert": np.tile(np.arange(experts), layers),
            "group": np.tile(found.group_of(), layers),
            "count": inside.ravel().round().astype(int),
            "tokens": int(tokens),
            "share": (inside / tokens).ravel(),
            "share_outside": ((whole - inside) / max(1.0, others)).ravel(),
            "chance": chance,
            "lift": value.ravel(),
            "shuffled_95": np.repeat(threshold, experts),
            "beyond_chance": (value > threshold[:, None]).ravel(),
            "enough": tokens * chance >= MINIMUM_EXPECTED,
        }
    )
    return frame.sort_values(["layer", "lift"], ascending=[True, False], ignore_index=True)


def _used(trace: Trace) -> np.ndarray:
    """[layer, token, expert] float32: 1 where the token uses the expert."""
    chosen = np.asarray(trace.selected_experts).astype(np.int64)
    used = np.zeros((*chosen.shape[:2], trace.num_experts), dtype=np.float32)
    np.put_along_axis(used, chosen, 1, axis=-1)
    return used
