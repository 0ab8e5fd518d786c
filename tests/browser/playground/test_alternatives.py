"""The playground's page: what else could have come, by pointer and keyboard."""

from tests.browser.playground.pages import end, page_of, step, stream
from tests.helpers.fake_server import fake_server
from workbench import connect
from workbench.views import Playground


def test_hovering_shows_alternatives_before_and_after_the_filters_and_a_click_branches(play):
    stream(play, [step("four", 7), step(" five", 8)])
    end(play)
    play.locator(".token").nth(1).hover()
    shown = play.locator(".popover")
    assert "“ five” 60.7 %" in shown.text_content()
    assert "entropy 1.25 bits" in shown.text_content()
    rows = shown.locator("tbody tr").evaluate_all("(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))")  # fmt: skip
    assert rows[0] == ["“ five”", "60.7 %", "81.9 %", "", "chosen"]
    assert rows[1] == ["“ other”", "22.3 %", "18.3 %", "", ""]
    assert rows[2] == ["“<img src=x>”", "5.0 %", "cut", "", ""]
    assert shown.get_by_role("button", name="five").is_disabled()
    shown.get_by_role("button", name="“ other”").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 1, "token": 900}
    assert shown.is_hidden()
    play.locator(".token").nth(0).click()
    assert play.evaluate("model.get('token')") == 0
    shown.get_by_label("text to continue with").fill("<i>six</i>")
    shown.get_by_role("button", name="branch", exact=True).click()
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 0, "text": "<i>six</i>"}


def test_the_keyboard_moves_through_tokens_opens_alternatives_and_branches(play):
    stream(play, [step("four", 7), step(" five", 8), step(" six", 9)])
    end(play)
    play.locator(".said").focus()
    for _ in range(2):
        play.keyboard.press("ArrowRight")
    assert play.evaluate("document.activeElement.textContent") == " five"
    assert "“ five”" in play.locator(".popover").text_content()
    play.keyboard.press("Enter")
    assert play.evaluate("model.get('token')") == 1
    assert play.evaluate("document.activeElement.textContent") == "“ other”"
    play.keyboard.press("ArrowDown")
    assert play.evaluate("document.activeElement.textContent") == "“<img src=x>”"
    play.keyboard.press("Escape")
    assert play.locator(".popover").is_hidden()
    assert play.evaluate("document.activeElement.textContent") == " five"
    play.keyboard.press("Enter")
    play.keyboard.press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 1, "token": 900}


def test_while_it_generates_nothing_can_be_branched(play):
    play.evaluate("model.set('running', true)")
    stream(play, [step("four", 7), step(" five", 8)])
    play.locator(".token").first.hover()
    assert "stop the generation" in play.locator(".popover").text_content()
    assert play.locator(".popover td button:not(:disabled)").count() == 0
    for name in ("Routing", "Attention", "Copy as Python"):
        assert play.get_by_role("button", name=name).is_disabled() is (name != "none")


def test_a_server_s_token_without_an_id_shows_none(play):
    stream(play, [step("four", -79640041497810), step(" five", 8)])
    end(play)
    play.locator(".token").nth(0).click()
    assert "token 0" in play.locator(".popover").text_content()
    assert "id" not in play.locator(".popover .small").first.text_content()
    play.locator(".token").nth(1).click()
    assert "token 1, id 8" in play.locator(".popover").text_content()


def test_what_a_server_does_not_tell_has_no_bar_and_no_colour(watched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as server:
        remote = Playground(connect(server.url), "Hi", history=None)
        page = watched.open(page_of(remote), tmp_path)
    assert page.get_by_label("colour", exact=True).locator("option").evaluate_all(
        "(options) => options.filter((option) => option.disabled).map((option) => option.value)"
    ) == ["entropy"]
    unknown = [[7, "one", None, None, True], [8, "two", None, None, True]]
    stream(page, [step("one", 7, logprob=None, entropy=None, others=unknown)])
    page.locator(".token").click()
    widths = "(bars) => bars.map((bar) => bar.getBoundingClientRect().width)"
    assert page.locator(".popover .share > *").evaluate_all(widths) == [0, 0, 0, 0]


def test_the_alternatives_stay_beside_their_token_when_the_page_is_made_narrow(play):
    stream(play, [step(f" word{n}", n) for n in range(14)])
    end(play)
    play.locator(".token").nth(12).click()
    play.set_viewport_size({"width": 420, "height": 800})
    inside = (
        """(node) => node.getBoundingClientRect().right <= document.documentElement.clientWidth"""
    )
    play.wait_for_function(f"({inside})(document.querySelector('.popover'))")


def test_a_token_without_alternatives_offers_a_text_of_ones_own(play):
    stream(play, [step("one", others=[])])
    end(play)
    play.locator(".token").click()
    assert "were not stored" in play.locator(".popover").text_content()
    assert "Choose one" not in play.locator(".popover").text_content()
    play.get_by_label("text to continue with").fill("two")
    play.get_by_label("text to continue with").press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 0, "text": "two"}
