"""The tree of what was generated: every branch is kept, named, and can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from workbench.arguments import whole_number
from workbench.errors import GenerationError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Generation


@dataclass(frozen=True)
class Branch:
    """One generation in the tree.

    Attributes
    ----------
    id : int
        Never given twice in one tree.
    parent : int or None
        The branch that it leaves; None for a root, which begins with a prompt.
    at : int
        The step of the parent's answer where it leaves; 0 for a root. Steps before it are shared.
    name : str
    generation : Generation
        The whole answer, shared steps included, with its recipe.
    """

    id: int
    parent: int | None
    at: int
    name: str
    generation: Generation

    @property
    def recipe(self) -> Recipe | None:
        """Everything that it takes to generate it again."""
        return self.generation.recipe


@dataclass(frozen=True)
class _State:
    branches: tuple[Branch, ...] = ()
    current: int | None = None


class Branches:
    """The tree of what was generated: every branch is kept, named, and can be undone.

    Iterate over it for its branches, oldest first; `branches[3]` is the branch with id 3.

    Attributes
    ----------
    current : Branch or None
        The one that is looked at.
    """

    def __init__(self) -> None:
        self._state = _State()
        self._undone: list[_State] = []
        self._done: list[_State] = []
        self._next = 0
        self._roots = 0  # that there were

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._state.branches)

    def __len__(self) -> int:
        return len(self._state.branches)

    def __contains__(self, branch_id: object) -> bool:
        return any(branch.id == branch_id for branch in self)

    def __getitem__(self, branch_id: int) -> Branch:
        for branch in self:
            if branch.id == branch_id:
                return branch
        there = ", ".join(str(branch.id) for branch in self) or "none"
        raise GenerationError(f"there is no branch {branch_id!r}; there are: {there}.")

    def __repr__(self) -> str:
        return f"Branches({len(self)} branches, current={self._state.current})"

    @property
    def current(self) -> Branch | None:
        """The branch that is looked at."""
        return None if self._state.current is None else self[self._state.current]

    @property
    def can_undo(self) -> bool:
        """Whether something can be undone."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether something undone can be done again."""
        return bool(self._undone)

    def add(
        self,
        generation: Generation,
        parent: int | None = None,
        at: int = 0,
        name: str | None = None,
    ) -> Branch:
        """Put a generation into the tree and look at it.

        Parameters
        ----------
        parent, at
            The branch and the step of its answer where this one leaves it; a root has no parent.
        name
            By default what the first own token says, or "prompt" with a number for a root.

        Raises
        ------
        GenerationError
            If the parent is not there, or its steps before `at` are not this generation's.
        """
        at = whole_number("at", at, GenerationError, "a step of the parent's answer")
        if parent is None and at:
            raise GenerationError(f"at is {at} and there is no parent; expected 0 for a root.")
        if parent is not None:
            _require_shared(self[parent].generation, generation, at)
        branch_id = self._next
        if parent is None:
            self._roots += 1
        if name is None:
            name = _name(generation, at) if parent is not None else f"prompt {self._roots}"
        branch = Branch(branch_id, parent, at, _checked_name(name), generation)
        self._next += 1
        self._change(_State((*self._state.branches, branch), branch.id))
        return branch

    def rename(self, branch_id: int, name: str) -> Branch:
        """Give a branch another name."""
        branch = replace(self[branch_id], name=_checked_name(name))
        self._change(replace(self._state, branches=self._with(branch)))
        return branch

    def remove(self, branch_id: int) -> None:
        """Take a branch and all that leave it out of the tree; its parent is looked at then."""
        gone = {branch_id}
        parent = self[branch_id].parent
        for branch in self:  # parents stand before their children
            if branch.parent in gone:
                gone.add(branch.id)
        left = tuple(branch for branch in self if branch.id not in gone)
        current = self._state.current
        if current in gone:
            current = parent if parent is not None else left[-1].id if left else None
        self._change(_State(left, current))

    def go(self, branch_id: int) -> Branch:
        """Look at a branch; counts as no change for `undo`."""
        branch = self[branch_id]
        self._state = replace(self._state, current=branch.id)
        return branch

    def undo(self) -> bool:
        """Take back the last `add`, `rename` or `remove`; False if there is none."""
        return self._step(self._done, self._undone)

    def redo(self) -> bool:
        """Do again what was undone last; False if there is nothing."""
        return self._step(self._undone, self._done)

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """Whatever changes inside is one change for `undo`; none of it stays after an error."""
        before, done, undone = self._state, self._done, self._undone
        self._done, self._undone = [], []
        try:
            yield
        except BaseException:
            self._state, self._done, self._undone = before, done, undone
            raise
        changed, self._done = bool(self._done), done
        if changed:
            done.append(before)
        else:
            self._undone = undone

    def children(self, branch_id: int | None) -> tuple[Branch, ...]:
        """Branches that leave this one, by the place where they do; None gives the roots."""
        if branch_id is not None:
            self[branch_id]  # it must be there
        found = [branch for branch in self if branch.parent == branch_id]
        return tuple(sorted(found, key=lambda branch: (branch.at, branch.id)))

    def path(self, branch_id: int) -> tuple[Branch, ...]:
        """From the root to this branch."""
        found = [self[branch_id]]
        while found[-1].parent is not None:
            found.append(self[found[-1].parent])
        return tuple(reversed(found))

    # -- inside ---------------------------------------------------------------------------------

    def _with(self, branch: Branch) -> tuple[Branch, ...]:
        return tuple(branch if other.id == branch.id else other for other in self)

    def _change(self, state: _State) -> None:
        self._done.append(self._state)
        self._undone.clear()
        self._state = state

    def _step(self, back: list[_State], forth: list[_State]) -> bool:
        if not back:
            return False
        forth.append(self._state)
        self._state = back.pop()
        return True


def _prompt(generation: Generation) -> tuple[int, ...]:
    return generation.token_ids[: generation.prompt_length]


def _require_shared(parent: Generation, child: Generation, at: int) -> None:
    ids = [step.token_id for step in parent.steps[:at]]
    if not 0 <= at <= len(parent.steps):
        raise GenerationError(
            f"at is {at}; the parent's answer has {len(parent.steps)} steps to branch from."
        )
    known = _prompt(parent) and _prompt(child)  # a server may not tell the prompt's tokens
    other = known and _prompt(parent) != _prompt(child)
    if other or ids != [step.token_id for step in child.steps[:at]]:
        raise GenerationError(
            f"this generation does not begin with the parent's prompt and its first {at} steps, so "
            "it is not a branch of it."
        )


def _name(generation: Generation, at: int) -> str:
    piece = generation.steps[at].piece.strip() if at < len(generation.steps) else ""
    return f"{piece or 'branch'} at {at}"


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise GenerationError(f"the name is {name!r}; expected a text that is not empty.")
    return name.strip()
