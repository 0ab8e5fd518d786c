"""A model behind an OpenAI-compatible server, against one on this machine that says what it is told: connecting."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb
from tests.helpers.fake_server import chat, entry, fake_server
from tests.server.answers import ASK, END, KEY
from workbench.errors import ServerError
from workbench.server.remote import connect


def everything_in_a_traceback(raised) -> str:
    """What a notebook shows with %xmode Verbose: every frame with its variables."""
    from IPython.core.ultratb import VerboseTB

    return VerboseTB(theme_name="nocolor").text(raised.type, raised.value, raised.tb)


def test_a_port_where_nobody_listens_is_told():
    with fake_server() as gone:
        url = gone.url
    with pytest.raises(ServerError, match=r"cannot be reached: .*refused.*Is the server running"):
        connect(url)


def test_an_unknown_model_is_told_with_those_there_are(server):
    server.models = [{"id": "pangu-7b"}, {"id": "pangu-72b"}]
    with pytest.raises(
        ServerError, match="several models: pass model=, one of 'pangu-7b', 'pangu-72b'"
    ):
        connect(server.url)
    with pytest.raises(ServerError, match="has no model 'pangu'; it has 'pangu-7b', 'pangu-72b'"):
        connect(server.url, "pangu")
    assert connect(server.url, "pangu-72b").name == "pangu-72b"


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_that_cannot_list_its_models_is_believed(server, status):
    server.status, server.error = status, {"error": {"message": "Not Found"}}
    assert connect(server.url, "pangu").name == "pangu"
    with pytest.raises(ServerError, match=f"HTTP {status}"):
        connect(server.url)
    server.status, server.models = 200, []
    with pytest.raises(ServerError, match="lists no models"):
        connect(server.url)


def test_a_web_page_is_no_server(server):
    server.models = "not a list"
    with pytest.raises(ServerError, match="not answer like OpenAI's API"):
        connect(server.url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8000", "not an address"),
        ("ftp://x/v1", "not an address"),
        ("http://me:pw@x/v1", "user name"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url, expected):
    with pytest.raises(ServerError, match=expected) as refused:
        connect(url)
    assert "pw" not in str(refused.value)


def test_the_key_of_the_environment_opens_the_server(locked, monkeypatch):
    locked.chunks = [chat("4"), END]
    pangu = connect(locked.url, api_key_env="PANGU_TEST_KEY")
    assert pangu.generate(ASK).text == "4"
    assert locked.requests[-1]["authorization"] == f"Bearer {KEY}"
    monkeypatch.delenv("PANGU_TEST_KEY")
    with pytest.raises(
        ServerError, match=r"requires a key, and none was sent .*set PANGU_TEST_KEY"
    ):
        pangu.generate(ASK)


def test_the_key_is_nowhere_to_be_seen(locked, monkeypatch, tmp_path):
    locked.chunks = [chat("4", [entry("4", -0.5)]), END]
    pangu = connect(locked.url, api_key_env="PANGU_TEST_KEY")
    generation = pangu.generate(ASK)
    stream = pangu.stream(ASK)
    history = wb.History(tmp_path / "history.jsonl")
    history.add(generation)
    shown = [repr(pangu), str(vars(pangu)), repr(stream), repr(generation), history.to_html()]
    shown += [json.dumps(generation.recipe.as_dict()), history.path.read_text(encoding="utf-8")]
    shown += [generation.to_python()]
    locked.key = "another"
    with pytest.raises(ServerError, match="rejects the key") as refused:
        pangu.generate(ASK)
    assert "[key]" in str(refused.value)  # the server had repeated it
    shown += [str(refused.value), repr(refused.value), everything_in_a_traceback(refused)]
    locked.key, locked.status = None, 429
    locked.error = {"error": {"message": f"too many requests of {KEY}"}}
    with pytest.raises(ServerError) as limited:
        pangu.generate(ASK)
    shown += [str(limited.value), everything_in_a_traceback(limited)]
    for text in shown:
        assert KEY not in text


def test_a_key_in_the_place_of_its_variable_is_refused_without_repeating_it():
    with pytest.raises(ServerError, match="never the key itself") as refused:
        connect("http://localhost:1/v1", api_key_env="hf_abcdefgh")
    assert "abcdefgh" not in str(refused.value)


def test_a_key_that_would_travel_in_the_open_is_told(monkeypatch):
    monkeypatch.setenv("PANGU_TEST_KEY", KEY)
    with (
        pytest.warns(UserWarning, match="goes to host.invalid unencrypted") as warned,
        pytest.raises(ServerError, match="cannot be reached"),
    ):
        connect("http://host.invalid:9/v1", api_key_env="PANGU_TEST_KEY")
    assert KEY not in str(warned[0].message)


def test_a_saved_notebook_does_not_hold_the_key(locked, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    locked.chunks = [chat("4", [entry("4", -0.5)]), END]
    cells = [
        f"import workbench as wb\npangu = wb.connect({locked.url!r}, api_key_env='PANGU_TEST_KEY')",
        "pangu",
        "generation = pangu.generate([{'role': 'user', 'content': '2 + 2'}])\nprint(generation)",
        "wb.History('h.jsonl').add(generation)",
        "vars(pangu)",
        "%xmode Verbose\nimport os\npangu.generate([])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(
        notebook, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    saved = nbformat.writes(notebook)
    assert "RemotePangu" in saved
    assert "the conversation is empty" in saved or "the prompt is empty" in saved
    assert KEY not in saved


def test_a_server_is_used_without_torch():
    code = "import sys, workbench.server.remote, workbench.prompts.history, workbench.prompts.presets, workbench.prompts.prompt_matrix\n"
    code += "print(sorted({'torch', 'transformers', 'openai'} & sys.modules.keys()))"
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
