"""The checkpoints that ship: released layout, size, and that they work in every precision."""

import json

import numpy as np
import pytest

import workbench as wb
from tests.helpers.tiny import tensor_shapes
from workbench.checkpoints.checkpoint import DEMO_FOLDER

TEXTS = [
    "To be, or not to be: that is the question. My lord, the king is dead.",
    "def area(width, height):\n    if width is None:\n        return None\n    return width",
    "Le paquet est installé par défaut ; il faut donc modifier le fichier de configuration.",
    "春風不相識，何事入羅幃。明月照高樓，流光正徘徊。",
    "12 + 30 = 42\n7 * 8 = 56\n91 - 17 = 74\n5 + 9 = 14",
]


@pytest.fixture(scope="module", params=["demo", "demo-dense"])
def name(request) -> str:
    return request.param


def nats_per_byte(pangu) -> float:
    total = sum(float(np.nansum(pangu.trace(t, attention=None).chosen_logprobs)) for t in TEXTS)
    return -total / sum(len(text.encode()) for text in TEXTS)


def test_tensors_are_exactly_those_of_the_released_layout(name):
    config = json.loads((DEMO_FOLDER / name / "config.json").read_text())
    found = wb.open_checkpoint(name).tensors
    assert {key: info.shape for key, info in found.items()} == tensor_shapes(config)
    assert {info.dtype for info in found.values()} == {"BF16"}


def test_both_together_are_at_most_forty_megabytes():
    assert sum(file.stat().st_size for file in DEMO_FOLDER.glob("*/*.safetensors")) <= 40e6


def test_quantized_it_reads_almost_as_well(name):
    exact = nats_per_byte(wb.load(name, bits=16, device="cpu"))
    assert exact < 2.2  # bytes drawn evenly would be 5.5
    for bits, loss in ((8, 0.03), (4, 0.12)):
        assert nats_per_byte(wb.load(name, bits=bits, device="cpu")) < exact + loss


def test_it_thinks_in_chat_and_answers_directly_when_asked_to(name):
    pangu = wb.load(name, bits=16, device="cpu")
    question = [{"role": "user", "content": "What is 27 + 45?"}]
    slow = pangu.trace(question, max_new_tokens=80)
    assert [span["kind"] for span in slow.spans] == ["prompt", "thinking", "answer"]
    fast = pangu.trace(question, max_new_tokens=80, thinking="fast")
    assert [span["kind"] for span in fast.spans] == ["prompt", "answer"]
    for trace in (slow, fast):
        assert trace.token_ids[-1] == pangu.tokenizer.turn_end_id
