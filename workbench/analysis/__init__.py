"""Measures: traces in, DataFrames out. Every function states its formula and its chance level.

All of them take one trace or several, most a corpus too, and `where` chooses tokens by span,
phase, array or function (`token_mask`). Results are keyed by layer and expert; experts of different
layers have nothing in common but a number.

One file a question (`load.py`, `specialisation.py`, `heads.py` …). `documents.py` turns traces into
what measures read, `tallies.py` counts, `statistics.py` and `exact_tests.py` have chance levels,
`selection.py` the tokens that count. Start with `load.py`.

May import `traces` and the leaves; no torch.
"""

from workbench.analysis.agreement import routing_agreement
from workbench.analysis.attention import attention_to
from workbench.analysis.coactivation import expert_coactivation
from workbench.analysis.decisions import (
    boundary_margin,
    churn,
    group_decisions,
    grouping_tax,
    router_entropy,
    router_profile,
    shared_share,
)
from workbench.analysis.heads import head_scores
from workbench.analysis.imbalance import (
    imbalance_distribution,
    imbalance_score,
    uniform_imbalance,
)
from workbench.analysis.load import expert_load, group_profile, load_balance, never_used
from workbench.analysis.selection import token_mask
from workbench.analysis.specialisation import (
    domain_divergence,
    domain_specialisation,
    expert_preference,
)
from workbench.analysis.transitions import expert_transitions
from workbench.analysis.vocabulary import expert_vocabulary, vocabulary_specialisation

__all__ = [
    "attention_to",
    "boundary_margin",
    "churn",
    "domain_divergence",
    "domain_specialisation",
    "expert_coactivation",
    "expert_load",
    "expert_preference",
    "expert_transitions",
    "expert_vocabulary",
    "group_decisions",
    "group_profile",
    "grouping_tax",
    "head_scores",
    "imbalance_distribution",
    "imbalance_score",
    "load_balance",
    "never_used",
    "router_entropy",
    "router_profile",
    "routing_agreement",
    "shared_share",
    "token_mask",
    "uniform_imbalance",
    "vocabulary_specialisation",
]
