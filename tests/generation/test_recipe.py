"""A recipe is all that it takes: the copied cell gives the same text in another process."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.ascend_files import make_ascend_checkpoint
from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load
from workbench.checkpoints.fingerprint import fingerprint, versions
from workbench.errors import GenerationError
from workbench.generation.recipe import Recipe
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation

QUESTION = [
    {"role": "system", "content": "Answer in one word. 'quotes' \"and\" \\n \u202e\u2028</script>"},
    {"role": "user", "content": "What is 27 + 45?"},
]


@pytest.fixture(scope="module")
def demo():
    return load("demo", bits=4, device="cpu")


def run(code: str) -> subprocess.CompletedProcess:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )


def test_the_copied_cell_gives_the_same_text_in_a_new_process(demo):
    sampling = Sampling(
        1.1, 0.98, 0, 7, min_p=0.01, repetition_penalty=1.05, logit_bias={300: -2.5}
    )
    trunk = demo.generate(QUESTION, 24, sampling, thinking="fast", alternatives=3)
    other = trunk.steps[2].alternatives[1].token_id
    branch = demo.generate(
        QUESTION,
        16,
        sampling,
        thinking="fast",
        begun=trunk.begun(2, other),
        stop_strings=["zzz", "\n"],
    )
    assert branch.text
    done = run(branch.to_python())
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == str(branch).rstrip("\n")
    changed = replace(branch, steps=(*branch.steps, branch.steps[0]))
    failed = run(changed.to_python())
    assert "AssertionError: the text differs; it was made with workbench" in failed.stderr


@pytest.mark.parametrize(
    "prompt", ["To be\u202e", QUESTION, [1, 45, 99]], ids=["text", "chat", "ids"]
)
def test_a_recipe_comes_back_from_json(prompt, moe):
    sampling = Sampling(0.3, logit_bias={4: 1.5}, min_p=0.1)
    result = moe.generate(prompt, 2, sampling, begun=[5, 6], stop_strings="END", thinking="auto")
    recipe = result.recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe.prompt == (prompt if isinstance(prompt, str) else tuple(prompt))
    assert recipe.prompt_ids == tuple(moe.encode(prompt, "auto"))
    assert (recipe.begun, recipe.stop_strings, recipe.thinking) == ((5, 6), ("END",), "auto")
    assert (recipe.bits, recipe.fingerprint) == (16, moe.fingerprint)
    assert set(recipe.versions) >= {
        "workbench",
        "torch",
        "transformers",
        "bitsandbytes",
        "processor",
    }
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert versions()["threads"] == str(threads + 1) != recipe.versions["threads"]
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("values", [[], {}, {"prompt": "a"}, {"sampling": {"top_p": 7}}])
def test_what_is_no_recipe_is_refused(values):
    with pytest.raises(GenerationError, match="this is not a recipe"):
        Recipe.from_dict(values)


def test_a_generation_without_a_recipe_cannot_be_copied():
    with pytest.raises(GenerationError, match="carries no recipe"):
        Generation((1, 2), 1, (), "stopped").to_python()


def test_a_recipe_of_a_server_connects_to_it():
    recipe = Recipe("pangu", "", 0, "", "http://localhost:8000/v1", "To be", ())
    code = recipe.to_python("or not")
    assert "wb.connect('http://localhost:8000/v1', model='pangu')" in code
    assert "assert" not in code  # it promises nothing
    compile(code, "cell", "exec")


def test_other_files_have_another_fingerprint(tmp_path):
    one = make_tiny_checkpoint(tmp_path / "one")
    shutil.copytree(one, tmp_path / "same")
    others = {
        "weights": make_tiny_checkpoint(tmp_path / "weights", seed=1),
        "config": make_tiny_checkpoint(tmp_path / "config", rope_theta=17000.0),
        "type": make_tiny_checkpoint(tmp_path / "type", dtype="bfloat16"),
        "shards": make_tiny_checkpoint(tmp_path / "shards", shards=2),
    }
    assert fingerprint(tmp_path / "same") == fingerprint(one)
    (tmp_path / "same" / "notes.txt").write_text("a note")
    assert fingerprint(tmp_path / "same") == fingerprint(one)
    found = {fingerprint(one), *map(fingerprint, others.values())}
    assert len(found) == 5
    assert load(one, bits=16, device="cpu").fingerprint == fingerprint(one)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("quant_model_description.json", "quant_model_description_w8a16.json"),
        ("quant_model_weights.safetensors.index.json", "notes.json"),
    ],
)
def test_ascend_descriptions_are_part_of_the_fingerprint(name, kept, tmp_path):
    folder, _ = make_ascend_checkpoint(tmp_path, "PanguEmbedded")
    (folder / name).write_text('{"a": "W8A8_MIX"}')
    one = fingerprint(folder)
    (folder / name).write_text('{"a": "W8A8"}')
    two = fingerprint(folder)
    (folder / name).rename(folder / kept)
    assert len({one, two, fingerprint(folder)}) == 3


def test_a_fingerprint_stays_what_it_was(tmp_path):
    """Recipes and corpora of earlier versions hold it."""
    (tmp_path / "config.json").write_text("{}")
    header = b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}'
    file = len(header).to_bytes(8, "little") + header + b"abc"
    (tmp_path / "model.safetensors").write_bytes(file)
    assert fingerprint(tmp_path) == "7d72669ce213c8c6"


def test_a_stopped_text_is_made_again_up_to_where_it_stopped(moe):
    ids = [1, 45, 99, 7]
    steps = moe.stream(ids, 50, Sampling(temperature=1.0, seed=3))
    for _ in range(4):
        next(steps)
    steps.close()
    assert steps.generation.finish_reason == "stopped"
    assert "max_new_tokens=4" in steps.generation.to_python()
    nothing = moe.stream(ids, 50, Sampling(temperature=1.0, seed=3))
    nothing.close()
    with pytest.raises(GenerationError, match="before its first token"):
        nothing.generation.to_python()
