"""The tree keeps every branch, and every change can be undone."""

from dataclasses import replace

import pytest

from workbench.errors import GenerationError
from workbench.generation.steps import Alternative, Generation, Step
from workbench.prompts.branches import Branches


def step(token):
    others = (Alternative(token, f"p{token}", -0.5, True, -0.25), Alternative(99, "x", -3.0, False))
    return Step(token, f"p{token}", f"t{token}", -0.5, others, "answer", -0.25, 1.5, 0.01)


def generation(*tokens, prompt=(1, 2)):
    return Generation((*prompt, *tokens), len(prompt), tuple(map(step, tokens)), "length")


@pytest.fixture
def tree():
    """0: 5 6 7 8; 1 leaves it at 2 with 9, 2 at 1 with 4, 3 leaves 1 at 3."""
    tree = Branches()
    tree.add(generation(5, 6, 7, 8))
    tree.add(generation(5, 6, 9, 3), 0, 2)
    tree.add(generation(5, 4), 0, 1)
    tree.add(generation(5, 6, 9, 1), 1, 3)
    return tree


def test_branches_know_where_they_come_from(tree):
    assert [branch.name for branch in tree] == ["prompt 1", "p9 at 2", "p4 at 1", "p1 at 3"]
    assert [branch.id for branch in tree.path(3)] == [0, 1, 3]
    assert [branch.id for branch in tree.children(0)] == [2, 1]  # by place
    assert [branch.id for branch in tree.children(None)] == [0]
    assert tree.current.id == 3
    assert tree.go(1) is tree[1] is tree.current


def test_changes_are_undone_and_done_again(tree):
    tree.rename(1, " night ")
    tree.remove(1)
    assert [branch.id for branch in tree] == [0, 2]
    assert tree.current.id == 0
    assert tree.undo()
    assert tree[1].name == "night"
    assert tree.undo()
    assert tree[1].name == "p9 at 2"
    assert [tree.undo() for _ in range(5)] == [True] * 4 + [False]
    assert (len(tree), tree.current, tree.can_undo) == (0, None, False)
    assert [tree.redo() for _ in range(7)] == [True] * 6 + [False]
    assert [branch.id for branch in tree] == [0, 2]
    tree.undo()
    added = tree.add(generation(7))
    assert added.id == 4  # an id is never given twice
    assert not tree.can_redo


def test_several_changes_can_be_one_and_none_of_them_stays_after_an_error(tree):
    before, current = list(tree), tree.current
    with tree.one_change():
        tree.rename(0, "one")
        tree.rename(1, "two")
    assert [tree[0].name, tree[1].name] == ["one", "two"]
    assert tree.undo()
    assert (list(tree), tree.current) == (before, current)
    with tree.one_change():
        tree.go(0)
    assert tree.can_redo  # looking at another branch is no change

    def fail() -> None:
        with tree.one_change():
            tree.remove(1)
            tree.go(99)

    with pytest.raises(GenerationError, match="no branch 99"):
        fail()
    assert list(tree) == before
    assert tree.redo()
    assert [tree[0].name, tree[1].name] == ["one", "two"]


def test_going_to_a_branch_is_no_change_to_undo(tree):
    tree.go(0)
    tree.undo()
    assert 3 not in tree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree[7], "no branch 7; there are: 0, 1, 2, 3"),
        (lambda tree: tree.go(None), "no branch None"),
        (lambda tree: tree.add(generation(5), at=1), "at is 1 and there is no parent"),
        (lambda tree: tree.add(generation(4, 1), 0, 1), "not a branch of it"),
        (lambda tree: tree.add(generation(5, 1, prompt=(2,)), 0, 1), "not a branch of it"),
        (lambda tree: tree.add(generation(5, 6, 7, 8, 9), 0, 5), "at is 5; the parent's answer has 4"),
        (lambda tree: tree.add(generation(5), 0, "a"), "at is 'a'"),
        (lambda tree: tree.rename(0, " "), "the name is ' '"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_an_error(change, message, tree):
    before = list(tree)
    with pytest.raises(GenerationError, match=message):
        change(tree)
    assert list(tree) == before


def test_a_branch_begins_with_the_shared_steps_and_another_token():
    trunk = generation(5, 6, 7)
    shared = trunk.begun(1, 99)
    assert shared[0] is trunk.steps[0]
    assert shared[1] == replace(
        trunk.steps[1], token_id=99, piece="x", logprob=-3.0, drawn_logprob=-float("inf")
    )
    assert trunk.begun(1, 1234)[1] == 1234  # of which nothing is known
    assert trunk.begun(2) == trunk.steps[:2]
    assert trunk.begun(3) == trunk.steps
    for place, token in ((4, None), (3, 5), (-1, None)):
        with pytest.raises(GenerationError, match=f"there is no step {place}"):
            trunk.begun(place, token)
    with pytest.raises(GenerationError, match="token_id is 'x'; expected a token id"):
        trunk.begun(1, "x")
    with pytest.raises(GenerationError, match="place is '1'"):
        trunk.begun("1", 5)


def test_a_server_need_not_tell_the_prompt_of_a_branch():
    tree = Branches()
    tree.add(generation(5, 6, 7))
    tree.add(generation(5, 9, prompt=()), 0, 1)
    assert [branch.id for branch in tree.path(1)] == [0, 1]
    with pytest.raises(GenerationError, match="not a branch of it"):
        tree.add(generation(4, 9, prompt=()), 0, 1)
