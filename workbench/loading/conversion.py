"""From a checkpoint to one in 4 or 8 bit on disk, module by module, in little memory.

The folder gets its `config.json` last, so that it opens as a checkpoint only when it is whole. A
journal beside the files (`workbench.loading.conversion_journal`) lets the same call go on after any
interruption.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from workbench.arguments import whole_number
from workbench.checkpoints.ascend import added_biases
from workbench.checkpoints.checkpoint import Checkpoint, open_checkpoint
from workbench.checkpoints.reading import read_tensor
from workbench.checkpoints.shards import INDEX
from workbench.errors import CheckpointError, QuantizationError
from workbench.loading.checking import check_tensors
from workbench.loading.conversion_journal import (
    JOURNAL,
    TEMPORARY,
    ConversionJournal,
    alone,
    require_usable,
    write_whole,
)
from workbench.loading.conversion_shards import header_room, modules_left, shards_of, write_shard
from workbench.loading.conversion_source import require_unchanged, source_fingerprint
from workbench.loading.filling import Filler
from workbench.loading.plan import make_plan
from workbench.loading.precision import choose_quant_type
from workbench.loading.sizes import format_size
from workbench.loading.tensors import model_shapes
from workbench.models import PanguTokenizer

STATE_BYTES = 2048  # of a 4-bit weight's tables and description, at most


def quantize_checkpoint(
    source: str | Path | Checkpoint,
    destination: str | Path,
    bits: int,
    quant_type: str | None = None,
    shard_bytes: int = 2_000_000_000,
) -> Path:
    """Write a checkpoint again in 4 or 8 bit, in the layout of transformers and bitsandbytes.

    The weights are bit for bit those that `load(source, bits)` would make; of an Ascend file,
    whose own kinds of modules transformers' layout cannot hold, every linear module becomes
    bitsandbytes': without loss where it is symmetric 8 bit and `bits` is 8, else by rounding its
    dequantized weight again. Memory is needed for one module at a time, whatever the checkpoint's
    size.

    After an interruption the same call goes on where it stopped, behind the last module; after a
    kill, a few seconds before. The result is byte for byte that of a run that was not interrupted.
    Of files that are finished it is checked that they are there, with their header and their size;
    a damage within (there is no checksum) goes unnoticed.

    Parameters
    ----------
    source
        "demo", "demo-dense", a folder, a Hugging Face repository id, or an opened checkpoint.
    destination
        A folder that is new or empty, or holds an unfinished conversion of the same source.
    bits
        4 or 8; 16 copies the weights as they are computed with.
    quant_type
        At 4 bits "nf4" or "fp4". By default "nf4", or what an already quantized source holds.
    shard_bytes
        Size of one output file, about; a single module is never split.

    Returns
    -------
    The folder.

    Raises
    ------
    CheckpointError
        For a source that cannot be read, or changed since the conversion began.
    QuantizationError
        For a source that is quantized to other bits or another type, a folder that holds something
        else or that another run is writing to, or a disk that is full; what was finished is kept.
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    folder = Path(destination).expanduser()
    if type(bits) is not int or bits not in (4, 8, 16):
        raise QuantizationError(f"bits is {bits!r}; expected 4 or 8.")
    if checkpoint.is_bitsandbytes and checkpoint.stored_bits != bits:
        raise QuantizationError(
            f"{checkpoint.name} is already quantized to {checkpoint.stored}; pass the 16-bit "
            f"checkpoint it was made from to get {bits} bit."
        )
    kind = choose_quant_type(checkpoint, quant_type)
    expected = "a whole number of bytes, 1 or more"
    if whole_number("shard_bytes", shard_bytes, QuantizationError, expected) < 1:
        raise QuantizationError(f"shard_bytes is {shard_bytes}; expected {expected}.")
    if folder.resolve() == checkpoint.path.resolve():
        raise QuantizationError(f"{folder} is the source checkpoint; write to another folder.")
    tokenizer = PanguTokenizer.from_pretrained(checkpoint.path)
    require_usable(folder)
    if checkpoint.remote:  # what cannot be converted, or has no room, is not downloaded
        _, sizes = _prepared(checkpoint, bits, quant_type)
        there = sum(file.stat().st_size for file in folder.glob("*.safetensors*"))
        _require_room(folder, sum(sizes.values()) - there)
        checkpoint = checkpoint.fetched()
    filler, sizes = _prepared(checkpoint, bits, quant_type)
    checkpoint, shards = filler.checkpoint, shards_of(sizes, shard_bytes)
    job = {
        "source": source_fingerprint(checkpoint),
        "bits": bits,
        "quant_type": kind if bits == 4 else None,
        "shards": {shard.file_name: len(shard.modules) for shard in shards},
    }
    with _explained(folder, checkpoint.path), alone(folder):
        require_usable(folder)  # another run may have finished meanwhile
        journal = ConversionJournal(folder, job)
        left = [shard for shard in shards if shard.file_name not in journal.finished]
        journal.remove_leftovers()
        unwritten = [module for shard in left for module in modules_left(shard, journal)]
        needed = sum(header_room(filler, shard) for shard in left)
        _require_room(folder, needed + sum(sizes[module] for module in unwritten))
        journal.write()
        bytes_left = sum(info.nbytes for info in filler.infos(unwritten))
        with tqdm(
            total=checkpoint.nbytes,
            initial=checkpoint.nbytes - bytes_left,
            unit="B",
            unit_scale=True,
            desc=f"{checkpoint.name} to {bits} bit",
        ) as bar:
            for shard in left:
                write_shard(filler, shard, journal, bar)
        _finish(filler, tokenizer, journal)
    return folder


