"""The grid of a prompt matrix in a real browser, its Python behind it, without Jupyter."""

import threading
from pathlib import Path

import pytest

import workbench as wb
from tests.helpers.scripted import Scripted

HOSTILE = [
    "</td><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>",
    "‮evil‬ שלום abc مرحبا",
    "x" * 10_000,
    "\ufffd\x00\x1b[31m {{x}} ${x} &lt;b&gt;",
]


class Live:
    """A page whose messages reach the view, and the other way round."""

    def __init__(self, view, watched, folder: Path) -> None:
        self.view, self.page, self.outbox, self.asked = view, watched.page, [], []
        view.send = lambda content, buffers=None: self.outbox.append(content)
        view.observe(lambda change: self.outbox.append({"trait": change["name"], "value": change["new"]}), ["running", "cell"])  # fmt: skip
        self.page.expose_function("toPython", self._hear)
        html = view.to_html()
        send = "send: (question) => setTimeout"
        assert send in html
        html = html.replace(
            send, "send: (question) => window.toPython(question).then || setTimeout"
        )
        html = html.replace("widget.render(", "window.model = model; window.listeners = listeners; widget.render(")  # fmt: skip
        file = folder / "page.html"
        file.write_text(html, encoding="utf-8", errors="replace")
        self.page.goto(file.as_uri())
        self.until("() => document.querySelector('[data-ready=true]')")

    def _hear(self, question) -> None:
        self.asked.append(question["kind"])
        answered = self.view.answer(question)
        if answered is not None:
            self.outbox.append(answered[0])

    def pump(self) -> None:
        """Give the page what waits for it."""
        while self.outbox:
            message = self.outbox.pop(0)
            if "trait" in message:
                self.page.evaluate("(m) => model.set(m.trait, m.value)", message)
            else:
                self.page.evaluate("(m) => listeners['msg:custom'].forEach((call) => call(m, []))", message)  # fmt: skip

    def until(self, condition: str) -> None:
        """Go on until the page fulfils a condition."""
        for _ in range(400):
            self.pump()
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(condition)


def state(place: int, value: str) -> str:
    return f"() => document.querySelectorAll('.cell')[{place}].dataset.state === '{value}'"


@pytest.fixture
def gate():
    return threading.Semaphore(0)


def make(gate, path=None, texts=("one", "two")):
    def answer(prompt, sampling):
        return [("Hm. ", "thinking"), prompt, "!" * int(sampling.temperature)]

    settings = {"calm": wb.Sampling(1.0), "loud": wb.Sampling(3.0), "mute": wb.Sampling.greedy()}
    return wb.PromptMatrix("{{x}}", {"x": list(texts)}, settings, Scripted(answer, gate=gate), path)


def test_a_grid_is_watched_stopped_rated_and_resumed(watched, tmp_path, gate):
    path = tmp_path / "matrix.jsonl"
    live = Live(wb.PromptMatrixView(make(gate, path)), watched, tmp_path)
    page = live.page
    page.get_by_role("button", name="Run 6 cells").click()
    gate.release(4 + 1)  # a cell, and a step of the next
    live.until(
        "() => document.querySelectorAll('.cell')[1].querySelector('.thinking').textContent === 'Hm. '"
    )
    summaries = page.locator(".cell summary")
    assert summaries.nth(1).text_content() == "thinking, 1 token"  # folded, it is seen to go on
    assert summaries.nth(0).text_content() == "thinking"
    assert page.locator(".cell").nth(0).locator(".said").text_content() == "one!"
    assert page.locator("[role=status]").text_content() == "generating: 1 of 6 cells done"
    page.evaluate("model.set('doing', 'layer 2 of 48')")
    status = "generating · layer 2 of 48: 1 of 6 cells done"
    assert page.locator("[role=status]").text_content() == status
    page.evaluate("model.set('doing', '')")
    page.get_by_role("button", name="Stop").click()
    live.pump()
    gate.release(1)
    live.until("() => document.querySelector('.pw-matrix').dataset.state === 'open'")
    assert page.locator(".cell").nth(1).get_attribute("data-state") == "waiting"

    page.get_by_role("radio", name="4 of 5").first.click()
    page.get_by_label("note on cell 0").fill("<b>good</b>")
    page.get_by_label("note on cell 0").press("Tab")
    live.until(
        "() => document.querySelector('thead th:nth-child(2) .small').textContent === '★ 4.0 (1 rated)'"
    )

    gate.release(100)
    again = make(gate, path)  # after a restart of the kernel
    assert again.table().loc[0, ["rating", "note"]].tolist() == [4, "<b>good</b>"]
    again.run(progress=False)
    live.view.matrix._results.update(again._results)
    live._hear({"kind": "want"})
    live.until("() => document.querySelector('.pw-matrix').dataset.state === 'done'")
    shown = [cell.text_content() for cell in page.locator(".cell .said").all()]
    assert shown == again.table()["answer"].tolist()
    assert page.get_by_role("button", name="All cells are done").is_disabled()


