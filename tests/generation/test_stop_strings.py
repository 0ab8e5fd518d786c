"""A stop string is found wherever its characters come from, and nothing after it is shown."""

import random

import pytest

from workbench.errors import GenerationError
from workbench.generation.stop_strings import StopStrings, checked_stop_strings


def shown(stop_strings, parts):
    stops = StopStrings(stop_strings)
    given = [stops.push(part) for part in parts]
    return given, stops.found, stops.rest()


@pytest.mark.parametrize(
    ("stop_strings", "parts", "given", "found", "rest"),
    [
        (["END"], ["a", "bEND", "c"], ["a", "b", ""], "END", ""),
        (["END"], ["aE", "N", "Db", "c"], ["a", "", "", ""], "END", ""),
        (["END"], ["aE", "Nx", "y"], ["a", "ENx", "y"], None, ""),
        (["END"], ["aEN"], ["a"], None, "EN"),
        (["aab"], ["aa", "ab"], ["", "a"], "aab", ""),
        (["\n\n"], ["x\n", "\ny"], ["x", ""], "\n\n", ""),
        (["bc", "abcd"], ["abc", "d"], ["a", ""], "bc", ""),
        (["b", "ab"], ["ab"], [""], "ab", ""),
        (["二月"], ["一", "二", "月"], ["一", "", ""], "二月", ""),
        ([], ["a", "b"], ["a", "b"], None, ""),
    ],
)  # fmt: skip
def test_text_before_a_stop_string_is_kept(stop_strings, parts, given, found, rest):
    assert shown(stop_strings, parts) == (given, found, rest)


def test_however_a_text_is_cut_the_same_is_shown():
    chance = random.Random(3)
    for _ in range(2000):
        text = "".join(chance.choices("ab", k=12))
        stop_string = "".join(chance.choices("ab", k=chance.randint(1, 4)))
        cuts = sorted(chance.sample(range(1, 12), 4))
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, 12], strict=True)]
        given, found, rest = shown([stop_string], parts)
        assert "".join(given) + rest == text.partition(stop_string)[0]
        assert (found is None) == (stop_string not in text)


@pytest.mark.parametrize("given", [5, None, [""], ["a", 3], b"a", [b"a"]])
def test_what_is_no_text_is_refused(given):
    with pytest.raises(GenerationError, match="stop_strings"):
        checked_stop_strings(given)


def test_one_text_is_one_stop_string():
    assert checked_stop_strings("END") == ("END",)
    assert checked_stop_strings(["a", "b", "a"]) == ("a", "b")
