"""What these tests share. Every kind of broken checkpoint has its own error, and it says what to do."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def change_config(folder: Path, **values) -> None:
    (folder / "config.json").write_text(json.dumps(config_of(folder) | values))


def change_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def nan(folder):
    name = "model.layers.2.mlp.experts.3.down_proj.weight"
    change_tensors(folder, lambda t: t[name][0].fill_(float("nan")))


def infinity(folder):
    change_tensors(folder, lambda t: t["model.norm.weight"][0].fill_(float("inf")))
