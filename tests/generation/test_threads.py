"""Small models compute on one thread, and none of torch's waits for a thread that has computed."""

import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import workbench.pangu
from workbench.generation.threads import alone, let_go

TASKS = Path("/proc/self/task")


def settled(expected: int) -> bool:
    """Whether this process has so many threads, now or within a few seconds."""
    deadline = time.monotonic() + 5
    while len(os.listdir(TASKS)) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(os.listdir(TASKS)) == expected


def idle() -> int:
    """How many threads this process has when those have ended that are about to."""
    let_go()
    seen = [0]
    while len(set(seen[-20:])) > 1 or len(seen) < 20:
        time.sleep(0.01)
        seen.append(len(os.listdir(TASKS)))
    return seen[-1]


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux tells its threads")
def test_helpers_end_and_come_again():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        numbers = torch.ones(1000, 1000)
        expected = numbers.exp().sum()
        busy = len(os.listdir(TASKS))
        let_go()
        assert settled(busy - 1)
        assert torch.equal(numbers.exp().sum(), expected)
        assert settled(busy)
        let_go()
        let_go()  # none is there any more
        assert settled(busy - 1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux tells its threads")
def test_a_generation_and_a_trace_leave_no_helpers(moe):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for compute in (lambda: moe.generate("To be", 2), lambda: moe.trace("To be")):
            alone_here = idle()
            torch.ones(1000, 1000).exp()
            assert settled(alone_here + 1)
            compute()
            assert settled(alone_here)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux tells its threads")
@pytest.mark.parametrize("context", [alone, nullcontext])
def test_alone_has_no_helpers_and_gives_the_number_back(context):
    found = {}

    def work() -> None:  # a thread that has not computed before
        before = idle()
        with context():
            torch.ones(1000, 1000).exp()
            torch.ones(300, 300) @ torch.ones(300, 300)
            torch.ones(50_000).cos()  # MKL has a number of its own
            found["helpers"] = len(os.listdir(TASKS)) - before
            found["inside"] = torch.get_num_threads()
        found["after"] = torch.get_num_threads()
        with pytest.raises(ZeroDivisionError), context():
            found["error"] = 1 / 0
        found["after an error"] = torch.get_num_threads()
        torch.ones(1000, 1000).exp()
        found["helpers after"] = len(os.listdir(TASKS)) - before
        let_go()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    few = context is alone
    assert found == {
        "helpers": 0 if few else 1, "inside": 1 if few else 2, "after": 2, "after an error": 2,
        "helpers after": 1,
    }  # fmt: skip


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux tells its threads")
@pytest.mark.parametrize("small", [True, False])
def test_a_small_model_computes_without_helpers(small, moe, monkeypatch):
    if not small:
        monkeypatch.setattr(workbench.pangu, "SMALL", 0)
    pangu = replace(moe)  # which has not asked yet whether it is small
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for compute in (
            lambda on_step: pangu.trace("To be", 3, on_step=on_step),
            lambda on_step: [on_step(step, None) for step in pangu.stream("To be", 3)],
        ):
            alone_here, most = idle(), []
            compute(lambda *_: most.append(len(os.listdir(TASKS))))  # noqa: B023
            assert max(most) - alone_here == (0 if small else 1)
        recipe = pangu.generate("To be", 1).recipe
        assert recipe.versions["threads"] == ("1" if small else "2")
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux tells its threads")
def test_libraries_that_come_later_are_found():
    code = (
        "from workbench.generation.turn import cell_ended; cell_ended()\n"
        "import torch; from workbench.generation.threads import alone\n"
        "torch.set_num_threads(2)\n"
        "with alone(): print(torch.get_num_threads())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "1\n"
