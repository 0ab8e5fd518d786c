"""The playground's page: the tree of branches."""

from tests.browser.playground.pages import end, step, stream


def test_branches_are_gone_to_named_removed_and_undone(play):
    stream(play, [step("four"), step(" other")])
    end(play)
    assert play.locator(".tree .name").all_text_contents() == ["prompt 1 four", "other at 1 other"]
    assert play.locator(".tree li.current .name").text_content() == "other at 1 other"
    play.locator(".tree .name").first.click()
    assert play.evaluate("sent.at(-1)") == {"kind": "show", "node": 0}
    play.get_by_label("rename other at 1").click()
    play.get_by_label("name of the branch").fill("second thoughts")
    play.keyboard.press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "rename", "node": 1, "name": "second thoughts"}
    play.get_by_label("remove prompt 1").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "remove", "node": 0}
    play.get_by_role("button", name="undo").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "undo"}
    assert play.get_by_role("button", name="redo").is_disabled()


def test_the_tree_shows_how_a_text_begins_and_hovering_tells_more(play):
    preview = "<b>床前明月光</b>\n\u202e" + "x" * 47
    end(play, nodes=[{"id": 0, "name": "prompt 1", "at": None, "depth": 0, "preview": preview}])
    begins = play.locator(".tree .name .begins")
    assert begins.text_content() == "<b>床前明月光</b>  " + "x" * 10 + "…"
    assert preview in play.locator(".tree .name").get_attribute("title")
    play.get_by_label("rename prompt 1").click()
    assert play.get_by_label("name of the branch").input_value() == "prompt 1"


def test_a_click_on_a_branch_that_ends_a_rename_is_not_lost(play):
    stream(play, [step("a"), step("b")])
    end(play)
    play.get_by_role("button", name="rename other at 1").click()
    play.keyboard.type("better")
    other = play.locator(".tree .name").first
    box = other.bounding_box()
    play.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    play.mouse.down()
    assert play.evaluate("sent.at(-1)") == {"kind": "rename", "node": 1, "name": "better"}
    nodes = [
        {"id": 0, "name": "prompt 1", "at": None, "depth": 0, "preview": "four"},
        {"id": 1, "name": "better", "at": 1, "depth": 1, "preview": " other"},
    ]
    end(play, nodes=nodes)
    play.mouse.up()
    assert play.evaluate("sent.at(-1)") == {"kind": "show", "node": 0}
    assert play.locator(".tree .name").all_text_contents() == ["prompt 1 four", "better other"]
    play.get_by_role("button", name="rename better").click()
    play.keyboard.type("best")
    end(play, nodes=nodes[:1], current=0)  # removed from elsewhere
    assert play.evaluate("sent.at(-1)") == {"kind": "show", "node": 0}