# -- inside -------------------------------------------------------------------------------------


def _prepared(
    checkpoint: Checkpoint, bits: int, quant_type: str | None
) -> tuple[Filler, dict[str, int]]:
    """What reads a checkpoint module by module, and the bytes that each module will take."""
    plan = make_plan(_without_added_biases(checkpoint), bits, "cpu", quant_type, own_modules=False)
    check_tensors(plan)
    filler = Filler(plan, packed=False)
    return filler, {module: _output_bytes(filler, module, bits) for module in filler.modules}


def _require_room(folder: Path, needed: int) -> None:
    there = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise QuantizationError(
            f"{folder} needs {format_size(needed)} more and the disk has {format_size(free)} "
            "free; free some space and run the conversion again."
        )


def _without_added_biases(checkpoint: Checkpoint) -> Checkpoint:
    """Leave the biases out that an Ascend file adds to the model; they must all be 0.

    Of what is still on the hub that is not known yet.
    """
    if not checkpoint.linear_types:
        return checkpoint
    tensors = dict(checkpoint.tensors)
    for name in added_biases(tensors, model_shapes(checkpoint)):
        info = tensors.pop(name)
        if not checkpoint.remote and read_tensor(name, info).any():
            raise QuantizationError(
                f"{name} in {checkpoint.path} is not 0 (left by outlier smoothing), and the "
                "model's standard layout cannot hold it. Load the checkpoint as it is, or "
                "convert the 16-bit one it was made from."
            )
    return replace(checkpoint, tensors=tensors)


def _output_bytes(filler: Filler, module: str, bits: int) -> int:
    """What a module's tensors will take in the output; at 4 bits at most so much."""
    in_float = filler.float_parts(module)
    total = sum(count * kind.itemsize for count, kind in in_float.values())
    linear = filler.quantized.get(module)
    if linear is None:
        return total
    if filler.checkpoint.is_bitsandbytes:
        stored = zip(filler.parts(module), filler.infos([module]), strict=True)
        return total + sum(info.nbytes for part, info in stored if part not in in_float)
    count = linear.out_features * linear.in_features
    if bits == 8:
        return total + count + 4 * linear.out_features + 1
    return total + count // 2 + count // 64 + count // 4096 + STATE_BYTES


def _finish(filler: Filler, tokenizer: PanguTokenizer, journal: ConversionJournal) -> None:
    """Index, tokenizer and generation settings, then `config.json`, which makes it a checkpoint."""
    folder, config = journal.folder, filler.model.config
    config.architectures = [type(filler.model).__name__]
    config.dtype = filler.plan.dtype
    temporary = folder / TEMPORARY
    temporary.mkdir()
    if len(journal.finished) > 1:
        finished = {name: journal.finished[name] for name in journal.job["shards"]}
        sizes = [size for entries in finished.values() for size in entries.values()]
        index = {
            "metadata": {"total_size": sum(sizes)},
            "weight_map": {
                name: file for file, entries in finished.items() for name in sorted(entries)
            },
        }
        write_whole(temporary / INDEX, (json.dumps(index, indent=2) + "\n").encode())
    tokenizer.save_pretrained(temporary)
    filler.model.generation_config.save_pretrained(temporary)
    config.save_pretrained(temporary)
    require_unchanged(filler.checkpoint, journal)  # the tokenizer's files were copied just now
    names = [file.name for file in temporary.iterdir()]
    journal.claim(sorted(names, key="config.json".__eq__))
    for name in journal.claimed:  # config.json last
        os.replace(temporary / name, folder / name)
    temporary.rmdir()
    journal.end()


@contextmanager
def _explained(folder: Path, source: Path) -> Iterator[None]:
    """Say in plain words what the system's errors mean here."""
    try:
        yield
    except OSError as error:
        named = Path(os.fsdecode(error.filename or ""))
        written = named.is_relative_to(folder) or folder.is_relative_to(named)
        if source in named.parents and not written:
            raise CheckpointError(
                f"{named} of the source could not be read ({error.strerror}); finished parts are "
                "kept: restore it and run the conversion again."
            ) from error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = f"{'free some space' if full else 'fix that'} and run the conversion again"
        raise QuantizationError(
            f"{folder} could not be written ({error.strerror or error}); "
            f"{'finished parts are kept: ' if (folder / JOURNAL).exists() else ''}{advice}."
        ) from error
