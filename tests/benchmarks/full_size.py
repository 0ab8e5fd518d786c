"""A rehearsal at full size: the 7B and the 72B as random files, converted, loaded, traced, streamed.

    python tests/benchmarks/full_size.py --work FOLDER --shape 7b
    python tests/benchmarks/full_size.py --work FOLDER --shape 72b --memory 8GB

Every step runs in a process of its own, so that its peak of memory is its own, and is left out
when its result stands in FOLDER/results.json already. Files are dropped from the system's cache
before they are read, so that reading is from the disk; nothing but the disk, the processor and
this program should be busy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_sizes import quantize_plainly
from tests.benchmarks.measuring import drop_from_cache, in_own_process, measured, rate, size_of

STEPS = {
    "7b": [
        "write-bf16", "plain-4", "convert-4", "plain-8", "convert-8", "load-4", "load-8",
        "trace-4", "trace-8", "stream-4", "read-4", "stream-8", "read-8", "generate-4",
    ],
    "72b": ["write-nf4", "stream-4", "read-4", "generate-4"],
}  # fmt: skip
BITS_OF = {"bf16": 16, "nf4": 4, "int8": 8}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder on the disk to measure")
    parser.add_argument("--shape", choices=sorted(STEPS), required=True)
    parser.add_argument("--layers", type=int, help="fewer layers than the released model has")
    parser.add_argument("--memory", default="8GB", help="for the streamed steps (default: 8GB)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens to trace (default: 512)")
    parser.add_argument("--tokens", type=int, default=16, help="tokens to generate (default: 16)")
    known = sorted({step for steps in STEPS.values() for step in steps} | {"write-int8"})
    parser.add_argument("--steps", nargs="+", choices=known, help="by default the shape's own")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # inside the step's own process
    options = parser.parse_args()
    if options.run:
        print("\n" + json.dumps(run(options.run, options)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / "results.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    for step in options.steps or STEPS[options.shape]:
        key = f"{options.shape} {options.layers or 'all'} layers, {step}"
        key += f", {options.prompt} tokens" if step.startswith(("trace", "stream")) else ""
        key += f", {options.memory}" if step.startswith(("stream", "generate")) else ""
        key += f", {options.tokens} new tokens" if step.startswith("generate") else ""
        if key not in results or options.again:
            results[key] = in_own_process(__file__, *sys.argv[1:], "--run", step)
            file.write_text(json.dumps(results, indent=1))
        print(f"{key}: {json.dumps(results[key])}", flush=True)


def run(step: str, options: argparse.Namespace) -> dict[str, Any]:
    """One step; returns its figures."""
    from tests.helpers.synthetic import SHAPES, write_checkpoint
    from workbench.loading.conversion import quantize_checkpoint

    config = dict(SHAPES[options.shape])
    config["num_hidden_layers"] = options.layers or config["num_hidden_layers"]
    kind, _, which = step.partition("-")
    name = f"{options.shape}-{config['num_hidden_layers']}"
    source = options.work / f"{name}-bf16"
    if kind == "write":
        folder = options.work / f"{name}-{which if which == 'bf16' else BITS_OF[which]}"
        require_disk(options.work, expected_bytes(config, which))
        shutil.rmtree(folder, ignore_errors=True)
        return measured(lambda: {"bytes": size_of(write_checkpoint(folder, config, which))})
    folder = options.work / f"{name}-{which}"
    if kind == "plain":  # beside "convert": the same without a model and without writing
        drop_from_cache(source)
        return measured(lambda: quantize_plainly(source, int(which)))
    if kind == "convert":
        require_disk(options.work, expected_bytes(config, {"4": "nf4", "8": "int8"}[which]))
        shutil.rmtree(folder, ignore_errors=True)
        drop_from_cache(source)
        told = measured(
            lambda: {"bytes": quantize_and_size(quantize_checkpoint, source, folder, which)}
        )
        return told | {"read_gb_per_s": rate(size_of(source), told["seconds"])}
    if kind == "read":
        return read_what_a_trace_reads(folder, config)
    drop_from_cache(folder)
    steps = {"load": load, "trace": trace, "stream": stream, "generate": generate}
    return steps[kind](folder, options)


def load(folder: Path, _options: argparse.Namespace) -> dict[str, Any]:
    """Whole, from the disk, and the first forward pass after it."""
    import torch

    import workbench as wb

    kept = []

    def call() -> dict[str, Any]:
        kept.append(wb.load(folder, device="cpu"))
        return {"receipt_gb": kept[0].receipt.nbytes / 1e9}

    told = measured(call)
    told["peak_of_receipt"] = round(told["peak_gb"] / told["receipt_gb"], 3)
    told["gb_per_s"] = rate(size_of(folder), told["seconds"])
    ids = torch.tensor([[1, 45, 99, 7]])
    for name in ("first_forward_seconds", "second_forward_seconds"):
        started = time.perf_counter()
        with torch.inference_mode():
            kept[0].model(ids)
        told[name] = round(time.perf_counter() - started, 2)
    return told


def trace(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A prompt through the model in memory."""
    import workbench as wb

    pangu = wb.load(folder, device="cpu")
    return measured(lambda: traced(pangu, options.prompt))


