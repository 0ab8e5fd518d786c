"""No thread of torch's waits for work of a thread that has computed."""

import os
import time
from pathlib import Path

import pytest
import torch

from workbench.threads import let_go

TASKS = Path("/proc/self/task")


def settled(expected: int) -> bool:
    """Whether this process has so many threads, now or within a few seconds."""
    deadline = time.monotonic() + 5
    while len(os.listdir(TASKS)) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(os.listdir(TASKS)) == expected


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
            let_go()
            idle = len(os.listdir(TASKS))
            torch.ones(1000, 1000).exp()
            assert settled(idle + 1)
            compute()
            assert settled(idle)
    finally:
        torch.set_num_threads(before)
