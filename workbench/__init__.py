"""Pangu Workbench: look inside Huawei's Pangu language models.

>>> import workbench as wb
>>> pangu = wb.load("demo", bits=4)
>>> trace = pangu.trace("To be, or not to be")
>>> trace.selected_experts[3, 5]  # layer 3, token 5: 8 expert ids
>>> wb.expert_load(trace)
>>> wb.RoutingView(trace)

Names are imported when they are first used: reading a trace needs no torch.
"""

import logging
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load": "workbench.pangu",
    "Pangu": "workbench.pangu",
    "Sampling": "workbench.generation.sampling",
    "Prefixes": "workbench.generation.prefixes",
    "Recipe": "workbench.generation.recipe",
    "Branches": "workbench.prompts.branches",
    "open_checkpoint": "workbench.checkpoints.checkpoint",
    "Trace": "workbench.traces.trace",
    "trace_corpus": "workbench.tracing.corpus_recording",
    "RoutingCorpus": "workbench.traces.corpus",
    "import_vllm": "workbench.traces.imported",
    "import_sglang": "workbench.traces.imported",
    "import_routed_experts": "workbench.traces.imported",
    "induction_probe": "workbench.tracing.probes",
    "repeated_random_tokens": "workbench.tracing.probes",
    "expert_load": "workbench.analysis",
    "router_entropy": "workbench.analysis",
    "domain_divergence": "workbench.analysis",
    "attention_to": "workbench.analysis",
    "boundary_margin": "workbench.analysis",
    "churn": "workbench.analysis",
    "domain_specialisation": "workbench.analysis",
    "expert_coactivation": "workbench.analysis",
    "expert_preference": "workbench.analysis",
    "expert_transitions": "workbench.analysis",
    "expert_vocabulary": "workbench.analysis",
    "group_decisions": "workbench.analysis",
    "group_profile": "workbench.analysis",
    "grouping_tax": "workbench.analysis",
    "head_scores": "workbench.analysis",
    "imbalance_distribution": "workbench.analysis",
    "imbalance_score": "workbench.analysis",
    "load_balance": "workbench.analysis",
    "never_used": "workbench.analysis",
    "router_profile": "workbench.analysis",
    "routing_agreement": "workbench.analysis",
    "shared_share": "workbench.analysis",
    "token_mask": "workbench.analysis",
    "uniform_imbalance": "workbench.analysis",
    "vocabulary_specialisation": "workbench.analysis",
    "PromptMatrixView": "workbench.views",
    "RoutingView": "workbench.views",
    "AttentionView": "workbench.views",
    "HeadScoresView": "workbench.views",
    "Explorer": "workbench.views",
    "link": "workbench.views",
    "Playground": "workbench.views",
    "ComparisonView": "workbench.views",
    "connect": "workbench.server.remote",
    "History": "workbench.prompts.history",
    "Presets": "workbench.prompts.presets",
    "PromptMatrix": "workbench.prompts.prompt_matrix",
    "WorkbenchError": "workbench.errors",
    "CheckpointError": "workbench.errors",
    "TokenizerError": "workbench.errors",
    "TraceError": "workbench.errors",
    "QuantizationError": "workbench.errors",
    "GenerationError": "workbench.errors",
    "HistoryError": "workbench.errors",
    "ServerError": "workbench.errors",
}
__all__ = list(_HOMES)

# bitsandbytes announces an optional package that it does not need.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"workbench has no {name!r}; it has {', '.join(sorted(_HOMES))}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
