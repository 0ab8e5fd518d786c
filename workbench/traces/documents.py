"""What every measure reads: sums over the tokens of each of several documents.

`workbench.analysis.documents.TraceDocuments` makes them from traces; a `RoutingCorpus` has them on disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from workbench.errors import TraceError

BATCH = 16  # tokens of an imbalance score; the paper's figure 2b


class Documents(ABC):
    """Sums over the tokens of each of several documents: all that most measures need.

    Attributes
    ----------
    domains : list of str or None
        One label per document.
    tokens : numpy.ndarray
        [document] int64: tokens that are counted.
    num_moe_layers, num_experts, num_groups, num_experts_per_tok : int
    """

    domains: list[str] | None
    tokens: np.ndarray
    num_moe_layers: int
    num_experts: int
    num_groups: int
    num_experts_per_tok: int

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether `per_document(name)` can be answered."""

    @abstractmethod
    def per_document(self, name: str) -> np.ndarray:
        """[document, layer, expert] for a name of `analysis.tallies.LOADS`; [document, layer] for one of
        `analysis.tallies.DECISIONS`, "shared_share", "churn" and "churn_tokens"."""

    @abstractmethod
    def coactivation(self, domain: str | None) -> np.ndarray:
        """[layer, expert, expert] tokens, of one domain or of all."""

    def coactivation_per_document(self, layer: int, domain: str | None) -> np.ndarray | None:
        """[document, expert, expert] tokens of one layer; None where only totals were kept."""
        return None

    @abstractmethod
    def transitions(self, pairs: str, domain: str | None) -> np.ndarray:
        """[layer - 1, expert, next expert], of one domain or of all."""

    @abstractmethod
    def imbalance(self, batch: int, devices: int, everywhere: bool) -> np.ndarray:
        """[layer, score * batch] batches."""

    @abstractmethod
    def vocabulary(self, minimum: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
        """ids [type], their pieces, occurrences [type], counts [type, layer, expert]; types seen
        at least `minimum` times, in the order of their ids."""

    def labels(self) -> np.ndarray:
        """[document] str; raises if documents have none or only one kind."""
        if self.domains is None or len(set(self.domains)) < 2:
            kinds = len(set(self.domains or ()))
            raise TraceError(
                f"{len(self.tokens)} documents and labels of {kinds} kinds; expected one label per "
                "trace and at least two kinds: pass labels=[…]."
            )
        return np.asarray(self.domains)

    def in_domain(self, domain: str | None) -> np.ndarray:
        """[document] bool."""
        if domain is None:
            return np.ones(len(self.tokens), dtype=bool)
        if domain not in (self.domains or ()):
            known = ", ".join(dict.fromkeys(self.domains or ())) or "none"
            raise TraceError(f"there is no domain {domain!r}; there are: {known}.")
        return np.asarray(self.domains) == domain

    def group_of(self) -> np.ndarray:
        """[expert] int: the group of each expert."""
        return np.arange(self.num_experts) // (self.num_experts // self.num_groups)
