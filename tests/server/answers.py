"""What these tests share. A model behind an OpenAI-compatible server, against one on this machine that says what it is told."""

from tests.helpers.fake_server import chat

ASK = [{"role": "user", "content": "What is 2 + 2?"}]


KEY = "sk-secret-4711-abcdefgh"


END = chat("", [], finish="stop")


def plain(script):
    """The server no longer says that it is vLLM."""
    script.models = [{"id": "pangu", "owned_by": "somebody"}]
