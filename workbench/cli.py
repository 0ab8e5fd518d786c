"""The command line: `python -m workbench inspect|trace|quantize|lab`."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import __version__
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.pangu import Pangu


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser(
        prog="python -m workbench", description="Look inside Pangu language models."
    )
    root.add_argument("--version", action="version", version=f"pangu-workbench {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checkpoint_help = (
        '"demo", "demo-dense", a checkpoint\'s folder, or a Hugging Face repository id'
    )
    bits_help = "4, 8, or 16 (as stored); default: 4, or that of a quantized checkpoint"
    quant_type_help = "type of 4 bit (default: nf4, or that of a quantized checkpoint)"

    inspect = commands.add_parser(
        "inspect",
        help="describe a checkpoint and the memory it needs",
        description="Print what a checkpoint is and how much memory it needs; then load it and print the "
        "receipt: how each part is stored, and its size.",
    )
    trace = commands.add_parser(
        "trace",
        help="run a text through a model and write a trace",
        description="Run a text through the model and write routing, queries and keys of all "
        "layers, and the model's alternatives to a trace file; open it with workbench.Trace.load.",
    )
    for command in (inspect, trace):
        command.add_argument("checkpoint", type=_place, metavar="CHECKPOINT", help=checkpoint_help)
        command.add_argument("--bits", type=int, choices=(4, 8, 16), help=bits_help)
        command.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
        command.add_argument("--quant-type", choices=("nf4", "fp4"), help=quant_type_help)
        command.add_argument(
            "--memory",
            metavar="SIZE",
            help="the most memory that weights may take, for example 8GB, or auto; a larger model "
            "stays on disk and is read as it runs",
        )
    inspect.add_argument("--plan-only", action="store_true", help="stop before loading any weight")
    trace.add_argument("--prompt", required=True, metavar="TEXT", help="the text to run")
    trace.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="file to write; replaced if there"
    )
    trace.add_argument(
        "--max-new-tokens",
        type=_count,
        default=0,
        metavar="N",
        help="also generate, greedily, at most N tokens and record them (default: 0)",
    )
    quantize = commands.add_parser(
        "quantize",
        help="convert a checkpoint to 4 or 8 bit",
        description="Convert a 16-bit checkpoint, or one quantized for Ascend, to 4 or 8 bit, module "
        "by module, in little memory. "
        "After an interruption, run the same command again to resume.",
    )
    quantize.add_argument("source", metavar="SRC", help=checkpoint_help)
    quantize.add_argument("destination", type=_place, metavar="DST", help="a new or empty folder")
    quantize.add_argument("--bits", type=int, choices=(4, 8), required=True)
    quantize.add_argument("--quant-type", choices=("nf4", "fp4"), help=quant_type_help)
    quantize.add_argument(
        "--shard-size",
        default="2GB",
        metavar="SIZE",
        help="size of one output file, for example 500MB (default: 2GB)",
    )
    commands.add_parser(
        "lab",
        help="open JupyterLab on the notebooks",
        description="Open JupyterLab on the first notebook; other options go to jupyter lab.",
    )
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 where the user has to change something."""
    options, further = parser().parse_known_args(arguments)
    if further and options.command != "lab":
        parser().error(f"unknown arguments: {' '.join(further)}")
    if getattr(options, "quant_type", None) and options.bits not in (None, 4):
        parser().error(f"--quant-type applies only to 4 bit; --bits is {options.bits}")
    try:
        if options.command == "lab":
            return _lab(further)
        run = {"inspect": _inspect, "trace": _trace, "quantize": _quantize}[options.command]
        return run(options)
    except WorkbenchError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{place}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = options.command == "quantize"
        said = "run the same command again to resume" if again else "nothing was written"
        print(f"interrupted; {said}", file=sys.stderr)
        return 130


def _count(text: str) -> int:
    """Type of an option that counts from 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _place(text: str) -> str:
    """Type of a checkpoint's name or a folder; refuses "~somebody" where nobody is called that."""
    try:
        Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return text


def _inspect(options: argparse.Namespace) -> int:
    from workbench.checkpoints.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(options.checkpoint)
    print(f"{checkpoint}\n", flush=True)
    from workbench.loading.checking import check_tensors  # slow
    from workbench.loading.plan import make_plan
    from workbench.loading.units import with_least_bytes

    plan = make_plan(checkpoint, options.bits, options.device, options.quant_type, options.memory)
    check_tensors(plan)
    print(with_least_bytes(plan))
    if not options.plan_only:
        print()
        print(_loaded(options).receipt)
    return 0


def _loaded(options: argparse.Namespace) -> Pangu:
    from workbench.pangu import load

    return load(
        options.checkpoint,
        options.bits,
        options.device,
        options.quant_type,
        options.memory,
    )


def _trace(options: argparse.Namespace) -> int:
    from workbench.traces.trace_file import require_writable

    require_writable(options.out)
    pangu = _loaded(options)
    trace = pangu.trace(options.prompt, options.max_new_tokens)
    trace.save(options.out)
    if pangu.streaming is not None:
        print(pangu)
    print(f"{trace}\nwritten to {options.out}; open it with: wb.Trace.load({str(options.out)!r})")
    return 0


def _quantize(options: argparse.Namespace) -> int:
    from workbench.loading.conversion import quantize_checkpoint
    from workbench.loading.sizes import size_in_bytes

    folder = quantize_checkpoint(
        options.source,
        options.destination,
        options.bits,
        options.quant_type,
        size_in_bytes(options.shard_size),
    )
    inspect = shlex.join(["python", "-m", "workbench", "inspect", str(folder)])
    print(f"written to {folder}; inspect it with: {inspect}")
    return 0


def _lab(options: Sequence[str]) -> int:
    notebooks = Path(__file__).parent.parent / "notebooks"
    first = "00_start_here.ipynb"
    start = []
    if (notebooks / first).is_file():  # the address that is printed opens it too
        start = [f"--ServerApp.root_dir={notebooks}", f"--LabApp.default_url=/lab/tree/{first}"]
    return subprocess.call([sys.executable, "-m", "jupyterlab", *start, *options])
