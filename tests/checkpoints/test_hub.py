"""A repository on the hub: its description first, its weights only when all else is known."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from safetensors.torch import load_file, save_file

from tests.helpers.ascend_files import make_ascend_checkpoint
from tests.helpers.tiny import make_tiny_checkpoint
from workbench import Trace

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub's interface that a download asks for; serves one folder."""

    folder: Path
    asked: list[str]

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool):
        path = unquote(self.path).split("?")[0]
        if path.startswith("/api/models/owner/pangu"):
            files = sorted(file.name for file in self.folder.iterdir())
            if "/tree/" in path:
                body = [
                    {"type": "file", "path": n, "size": (self.folder / n).stat().st_size, "oid": n}
                    for n in files
                ]
            else:
                body = {
                    "id": "owner/pangu",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in files],
                }
            return self.send(json.dumps(body).encode(), with_body)
        name = path.rpartition("/")[2]
        if path.startswith("/owner/pangu/resolve/") and (self.folder / name).is_file():
            content = (self.folder / name).read_bytes()
            if with_body:  # a part is the header alone
                self.asked.append(name + (" (part)" if "Range" in self.headers else ""))
            return self.send(content, with_body, {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'})
        return self.send(b"{}", with_body, {"X-Error-Code": "EntryNotFound"}, 404)

    def send(self, content, with_body, headers=None, status=200):
        if with_body and status == 200 and (span := self.headers.get("Range")):
            first, _, last = span.removeprefix("bytes=").partition("-")
            content, status = content[int(first) : int(last or len(content)) + 1], 206
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


class Served:
    """A repository owner/pangu served on this machine, and commands that see only this hub."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        handler = type("Handler", (Hub,), {"folder": folder, "asked": []})
        self.asked: list[str] = handler.asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
        }

    def weights(self) -> list[str]:
        """Safetensors files that were downloaded whole, in order."""
        return sorted(name for name in self.asked if name.endswith(".safetensors"))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "workbench", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip


@pytest.fixture
def hub(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "served", dtype="bfloat16", shards=2)
    served = Served(folder, tmp_path / "home")
    yield served
    served.server.shutdown()


def test_a_repository_is_traced_and_its_weights_are_fetched_once(hub, tmp_path):
    for number in range(2):
        out = tmp_path / f"{number}.trace"
        result = hub.run("trace", "owner/pangu", "--prompt", "To be", "--out", str(out))
        assert result.returncode == 0, result.stderr
        assert Trace.load(out).model_name == "owner/pangu"
    assert hub.weights() == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]


def test_the_plan_needs_no_weights(hub):
    result = hub.run("inspect", "owner/pangu", "--bits", "4", "--plan-only")
    assert "0.004 GB, on the hub" in result.stdout
    assert "Plan for owner/pangu in 4 bit" in result.stdout
    assert hub.weights() == []


def test_the_least_memory_is_planned_without_weights(tmp_path):
    folder = make_tiny_checkpoint(
        tmp_path / "served", "PanguEmbedded", dtype="bfloat16", tie_word_embeddings=True
    )
    tensors = load_file(
        folder / "model.safetensors"
    )  # with a head that is compared when it is here
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    served = Served(folder, tmp_path / "home")
    asked = ("inspect", "owner/pangu", "--bits", "16", "--device", "cpu", "--memory", "20KB")
    result = served.run(*asked, "--plan-only")
    assert "GB free: does not fit; the minimum is" in result.stdout, result.stderr
    assert served.weights() == []
    refused = served.run(*asked)
    least = result.stdout.partition("the minimum is ")[2].partition("B.")[0]
    assert f"the minimum is {least}B, for" in refused.stderr
    assert served.weights() == []
    served.server.shutdown()


def test_what_cannot_be_converted_is_not_downloaded(hub, tmp_path):
    asked = f"""
import shutil, sys
from workbench.cli import main
usage = shutil.disk_usage
shutil.disk_usage = lambda place: usage(place)._replace(free=1000)
sys.exit(main(["quantize", "owner/pangu", {str(tmp_path / "out")!r}, "--bits", "4"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", asked], env=hub.environment, capture_output=True, text=True
    )
    assert "the disk has 1.00 KB free" in result.stderr, result.stderr
    assert hub.weights() == []
    assert not (tmp_path / "out").exists()


def test_another_model_is_refused_before_its_weights_are_fetched(hub):
    file = hub.folder / "config.json"
    values = json.loads(file.read_text()) | {"model_type": "llama", "architectures": ["Llama"]}
    file.write_text(json.dumps(values))
    result = hub.run("inspect", "owner/pangu")
    assert result.returncode == 2
    assert "not a Pangu model" in result.stderr
    assert hub.weights() == []


def test_pickled_weights_are_refused_before_they_are_fetched(hub):
    for file in hub.folder.glob("model*"):
        file.unlink()
    shutil.copyfile(hub.folder / "config.json", hub.folder / "pytorch_model.bin")
    result = hub.run("inspect", "owner/pangu")
    assert result.returncode == 2
    assert "only pickled weights (pytorch_model.bin)" in result.stderr
    assert "pytorch_model.bin" not in hub.asked


def test_a_repository_that_is_not_there_is_said_so(hub):
    result = hub.run("inspect", "owner/no-such-pangu")
    assert result.returncode == 2
    assert "could not be fetched from the Hugging Face hub" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_ascend_repository_is_planned_without_its_weights_and_loaded(tmp_path):
    folder, _ = make_ascend_checkpoint(tmp_path / "made", "PanguEmbedded")
    served = Served(folder, tmp_path / "home")
    planned = served.run("inspect", "owner/pangu", "--plan-only")
    assert "stored as w8a16" in planned.stdout, planned.stderr
    assert "Plan for owner/pangu in 8 bit" in planned.stdout
    assert served.weights() == []
    loaded = served.run("inspect", "owner/pangu")
    assert "int8" in loaded.stdout, loaded.stderr
    assert served.weights() == ["quant_model_weights.safetensors"]
    served.server.shutdown()
