"""What these tests share. The playground in Python."""

import threading


def generate(view, **settings):
    for name, value in settings.items():
        setattr(view, name, value)
    view.start()
    return view.wait(60)


def steps_told(view) -> list[dict]:
    """The tokens that a page would hold, put together from what it was told."""
    held = []
    for message in view.told:
        if message["kind"] == "state":
            held = list(message["steps"])
        elif message["kind"] == "steps":
            assert message["from"] <= len(held)
            held[message["from"] :] = message["steps"]
    return held


def begin_and_wait_for_tokens(play, **settings):
    """Start an endless generation; return when its first tokens are there."""
    begun, tell = threading.Event(), play.send

    def hear(content, buffers=None):
        tell(content)
        if content["kind"] == "steps":
            begun.set()

    play.send = hear
    for name, value in {"max_new_tokens": 400, **settings}.items():
        setattr(play, name, value)
    play.start()
    assert begun.wait(60)