def stream(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A prompt through the model on disk."""
    import workbench as wb

    kept = []

    def opened() -> dict[str, Any]:
        kept.append(wb.load(folder, device="cpu", memory=options.memory))
        return {}

    opening = measured(opened)
    streaming = kept[0].streaming
    if streaming is None:
        return {"left_out": f"the model fits {options.memory}"}
    before = streaming.bytes_read
    told = measured(lambda: traced(kept[0], options.prompt))
    read = streaming.bytes_read - before
    return told | {
        "open_seconds": opening["seconds"],
        "kept_gb": round(streaming.kept_bytes / 1e9, 3),
        "held_gb": round(streaming.held_bytes / 1e9, 3),
        "read_gb": round(read / 1e9, 3),
        "gb_per_s": rate(read, told["seconds"]),
        "open_and_trace_seconds": round(opening["seconds"] + told["seconds"], 2),
        "open_and_trace_read_gb": round(streaming.bytes_read / 1e9, 3),
        "peak_gb": max(round(streaming.kept_bytes / 1e9 + told["peak_gb"], 3), opening["peak_gb"]),
    }


def generate(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Greedy tokens after a short prompt, from disk: the system's cache helps, as it would."""
    import workbench as wb

    pangu = wb.load(folder, device="cpu", memory=options.memory)
    if pangu.streaming is None:
        return {"left_out": f"the model fits {options.memory}"}
    steps = pangu.stream(prompt(32), options.tokens + 1, wb.Sampling(temperature=0))
    next(steps)
    before = pangu.streaming.bytes_read
    told = measured(lambda: {"tokens": sum(1 for _ in steps)})
    return told | {
        "tokens_per_s": round(told["tokens"] / told["seconds"], 3),
        "hit_rate": round(pangu.streaming.hit_rate or 0.0, 3),
        "read_gb_per_token": round(
            (pangu.streaming.bytes_read - before) / 1e9 / max(1, told["tokens"]), 3
        ),
    }


def read_what_a_trace_reads(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The files from end to end, without the embeddings: all that a long prompt needs of them."""
    drop_from_cache(folder)
    skipped = config["vocab_size"] * config["hidden_size"] * 2  # at the start of the first file
    buffer = memoryview(bytearray(16 << 20))

    def call() -> dict[str, Any]:
        count = 0
        for number, file in enumerate(sorted(folder.glob("*.safetensors"))):
            with file.open("rb", buffering=0) as stream:
                stream.seek(0 if number else skipped)
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                while got := stream.readinto(buffer):
                    count += got
        return {"read_gb": round(count / 1e9, 3)}

    told = measured(call)
    return told | {"gb_per_s": rate(told["read_gb"] * 1e9, told["seconds"])}


# -- tools --------------------------------------------------------------------------------------


def prompt(tokens: int) -> list[int]:
    """Token ids that differ: a text of random words would be no more real."""
    return [1 + (7919 * place) % 153_000 for place in range(tokens)]


def traced(pangu: Any, tokens: int) -> dict[str, Any]:
    """Trace the prompt, and make sure that numbers came out of it."""
    import numpy as np

    result = pangu.trace(prompt(tokens))
    assert np.isfinite(result.arrays["top_logprobs"]).all()
    return {"tokens": result.num_tokens}


def quantize_and_size(convert: Callable[..., Path], source: Path, folder: Path, bits: str) -> int:
    """Convert, and return the size of what was written."""
    return size_of(convert(source, folder, int(bits)))


def require_disk(folder: Path, needed: int) -> None:
    """Stop before the disk is full."""
    free = shutil.disk_usage(folder).free
    if free < needed + 4e9:
        sys.exit(f"{folder} has {free / 1e9:.1f} GB free; {needed / 1e9 + 4:.1f} GB are needed")


def expected_bytes(config: dict[str, Any], stored: str) -> int:
    """Size of a checkpoint, about."""
    import math

    from tests.helpers.tiny import tensor_shapes

    per_weight = {"bf16": 2.0, "nf4": 0.52, "int8": 1.001}[stored]
    return int(
        sum(
            math.prod(shape) * (per_weight if name.endswith("_proj.weight") else 2)
            for name, shape in tensor_shapes(config).items()
        )
    )


if __name__ == "__main__":
    main()
