"""Converting, loading and streaming a checkpoint of 0.8 GB, each beside what it cannot do without.

    python tests/benchmarks/bench_sizes.py [--work FOLDER]

Files are dropped from the system's cache before they are read. Every figure comes from a process
of its own, and every ratio from one in which both sides took turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.measuring import drop_from_cache, in_own_process, measured, size_of

SMALLER = {
    "vocab_size": 8000,
    "hidden_size": 2048,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 384,
    "shared_expert_intermediate_size": 2048,
}
STORED = {4: "nf4", 8: "int8"}
PROMPT = [1 + (7919 * place) % 7900 for place in range(64)]  # enough to use every expert


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure")
    parser.add_argument(
        "--rounds", type=int, default=2, help="the best of them counts (default: 2)"
    )
    parser.add_argument("--run", nargs=2, metavar=("STEP", "BITS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        step, bits = options.run
        print("\n" + json.dumps(STEPS[step](options.work, int(bits), options.rounds)))
        return
    with TemporaryDirectory(dir=options.work) as work:

        def told(step: str, bits: int) -> dict[str, Any]:
            rounds = ("--rounds", str(options.rounds))
            return in_own_process(__file__, "--work", work, *rounds, "--run", step, str(bits))

        told("write", 16)
        for bits in (4, 8):
            report(f"quantize to {bits} bit", told("convert", bits))
            report(f"load {bits} bit", told("load", bits))
            report(f"trace {len(PROMPT)} tokens from disk, {bits} bit", told("stream", bits))


def report(title: str, figures: dict[str, Any]) -> None:
    """Print a step's figures, the goals beside them."""
    print(f"\n{title}")
    for name, value in figures.items():
        number, goal = value if isinstance(value, list) else (value, None)
        verdict = (
            "" if goal is None else f"   goal {goal:g}: {'met' if number <= goal else 'missed'}"
        )
        print(f"  {name:<62} {number:8.3f}{verdict}", flush=True)


# -- steps, each in its own process ---------------------------------------------------------------


def write(work: Path, _bits: int, _rounds: int) -> dict[str, Any]:
    """A random checkpoint in 16 bit, and the same sizes in 4 and 8 bit."""
    from tests.helpers.synthetic import SHAPES, write_checkpoint

    for stored in ("bf16", *STORED.values()):
        write_checkpoint(work / stored, {**SHAPES["72b"], **SMALLER}, stored)
    return {"GB": size_of(work / "bf16") / 1e9}


def convert(work: Path, bits: int, rounds: int) -> dict[str, Any]:
    """Conversion beside reading the file and bitsandbytes' own quantization, and its memory."""
    from workbench.loading.conversion import quantize_checkpoint

    source, target = work / "bf16", work / "converted"
    quantize_plainly(source, bits, only=1)  # threads and libraries are there
    theirs, ours = [], []
    for _ in range(rounds):
        drop_from_cache(source)
        theirs.append(measured(lambda: quantize_plainly(source, bits)))
        drop_from_cache(source)
        ours.append(measured(lambda: quantize_checkpoint(source, target, bits)))
        shutil.rmtree(target)
    return {
        "seconds to read and to quantize with bitsandbytes": least(theirs, "seconds"),
        "seconds to convert": least(ours, "seconds"),
        "ratio": [least(ours, "seconds") / least(theirs, "seconds"), 1.2],
        "ratio of the processor's time": least(ours, "cpu_seconds") / least(theirs, "cpu_seconds"),
        "GB of memory at the peak": [max(told["peak_gb"] for told in ours), 3.0],
    }


def load(work: Path, bits: int, _rounds: int) -> dict[str, Any]:
    """The peak of loading whole beside what the receipt says."""
    import workbench as wb

    wb.load("demo", bits=bits, device="cpu").trace([1, 45])  # libraries are there
    folder, kept = work / STORED[bits], []
    drop_from_cache(folder)
    told = measured(lambda: kept.append(wb.load(folder, device="cpu")))
    receipt = kept[0].receipt.nbytes / 1e9
    return {
        "GB a second": size_of(folder) / 1e9 / told["seconds"],
        "GB that the receipt says": receipt,
        "peak / receipt": [told["peak_gb"] / receipt, 1.1],
    }


def stream(work: Path, bits: int, rounds: int) -> dict[str, Any]:
    """A trace from disk, opening included, beside reading as many bytes of the same file."""
    import workbench as wb

    folder = work / STORED[bits]
    allowed = int(0.4 * size_of(folder))
    wb.load("demo", bits=bits, device="cpu").trace([1, 45])
    ours, whole, reading, kept = [], [], [], []
    for _ in range(rounds):
        drop_from_cache(folder)
        ours.append(measured(lambda: kept.append(traced(folder, allowed))))
        whole.append(measured(lambda: traced(folder, None)))
        drop_from_cache(folder)
        reading.append(measured(lambda: read(folder, kept[-1].streaming.bytes_read)))
    told = {
        "GB allowed": allowed / 1e9,
        "GB of memory at the peak": max(told["peak_gb"] for told in ours),
        "GB read": kept[-1].streaming.bytes_read / 1e9,
        "seconds to read as many bytes cold": least(reading, "seconds"),
        "seconds to load whole from the system's cache and to trace": least(whole, "seconds"),
        "seconds to open and to trace from disk": least(ours, "seconds"),
        "ratio to reading": [least(ours, "seconds") / least(reading, "seconds"), 1.3],
    }
    slower = max(least(reading, "seconds"), least(whole, "seconds"))
    return told | {"ratio to the slower of reading and computing": least(ours, "seconds") / slower}


STEPS = {"write": write, "convert": convert, "load": load, "stream": stream}


# -- what they are compared with ------------------------------------------------------------------


def least(rounds: list[dict[str, Any]], figure: str) -> float:
    """The best of a figure: other work on the machine only ever adds."""
    return min(told[figure] for told in rounds)


def traced(folder: Path, memory: int | None) -> Any:
    """A model that was loaded and has read the prompt."""
    import workbench as wb

    pangu = wb.load(folder, device="cpu", memory=memory)
    pangu.trace(PROMPT)
    return pangu


def quantize_plainly(folder: Path, bits: int, only: int | None = None) -> None:
    """Read every tensor, and quantize those that are quantized with bitsandbytes alone."""
    import bitsandbytes as bnb

    from workbench import open_checkpoint
    from workbench.checkpoints.reading import read_tensor
    from workbench.loading.tensors import is_quantizable

    for name, info in list(open_checkpoint(folder).tensors.items())[:only]:
        tensor = read_tensor(name, info)
        if not is_quantizable(name):
            continue
        if bits == 4:
            bnb.nn.Params4bit(tensor, requires_grad=False, quant_type="nf4").to("cpu")
        else:
            bnb.nn.Int8Params(tensor, requires_grad=False, has_fp16_weights=False).to("cpu")


def read(folder: Path, nbytes: int) -> None:
    """So many bytes from the files of a folder, one after the other."""
    buffer = memoryview(bytearray(16 << 20))
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb", buffering=0) as stream:
            while nbytes > 0 and (got := stream.readinto(buffer[: min(nbytes, len(buffer))])):
                nbytes -= got


if __name__ == "__main__":
    main()
