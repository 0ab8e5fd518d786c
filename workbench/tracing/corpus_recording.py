"""Fills a corpus: reads many documents, keeps sums, and goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.analysis.selection import token_mask
from workbench.checkpoints.reading import DTYPES
from workbench.checkpoints.shards import TensorInfo
from workbench.conversation import Prompt
from workbench.errors import TraceError
from workbench.generation.threads import let_go
from workbench.traces.corpus import FORMAT_VERSION, KIND, RoutingCorpus
from workbench.traces.trace import Trace
from workbench.tracing.corpus_folder import CorpusFolder
from workbench.tracing.engine import TracedEngine
from workbench.tracing.recording import recording

WINDOW = 4096
SAVE_SECONDS = 10  # at most so much work is lost when the process is killed


def trace_corpus(
    pangu: TracedEngine,
    texts_by_domain: Mapping[str, Sequence[Prompt]],
    folder: str | Path,
    window: int | None = None,
    where: str | None = None,
    vocabulary: int = 2000,
    save_seconds: float = SAVE_SECONDS,
) -> RoutingCorpus:
    """Read many documents and keep the sums that routing measures are made of.

    No query, key or single token is kept: memory and disk grow with the number of documents (16
    bytes per expert and layer each) and not with the number of tokens. Call it again with the same
    arguments to go on after an interruption of any kind: documents that were finished are kept,
    but for those of the last `save_seconds` where the process was killed. The document that was
    being read is read again from its beginning, however long it is.

    Parameters
    ----------
    texts_by_domain
        Domain → documents, each a text, token ids or messages; see `Pangu.encode`.
    folder
        Where the corpus is kept; see `RoutingCorpus.load`.
    window
        Tokens read at once; by default 4,096, or the model's context if that is shorter. A longer
        document is cut into windows that do not see each other; if it starts with the token for
        the beginning of a text, so does every window, uncounted. A warning says how many were cut.
    where
        A word of `token_mask`, such as "thinking": which tokens are counted.
    vocabulary
        For `vocabulary_specialisation`, at most so many token types, the most frequent ones.

    Raises
    ------
    TraceError
        For a dense model, no documents, a window longer than the context, a folder that was made
        with another model, other texts or other settings, or a disk that is full: the room for all
        documents' rows is taken at the beginning, where the system can.
    """
    config = pangu.config
    context = config.max_position_embeddings
    window = min(WINDOW, context) if window is None else window
    if not hasattr(config, "num_experts"):
        raise TraceError(f"{pangu.name} is a dense model without experts; nothing to count.")
    if not 2 <= window <= context:
        raise TraceError(f"window is {window}; expected 2 to {context}, the model's context.")
    for name, texts in texts_by_domain.items():
        if isinstance(texts, str | bytes):
            raise TraceError(
                f"the documents of {name!r} are one text; expected a list of texts: "
                f'{{{name!r}: ["text", …], …}}.'
            )
    domains = [name for name, texts in texts_by_domain.items() for _ in texts]
    if not domains or not all(isinstance(name, str) for name in domains):
        raise TraceError(
            'no documents; expected {"domain": ["text", …], …} with at least one text.'
        )
    ids = [
        np.array(pangu.encode(text), dtype=np.int32)
        for texts in texts_by_domain.values()
        for text in texts
    ]
    masks = [_mask(pangu, document, where) for document in ids]
    if not any(mask.any() for mask in masks):
        raise TraceError(f"where={where!r} matches none of the {sum(map(len, ids))} tokens.")
    if cut := sum(len(document) > window for document in ids):
        warnings.warn(
            f"{cut} of {len(ids)} documents are longer than {window} tokens and are read in "
            "separate windows.",
            stacklevel=2,
        )
    types = _frequent(ids, masks, vocabulary)
    settings = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "model_name": pangu.name,
        "fingerprints": {
            "model": _model_fingerprint(pangu),
            "texts": _text_fingerprint(domains, ids),
            "settings": f"window={window}, where={where}, vocabulary={vocabulary}",
        },
        "window": window,
        "where": where,
        "num_moe_layers": config.num_hidden_layers,
        "num_experts": config.num_experts,
        "num_groups": config.num_groups,
        "num_experts_per_tok": config.num_experts_per_tok,
        "domains": domains,
        "vocabulary": types,
        "pieces": pangu.tokenizer.pieces(types),
    }
    folder = Path(folder)
    unfinished = CorpusFolder(folder, settings, save_seconds)
    bar = tqdm(total=sum(map(len, ids)), desc="reading", unit="token", unit_scale=True)
    try:
        bar.update(sum(map(len, ids[: unfinished.done])))
        for document, mask in zip(ids[unfinished.done :], masks[unfinished.done :], strict=True):
            windows = _windows(document, mask, window, config)
            unfinished.add(_read(pangu, *part) for part in _followed(windows, len(document), bar))
    finally:
        bar.close()
        unfinished.save()
        let_go()
    return RoutingCorpus.load(folder)


# -- reading ------------------------------------------------------------------------------------


def _mask(pangu: TracedEngine, ids: np.ndarray, where: str | None) -> np.ndarray:
    """[token] bool"""
    if where is not None and not isinstance(where, str):
        raise TraceError("where must be a word here, such as 'thinking'; see wb.token_mask.")
    if where is None:
        return np.ones(len(ids), dtype=bool)
    spans = pangu.tokenizer.spans(ids.tolist(), len(ids))
    meta = {"model_name": pangu.name, "spans": spans, "prompt_length": len(ids)}
    return token_mask(Trace({"token_ids": ids}, meta), where)


def _frequent(ids: list[np.ndarray], masks: list[np.ndarray], most: int) -> list[int]:
    """The most frequent token types of all documents, sorted by id; none that is seen once."""
    seen = Counter()
    for document, mask in zip(ids, masks, strict=True):
        types, counts = np.unique(document[mask], return_counts=True)
        seen.update(dict(zip(types.tolist(), counts.tolist(), strict=True)))
    return sorted(token for token, count in seen.most_common(most) if count > 1)


def _windows(
    ids: np.ndarray, mask: np.ndarray, window: int, config: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids and mask of each window; later ones begin with the document's first token if it is BOS."""
    begins = ids[:1] if ids[0] == config.bos_token_id else ids[:0]
    parts, start = [], 0
    while start < len(ids):
        opening = begins if start else ids[:0]
        end = start + window - len(opening)
        uncounted = np.zeros(len(opening), dtype=bool)
        part = np.concatenate([opening, ids[start:end]])
        parts.append((part, np.concatenate([uncounted, mask[start:end]])))
        start = end
    return parts