def test_arrows_move_and_digits_rate(watched, tmp_path, gate):
    gate.release(100)
    matrix = make(gate)
    matrix.run(progress=False)
    live = Live(wb.PromptMatrixView(matrix), watched, tmp_path)
    page = live.page
    page.locator(".cell").nth(0).click()
    live.until("() => document.querySelector('.detail').dataset.cell === '0'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    live.until("() => document.querySelector('.detail').dataset.cell === '4'")
    assert page.locator(".cell[aria-selected=true] .said").text_content() == "two!!!"
    page.keyboard.press("5")
    live.until(
        "() => document.querySelector('thead th:nth-child(3) .small').textContent.includes('5.0')"
    )
    assert matrix.table().loc[4, "rating"] == 5
    stars = page.locator(".cell").nth(4).get_by_role("radio")
    page.keyboard.press("0")
    live.until("() => document.querySelector('thead th:nth-child(3) .small').textContent === ''")
    assert stars.all_text_contents() == ["☆"] * 5
    assert matrix.result(4).rating is None
    for value, shown in [
        (2, "★★☆☆☆"),
        (4, "★★★★☆"),
        (4, "☆☆☆☆☆"),
    ]:  # the same star again takes it back
        stars.nth(value - 1).click()
        live.until(f"() => document.querySelectorAll('.cell')[4].querySelector('[role=radiogroup]').textContent === '{shown}'")  # fmt: skip
    assert matrix.result(4).rating is None
    assert page.locator(".detail .asked").text_content() == "two"
    tokens = page.locator(".detail .token")
    assert tokens.all_text_contents() == ["Hm. ", "two", "!!!"]
    assert tokens.nth(1).get_attribute("title") == "“two” 60.0 %"
    assert "c1" in tokens.nth(1).get_attribute("class").split()


def test_what_a_stop_string_cut_off_is_struck_through(moe, watched, tmp_path):
    sampling = wb.Sampling(1.0, 1.0, 0, logit_bias={moe.tokenizer.eos_token_id: -100})
    texts = [step.text for step in moe.generate("To be", 30, sampling).steps]
    place = next(
        n for n in range(29) if len(texts[n]) > 1 and texts[n + 1]
        and texts[n][-1] + texts[n + 1][0] not in "".join(texts[: n + 1])
    )  # fmt: skip
    stop_string = texts[place][-1] + texts[place + 1][0]
    matrix = wb.PromptMatrix(
        "{{x}}", {"x": ["To be"]}, sampling, moe, mode="raw", max_new_tokens=30,
        stop_strings=stop_string,
    )  # fmt: skip
    matrix.run(progress=False)
    page = watched.open(wb.PromptMatrixView(matrix, cell=0).to_html(), tmp_path)
    page.wait_for_selector(".detail[data-cell='0']")
    cut = page.locator(".detail .token s")
    assert cut.count() == 2
    tokens = page.locator(".detail .token")
    assert tokens.count() == place + 2
    assert tokens.last.get_attribute("title").endswith(", cut off by the stop string")


def test_a_note_that_is_being_typed_outlives_another_page_and_a_run(watched, tmp_path, gate):
    gate.release(4)
    matrix = make(gate)
    view = wb.PromptMatrixView(matrix)
    live = Live(view, watched, tmp_path)
    view.start()
    live.until(state(0, "done"))
    page, note = live.page, live.page.get_by_label("note on cell 0")
    page.locator(".cell summary").first.click()
    note.click()
    page.keyboard.type("too sh")
    page.keyboard.press("ArrowLeft")
    view.send(view.answer({"kind": "want"})[0])  # what a second page gets, this one hears as well
    gate.release(100)
    live.until("() => document.querySelector('.pw-matrix').dataset.state === 'done'")
    assert note.input_value() == "too sh"
    assert note.evaluate("(note) => note === document.activeElement")
    assert matrix.result(0).note == ""  # nothing half typed was kept
    assert page.locator(".cell details").first.get_attribute("open") == ""
    page.keyboard.type("-")
    page.keyboard.press("Tab")
    live.until("() => document.querySelector('.marks input').value === 'too s-h'")
    assert matrix.table().loc[0, "note"] == "too s-h"


def test_tokens_that_the_page_has_are_not_asked_for_again(watched, tmp_path, gate):
    view = wb.PromptMatrixView(make(gate))
    live = Live(view, watched, tmp_path)
    view.start()
    gate.release(1)
    thought = "() => document.querySelector('.cell .thinking').textContent === 'Hm. '"
    live.until(thought)
    live.asked.clear()
    written = [["Hm. ", "thinking"], ["one", "answer"]]
    view.send({"kind": "more", "cell": 0, "from": 0, "written": written})
    live.until("() => document.querySelector('.cell .said').textContent === 'one'")
    assert live.page.evaluate(thought)
    assert "want" not in live.asked
    view.send({"kind": "more", "cell": 0, "from": 7, "written": [["!", "answer"]]})
    live.until("() => document.querySelector('.cell .said').textContent === ''")
    assert live.asked == ["want"]  # and the state that came holds the only step there is
    gate.release(100)
    view.wait(30)
    live.until("() => document.querySelector('.pw-matrix').dataset.state === 'done'")


@pytest.mark.parametrize("clipboard", ["works", "refuses", "is missing"])
@pytest.mark.parametrize("old_way", ["works", "refuses"])
def test_copied_is_said_of_what_was_copied(clipboard, old_way, watched, tmp_path, gate):
    gate.release(100)
    matrix = make(gate)
    matrix.run(progress=False)
    view = wb.PromptMatrixView(matrix, cell=4)
    page = watched.open(view.to_html(), tmp_path)
    page.wait_for_selector(".detail[data-cell='4']")
    page.evaluate(
        """([clipboard, oldWay]) => {
          const writeText = async (text) => {
            if (clipboard === "refuses") throw new Error("not allowed");
            window.copied = text;
          };
          const value = clipboard === "is missing" ? undefined : { writeText };
          Object.defineProperty(navigator, "clipboard", { value });
          if (oldWay === "refuses") document.execCommand = () => false;
          document.addEventListener("copy", ({ target }) => {
            window.copied = target.value.slice(target.selectionStart, target.selectionEnd);
          });
        }""",
        [clipboard, old_way],
    )
    page.get_by_text("Copy as Python").click()
    python = view.answer({"kind": "detail", "cell": 4})[0]["python"]
    said = page.locator(".detail .copied")
    if "works" in (clipboard, old_way):
        said.get_by_text("copied", exact=True).wait_for()
        assert page.evaluate("window.copied") == python
        assert page.evaluate("document.activeElement.textContent") == "Copy as Python"
    else:
        said.get_by_text("The code is selected: press Ctrl+C").wait_for()
        assert page.evaluate("getSelection().toString()") == python
        assert page.evaluate("window.copied") is None


def test_hostile_text_is_only_text_in_the_grid(watched, tmp_path, gate):
    gate.release(1000)
    matrix = make(gate, texts=HOSTILE)
    matrix.run(progress=False)
    matrix.rate(0, 1, HOSTILE[0])
    view = wb.PromptMatrixView(matrix, cell=0)
    page = watched.open(view.to_html(), tmp_path)
    page.wait_for_selector(".detail[data-cell='0']")
    said = page.locator(".cell .said").all_text_contents()
    assert said[0] == HOSTILE[0] + "!"
    assert said[3] == "U+202EevilU+202C שלום abc مرحبا!"
    assert said[6] == HOSTILE[2] + "!"
    assert said[9] == "\ufffdU+0000U+001B[31m {{x}} ${x} &lt;b&gt;!"
    assert page.get_by_label("note on cell 0").input_value() == HOSTILE[0]
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0  # 10,000 characters without a space push nothing out of the page


def test_a_page_without_kernel_says_so(watched, tmp_path, gate):
    page = watched.open(wb.PromptMatrixView(make(gate)).to_html(), tmp_path)
    page.get_by_role("button", name="Run 6 cells").click()
    page.wait_for_selector(".warn:not([hidden])")
    assert "no kernel" in page.locator(".warn").text_content()


def test_a_kernel_that_has_gone_is_told_of(watched, tmp_path, gate):
    html = wb.PromptMatrixView(make(gate)).to_html()
    html = html.replace("widget.render(", "window.model = model; widget.render(")
    page = watched.open(html, tmp_path)
    page.evaluate("model.send = () => { throw new Error('Cannot send'); }; null")
    page.get_by_role("button", name="Run 6 cells").click()
    assert "is gone: run its cell again" in page.locator(".warn").text_content()
    page.evaluate("document.querySelector('.warn').textContent = ''")
    page.locator(".cell").first.click()
    assert "is gone: run its cell again" in page.locator(".warn").text_content()


def test_the_page_of_a_history_shows_hostile_text_and_runs_nothing(watched, tmp_path):
    from tests.prompts.test_history import HOSTILE as MORE
    from tests.prompts.test_history import make as generation

    history = wb.History(tmp_path / "history.jsonl")
    for text in [*MORE, *HOSTILE]:
        entry = history.add(generation(text, prompt=text, thinking=text))
        history.rate(entry, 3, text)
    page = watched.page
    history.to_html(tmp_path / "history.html")
    page.goto((tmp_path / "history.html").as_uri())
    shown = page.locator("article").nth(0).locator(".text").all_text_contents()
    assert shown[:4] == [MORE[0]] * 4  # prompt, thinking, answer, note
    assert "U+202Eevil" in page.locator("article").nth(2).text_content()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, script, b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
