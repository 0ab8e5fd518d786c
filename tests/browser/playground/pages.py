"""Static pages of views in tests: what they send is kept, and what they are told comes from the test."""

HOSTILE = [
    "<script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    "&amp;<b>bold</b>",
    " مرحبا بالعالم",
    "\u202eright to left",
    "a" * 10_000,
    "\ud83d",  # half of a surrogate pair
    "\ufffd\ufffd",
    "\x00\x1b[31m",
    "{{7*7}} ${7*7}",
    "]]>-->",
]


def page_of(view) -> str:
    """The static page; what it sends is kept, and what it is told comes from the test."""
    start, send = "widget.render(", "send: (question) => setTimeout"
    html = view.to_html()
    assert html.count(start) == html.count(send) == 1
    html = html.replace(send, "send: (question) => window.sent.push(question) && setTimeout")
    return html.replace(
        start, "window.sent = []; Object.assign(window, { model, listeners }); " + start
    )


def tell(page, message: dict) -> None:
    page.evaluate("(m) => listeners['msg:custom'].forEach((call) => call(m, []))", message)


def step(
    piece: str, number: int = 0, span: str = "answer", text: str | None = None, **more
) -> dict:
    """A token as Python tells of it, with two alternatives: one is kept, one was cut."""
    others = [
        [number, piece, -0.5, -0.2, True],
        [900, " other", -1.5, -1.7, True],
        [901, "<img src=x>", -3.0, None, False],
    ]
    return {
        "id": number,
        "piece": piece,
        "text": piece if text is None else text,
        "logprob": -0.5,
        "entropy": 1.25,
        "span": span,
        "cut": "",
        "given": False,
        "others": others,
    } | more


def stream(page, steps: list[dict], start: int = 0, **status) -> None:
    status = {"tokens": start + len(steps), "speed": 12.34, "used": 40, "memory_gb": 1.5} | status
    tell(page, {"kind": "steps", "from": start, "steps": steps, "status": status})


def end(page, **more) -> None:
    """The generation has ended and is the second of two branches."""
    nodes = [
        {"id": 0, "name": "prompt 1", "at": None, "depth": 0, "preview": "four"},
        {"id": 1, "name": "other at 1", "at": 1, "depth": 1, "preview": " other"},
    ]
    status = {"tokens": 2, "used": 40, "seconds": 2.0, "reason": "max tokens reached", "finish": "length"}  # fmt: skip
    message = {"kind": "tree", "nodes": nodes, "current": 1, "undo": True, "redo": False, "status": status, "error": ""}  # fmt: skip
    page.evaluate("model.set('running', false)")
    tell(page, message | more)