def _followed(
    windows: list[tuple[np.ndarray, np.ndarray]], tokens: int, bar: tqdm
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The windows of a document of so many tokens; the bar moves as each has been read."""
    for number, window in enumerate(windows, 1):
        yield window
        bar.update(tokens * number // len(windows) - tokens * (number - 1) // len(windows))


def _read(pangu: TracedEngine, ids: np.ndarray, mask: np.ndarray) -> tuple[Trace, np.ndarray]:
    """Run one window; the trace has routing alone."""
    layers = range(pangu.config.num_hidden_layers)
    with pangu.computing(), recording(pangu.model, []) as record:
        pangu.model.model(
            torch.tensor(ids[None].astype(np.int64), device=pangu.device), use_cache=False
        )
        arrays = {
            name: record.stacked(name, layers).float().numpy()
            for name in ("router_logits", "routing_weights", "routed_norm", "shared_norm")
        }
        arrays["selected_experts"] = record.stacked("selected_experts", layers).numpy()
    config = {"num_hidden_layers": len(layers), "num_experts": pangu.config.num_experts}
    meta = {"model_name": pangu.name, "num_groups": pangu.config.num_groups, "config": config}
    return Trace(arrays | {"token_ids": ids}, meta), mask


# -- what it was made of ------------------------------------------------------------------------


def _model_fingerprint(pangu: TracedEngine) -> str:
    """Of the checkpoint's files, the configuration, the precision, and weights changed since loading.

    The same for a model in memory and for one that stays on disk. Quantized weights are not looked
    at: they change their layout when a model runs.
    """
    digest = hashlib.sha256(repr((pangu.fingerprint, pangu.bits, pangu.quant_type)).encode())
    digest.update(json.dumps(pangu.config.to_dict(), sort_keys=True, default=str).encode())
    if pangu.streaming is None:
        for name, weight in pangu.model.named_parameters():
            info = pangu.checkpoint.tensors.get(name)
            if weight.is_floating_point() and info is not None:
                some = _some(weight.detach().flatten(), weight.numel()).cpu()
                if not torch.equal(some, _some_stored(info).to(some.dtype)):
                    digest.update(name.encode() + some.float().numpy().tobytes())
    return digest.hexdigest()


def _some(values: Any, count: int) -> Any:
    """About 256 of so many values, at equal distances."""
    return values[:: max(1, count // 256)]


def _some_stored(info: TensorInfo) -> torch.Tensor:
    count = math.prod(info.shape)
    content = np.memmap(info.file, np.uint8, "r", info.offset, (count, info.nbytes // count))
    return torch.from_numpy(np.array(_some(content, count))).view(DTYPES[info.dtype]).flatten()


def _text_fingerprint(domains: list[str], ids: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for domain, document in zip(domains, ids, strict=True):
        digest.update(f"{domain}\0{len(document)}\0".encode())
        digest.update(document.astype("<i4").tobytes())
    return digest.hexdigest()
