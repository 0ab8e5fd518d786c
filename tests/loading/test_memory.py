"""What loading, running from disk and converting take of memory at their peak, in fresh processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.synthetic import SHAPES, write_checkpoint
from tests.helpers.tiny import make_tiny_checkpoint

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a part"
)
ROOT = Path(__file__).parents[2]
CONFIG = {
    **SHAPES["72b"],
    "vocab_size": 8000,
    "hidden_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
# Bytes of buffers: the tensor that is read, quantized or packed, what Python takes, and holes that
# the C library leaves until they are given back, every 200 MB read.
BUFFERS = 160e6
SCRIPT = """
import json, sys
from pathlib import Path
import workbench as wb
from workbench.loading.conversion import quantize_checkpoint

def line(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(one.split()[1]) * 1024 for one in lines if one.startswith(field + ":"))

folder, tiny, what, other = sys.argv[1:]
wb.load(tiny, bits=4, device="cpu").trace([1, 45])  # libraries are there, threads started
before = line("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
if what == "convert":
    quantize_checkpoint(folder, other, 4)
    told = {}
else:
    pangu = wb.load(folder, device="cpu", memory=other or None)
    told = {"nbytes": pangu.receipt.nbytes}
    if other:
        told["read"] = pangu.trace(list(range(1, 200))) and pangu.streaming.bytes_read
print(json.dumps(told | {"peak": line("VmHWM") - before}))
"""


def told_by(folder: Path, tiny: Path, what: str, other: str = "") -> dict[str, int]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(tiny), what, other]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    def of(stored):
        return write_checkpoint(tmp_path_factory.mktemp(stored), CONFIG, stored)

    return of


@pytest.mark.parametrize(("stored", "least"), [("nf4", 2.5e8), ("int8", 4.5e8)])
def test_a_quantized_checkpoint_is_never_held_twice_while_it_loads(
    stored, least, written, tiny_moe
):
    told = told_by(written(stored), tiny_moe, "load")
    assert told["nbytes"] > least
    assert told["peak"] <= 1.1 * told["nbytes"] + BUFFERS
    assert told["peak"] >= 0.9 * told["nbytes"]  # the measurement sees the weights


def test_a_streamed_model_takes_what_it_is_allowed(written, tiny_moe):
    told = told_by(written("nf4"), tiny_moe, "stream", "80MB")
    assert told["nbytes"] > 2.5e8
    assert told["read"] > 2e8  # nearly every expert
    assert told["peak"] <= 1.1 * 80e6 + BUFFERS


def test_converting_takes_little_memory_however_large_the_checkpoint(written, tiny_moe, tmp_path):
    folder = written("bf16")
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) > 8e8
    assert told_by(folder, tiny_moe, "convert", str(tmp_path / "4"))["peak"] <= 2.5 * BUFFERS


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_converted_to_another_type_never_stands_beside_itself(dtype, tiny_moe, tmp_path):
    folder, rows = make_tiny_checkpoint(tmp_path / "source", dtype=dtype), 300_000
    file, config = folder / "model.safetensors", json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
    tensors = load_file(file)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        columns = tensors[name].shape[1]
        tensors[name] = torch.ones(rows, columns, dtype=tensors[name].dtype)
    save_file(tensors, file)
    del tensors
    in_bf16 = 2 * rows * columns
    assert in_bf16 > 110e6
    told = told_by(folder, tiny_moe, "convert", str(tmp_path / "4"))
    assert told["peak"] < 1.3 * in_bf16 + 30e6
