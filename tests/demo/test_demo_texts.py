"""The texts that come with the demo."""

from workbench.demo.texts import texts


def test_there_are_four_kinds_of_text_that_the_demo_was_not_trained_on():
    found = texts(documents=5, characters=300)
    assert set(found) == {"chinese", "english", "arithmetic", "python"}
    for parts in found.values():
        assert len(parts) == 5
        assert len(set(parts)) == 5
        assert all(0 < len(part) <= 300 for part in parts)
    assert all(" = " in part for part in found["arithmetic"])
    assert found == texts(documents=5, characters=300)
