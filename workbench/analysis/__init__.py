"""Measures: traces in, DataFrames out. Every function states its formula and its chance level."""

from workbench.analysis.attention import attention_to
from workbench.analysis.routing import domain_divergence, expert_load, router_entropy

__all__ = ["attention_to", "domain_divergence", "expert_load", "router_entropy"]
