"""Models that are larger than memory: weights stay on disk and are read when they are needed.

A layer (in a mixture-of-experts model without its routed experts) is read as a whole, every routed
expert by itself and only when a token uses it. The weights are filled by the same code as in a
model that is loaded whole, so the results are the same, bit for bit. A file that changes meanwhile
is an error when it is read next.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, wraps
from itertools import zip_longest
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from workbench.checkpoints.reading import read_ahead, read_rows
from workbench.checkpoints.shards import TensorInfo
from workbench.errors import QuantizationError
from workbench.loading.filling import Filler
from workbench.loading.sizes import format_size
from workbench.loading.units import Unit, kept_units, needed_bytes, require_least, units_of

FADING = 0.9  # of an expert's past use that counts after one more token


class Streaming:
    """Weights that stay on disk, and which of them are in memory now.

    As much as fits stays in memory from the beginning: the head, then layer by layer what every
    token uses. The rest comes when it is used and goes when its room is needed. Rows of untied
    embeddings are read one by one. While a layer computes, what follows is read ahead into the
    system's cache, which is not counted here, nor is the buffer of the one tensor being filled.
    The model refuses `state_dict()`, which would be of empty tensors.

    Of the routed experts, the layer that holds most gives first, and of a layer's experts the one
    that tokens used least of late: its share of every pass's tokens, summed, fading by a tenth a
    pass. (Least recently used over all layers would throw out those that the next token needs
    first: on the demo model, with room for a tenth of the experts, 3 of 100 were found in memory
    and not 22.)

    Parameters
    ----------
    filler
        An empty model.
    memory_bytes
        The most that all filled weights may take together.

    Attributes
    ----------
    kept : tuple of str
        Names of the units that stay in memory.
    bytes_read : int
        Read from files (or the system's cache of them) since the model was opened.
    on_layer : callable or None
        Called after every layer of a pass with how many have run, and of how many; for whoever
        generates in a thread, where no progress bar is shown.

    Raises
    ------
    QuantizationError
        If the budget is too small to work with.
    """

    def __init__(self, filler: Filler, memory_bytes: int) -> None:
        self.filler, self.memory_bytes = filler, memory_bytes
        self.units = units_of(filler)
        require_least(needed_bytes(self.units, ()), memory_bytes, filler.checkpoint.name)
        self.kept = kept_units(self.units, memory_bytes)
        self.bytes_read = 0
        self.on_layer: Callable[[int, int], None] | None = None
        # Room → unit → nothing, for filled units; experts stand with their layer, others with "".
        self._held: dict[str, dict[str, None]] = defaultdict(dict)
        self._filling: str | None = None  # what an interruption may have left half filled
        self._in_use: list[str] = []
        self._wanted: set[str] = (
            set()
        )  # experts that this layer's tokens chose and that have not run
        self._use: dict[str, tuple[float, int]] = {}  # expert → use of late, the pass it is of
        self._passes = self._hits = self._uses = 0
        self._generating = False
        self._bar: tqdm | None = None
        self._lock = threading.RLock()  # one pass at a time: the Playground generates in a thread
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._attach(filler.model)

    @property
    def held_bytes(self) -> int:
        """What the filled weights take now; never more than `memory_bytes`."""
        rooms = list(self._held.values())  # copies: another thread may be filling
        return sum(self.units[name].nbytes for room in rooms for name in list(room))

    @property
    def kept_bytes(self) -> int:
        """What the units take that stay in memory."""
        return sum(self.units[name].nbytes for name in self.kept)

    @property
    def hit_rate(self) -> float | None:
        """Share of what generated tokens used that was in memory already, 0 to 1.

        Counted over the routed experts that tokens after the prompt chose, in a dense model over
        layers; None before the first.
        """
        return self._hits / self._uses if self._uses else None

    def __str__(self) -> str:
        told = f"{format_size(self.held_bytes)} of {format_size(self.memory_bytes)} in use"
        return told if self.hit_rate is None else f"{told}, {self.hit_rate:.0%} found in memory"

    def __repr__(self) -> str:
        return f"Streaming({self}, {format_size(self.bytes_read)} read)"

    def load_kept(self) -> None:
        """Read what stays in memory, with a progress bar."""
        infos = {name: self.filler.infos(self.units[name].modules) for name in self.kept}
        with tqdm(
            total=sum(info.nbytes for part in infos.values() for info in part),
            unit="B",
            unit_scale=True,
            desc=f"loading the part of {self.filler.checkpoint.name} kept in memory",
            delay=0.5,
        ) as bar:
            for name, following in zip_longest(self.kept, self.kept[1:]):
                self._read_ahead([following] if following else [])
                with self._using(name):
                    bar.update(sum(info.nbytes for info in infos[name]))

    # -- inside ---------------------------------------------------------------------------------

    def _attach(self, model: nn.Module) -> None:
        """Let every unit be filled just before it runs."""
        decoder = model.model
        layers = [f"model.layers.{index}" for index in range(len(decoder.layers))]
        tied = "lm_head" not in self.units
        head = "model.embed_tokens" if tied else "lm_head"
        _surround(decoder, self._pass)
        for name, following in zip(layers, (*layers[1:], head), strict=True):
            layer = model.get_submodule(name)
            _surround(layer, partial(self._layer, name, following))
            if hasattr(layer.mlp, "experts"):
                layer.mlp.gate.register_forward_hook(partial(self._on_router, name))
                for index, expert in enumerate(layer.mlp.experts):
                    _surround(expert, partial(self._using, f"{name}.mlp.experts.{index}"))
        _surround(decoder.norm, partial(self._using, "model.norm"))
        _surround(model.lm_head, partial(self._using, head))
        if tied:
            _surround(decoder.embed_tokens, partial(self._using, head))
        else:
            info = self.filler.checkpoint.tensors["model.embed_tokens.weight"]
            dtype = self.filler.plan.kept_dtype("model.embed_tokens.weight", info.dtype)
            decoder.embed_tokens = EmbeddingOnDisk(
                info, dtype, self.filler.device_of("model.embed_tokens")
            )
        for module in model.modules():
            module.register_state_dict_pre_hook(_refuse_state_dict)

    @contextmanager
    def _pass(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """One run through all layers."""
        given = (*args, kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
        tokens = next(value for value in given if value is not None).shape[1]
        values = (*args, *kwargs.values())
        cache = next((value for value in values if hasattr(value, "get_seq_length")), None)
        generating = tokens == 1 and cache is not None and cache.get_seq_length() > 0
        hidden = generating or threading.current_thread() is not threading.main_thread()
        with self._lock, tqdm(
            total=self.filler.model.config.num_hidden_layers, desc="layers from disk",
            unit="layer", delay=2, leave=False, disable=hidden,
        ) as bar:  # fmt: skip
            try:
                self._bar, self._generating = bar, generating
                self._passes += 1
                yield
            finally:
                self._bar, self._generating = None, False

    @contextmanager
    def _layer(self, name: str, following: str, *_: Any, **__: Any) -> Iterator[None]:
        if self._generating and not self._is_mixture(name):
            self._count([name])
        with self._using(name):
            self._read_ahead([following])
            yield
        if self._bar is not None:
            self._bar.set_postfix_str(str(self), refresh=False)
            self._bar.update()
        if self.on_layer is not None:
            layers = self.filler.model.config.num_hidden_layers
            self.on_layer(int(name.rpartition(".")[2]) + 1, layers)

    @contextmanager
    def _using(self, name: str, *_: Any, **__: Any) -> Iterator[None]:
        """Have a unit filled inside the block."""
        with self._lock:
            depth = len(self._in_use)
            try:
                self._in_use.append(name)
                self._fill(self.units[name])
                yield
                self._wanted.discard(name)
            finally:
                del self._in_use[depth:]

    def _on_router(self, layer: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """The router has chosen: read the experts ahead, and do not let go of those at hand."""
        selected = output[2]
        experts, counts = selected.unique(return_counts=True)
        names = [f"{layer}.mlp.experts.{index}" for index in experts.tolist()]
        for name, count in zip(names, counts.tolist(), strict=True):
            self._use[name] = (self._late_use(name) + count / len(selected), self._passes)
        if self._generating:
            self._count(names)
        self._wanted = set(names)
        self._read_ahead(names)

    def _is_mixture(self, layer: str) -> bool:
        return f"{layer}.mlp.experts.0" in self.units

    def _is_held(self, unit: Unit) -> bool:
        return unit.name in self._held[unit.layer or ""]

    def _count(self, names: Collection[str]) -> None:
        self._uses += len(names)
        self._hits += sum(self._is_held(self.units[name]) for name in names)

    def _late_use(self, name: str) -> float:
        use, of_pass = self._use.get(name, (0.0, 0))
        return use * FADING ** (self._passes - of_pass)

    def _read_ahead(self, names: Collection[str]) -> None:
        modules = [
            module
            for name in names
            if not self._is_held(self.units[name])
            for module in self.units[name].modules
        ]
        if modules:
            self._reader.submit(read_ahead, self.filler.infos(modules))

    def _fill(self, unit: Unit) -> None:
        if self._filling is not None:  # an interruption came in between
            self._empty(self.units[self._filling])
        if self._is_held(unit):
            return
        while self.held_bytes + unit.nbytes > self.memory_bytes:
            self._empty(self.units[self._dispensable()])
        try:
            self._filling = unit.name
            with (
                torch.inference_mode(False),
                torch.no_grad(),
            ):  # ordinary tensors, usable everywhere
                for module in unit.modules:
                    self.filler.fill(module)
            self._held[unit.layer or ""][unit.name] = None
            self._filling = None
        except BaseException:
            self._empty(unit)
            raise
        self.bytes_read += sum(info.nbytes for info in self.filler.infos(unit.modules))

    def _empty(self, unit: Unit) -> None:
        self._filling = unit.name
        self._held[unit.layer or ""].pop(unit.name, None)
        for module in unit.modules:
            self.filler.empty(module)
        self._filling = None

    def _dispensable(self) -> str:
        """The unit whose room is given to another one."""
        for name in self._held[""]:
            if name not in self.kept and name not in self._in_use:
                return name
        for spared in (self._wanted, ()):
            rooms = [
                [name for name in room if name not in spared and name not in self._in_use]
                for layer, room in self._held.items()
                if layer
            ]
            if fullest := max(rooms, key=len, default=[]):
                return min(fullest, key=self._late_use)
        raise AssertionError("the least budget is too small")


class EmbeddingOnDisk(nn.Module):
    """An embedding whose rows are read when a text needs them.

    Parameters
    ----------
    info
        Where the matrix [vocabulary, hidden] lies.
    """

    def __init__(self, info: TensorInfo, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.info = info
        no_rows = torch.empty(0, info.shape[1], dtype=dtype, device=device)
        self.weight = nn.Parameter(no_rows, requires_grad=False)  # tells type and device

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Rows of token ids; the result has one more axis, hidden."""
        used, place = token_ids.unique(return_inverse=True)
        rows = read_rows("model.embed_tokens.weight", self.info, used.tolist())
        return rows.to(self.weight.device, self.weight.dtype)[place]


def _refuse_state_dict(*_: Any) -> None:
    raise QuantizationError(
        "This model's weights are on disk, so it cannot return them. Write them with "
        "pangu.save(folder), which reads the source checkpoint."
    )


def _surround(module: nn.Module, context: Callable[..., Any]) -> None:
    """Run a module's forward inside a context, which an interruption leaves properly too."""
    forward = module.forward

    @wraps(forward)
    def surrounded(*args: Any, **kwargs: Any) -> Any:
        with context(*args, **kwargs):
            return forward(*args, **kwargs)

    module.forward = surrounded
