"""The tree of branches as the history keeps it: which branch is which entry, and what left the tree."""

from __future__ import annotations

from workbench.errors import WorkbenchError
from workbench.prompts.branches import Branch, Branches
from workbench.prompts.history import History
from workbench.views.playground.messages import local_time


class KeptBranches:
    """Writes what becomes of branches into a history, and brings trees back from it.

    Parameters
    ----------
    history
        None keeps nothing.
    """

    def __init__(self, branches: Branches, history: History | None) -> None:
        self._branches, self._history = branches, history
        self._entries: dict[int, str] = {}  # by branch: its id in the history
        self._names: dict[str, str] = {}  # by id in the history: what the branch is called there
        self._removed: set[str] = set()  # ids in the history of what was taken out of its tree
        self._restored: set[int] = set()  # branches that stay in the history's tree after an undo

    def ids(self) -> set[int]:
        """Of the branches that are there now."""
        return {branch.id for branch in self._branches}

    def keep(self, branch: Branch, seconds: float) -> None:
        """Write a new branch into the history.

        Raises
        ------
        HistoryError
            If it cannot be written.
        """
        if self._history is None:
            return
        left = self._entries.get(branch.parent, "")
        entry = self._history.add(
            branch.generation, seconds=seconds, parent=left, at=branch.at if left else 0
        )
        self._entries[branch.id], self._names[entry.id] = entry.id, branch.name

    def bring_back(self, entry_id: str) -> int:
        """Put the tree of an entry of the history into the branches; the entry's branch."""
        there = {
            entry: branch for branch, entry in self._entries.items() if branch in self._branches
        }
        for entry in self._history.tree(entry_id):
            if entry.id in there:
                continue
            parent, at, name = there.get(entry.parent), entry.at, entry.name.strip() or None
            if parent is None:
                time = local_time(entry.time)[5:16]
                at, name = 0, name or self._names.get(entry.id, time)
            try:
                branch = self._branches.add(entry.generation(), parent, at, name)
            except WorkbenchError:  # a line that somebody changed
                if entry.id == entry_id:
                    raise
                continue
            there[entry.id] = branch.id
            self._entries[branch.id], self._names[entry.id] = entry.id, branch.name
            if entry.removed:
                self._removed.add(entry.id)
            else:
                self._restored.add(branch.id)
        return there[entry_id]

    def update(self, before: set[int], undone: bool = False) -> None:
        """Write what branches are called now, and which left the tree or are back.

        An undo that takes a restored tree off the screen leaves it in the history as it was.

        Parameters
        ----------
        before
            Ids of the branches that there were before the change.

        Raises
        ------
        HistoryError
            If the history cannot be written.
        """
        now = self.ids()
        left = before - now - (self._restored if undone else set())
        for branch in [*left, *(now - before)]:
            entry, removed = self._entries.get(branch), branch in left
            if entry is not None and removed != (entry in self._removed):
                self._history.remove(entry, removed)
                self._removed ^= {entry}
        for branch in self._branches:
            entry = self._entries.get(branch.id, "")
            if branch.name != self._names.get(entry, branch.name):
                self._history.rename(entry, branch.name)
                self._names[entry] = branch.name
