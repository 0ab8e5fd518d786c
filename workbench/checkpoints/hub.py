"""Checkpoints on the Hugging Face hub: the small files first, the weights when all else is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.checkpoints.shards import ASCEND_PREFIX, TensorInfo, refuse_without_weights
from workbench.errors import CheckpointError

SMALL_FILES = ["*.json", "tokenizer.model"]


def fetch_description(repository: str) -> Path:
    """Download config, tokenizer and index of a repository, no weights; returns the folder.

    The folder's name is the revision (the hub's cache names it so); `fetch_weights` takes the same.

    Raises
    ------
    CheckpointError
        If the repository or the network is not there.
    """
    from huggingface_hub import snapshot_download

    return Path(_asked(repository, snapshot_download, repository, allow_patterns=SMALL_FILES))


def remote_tensors(repository: str, folder: Path) -> dict[str, TensorInfo]:
    """What the repository's safetensors files hold, from their headers, which the hub serves alone.

    Raises
    ------
    CheckpointError
        If there are no safetensors files, or the hub does not answer.
    """
    from huggingface_hub import HfApi

    api, revision = HfApi(), folder.name
    names = _asked(repository, api.list_repo_files, repository, revision=revision)
    if not any(name.endswith(".safetensors") for name in names):
        refuse_without_weights(repository, names)
    ascend = [n for n in names if re.fullmatch(rf"{ASCEND_PREFIX}[^/]*\.safetensors", n)]
    if ascend:  # names that the hub's own look-up does not know
        files = {
            name: _asked(
                repository, api.parse_safetensors_file_metadata, repository, name, revision=revision
            )
            for name in ascend
        }
    else:
        metadata = _asked(repository, api.get_safetensors_metadata, repository, revision=revision)
        files = metadata.files_metadata
    return {
        name: TensorInfo(
            folder / file_name, tensor.dtype, tuple(tensor.shape), tensor.data_offsets[0],
            tensor.data_offsets[1] - tensor.data_offsets[0],
        )
        for file_name, file in files.items()
        for name, tensor in file.tensors.items()
    }  # fmt: skip


def fetch_weights(repository: str, folder: Path) -> None:
    """Download the safetensors files of the revision that `fetch_description` found.

    Raises
    ------
    CheckpointError
        If the network is not there; what was downloaded is kept, and the next call goes on.
    """
    from huggingface_hub import snapshot_download

    _asked(
        repository,
        snapshot_download,
        repository,
        revision=folder.name,
        allow_patterns=["*.safetensors"],
    )


def _asked(repository: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return call(*arguments, **options)
    except Exception as error:  # the hub's library has no one class for all that can go wrong
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"{repository} is not a folder here and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}: {reason}). Check the name and the network, or download the "
            "checkpoint and pass its folder."
        ) from error
