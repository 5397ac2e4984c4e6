"""In which words two nearly equal answers differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labeling.display.word_diff import are_alike, word_diff

TEXT = "The parcel was sent on Monday and will be with you soon, I hope."


def test_only_the_words_that_one_of_them_has_are_marked() -> None:
    left, right = word_diff("We will send a new cup.", "We will send you a cup.")
    assert [text.strip() for text, own in left if own] == ["new"]
    assert [text.strip() for text, own in right if own] == ["you"]


@given(st.text(), st.text())
def test_the_pieces_are_the_texts(one: str, other: str) -> None:
    left, right = word_diff(one, other)
    assert ("".join(text for text, _ in left), "".join(text for text, _ in right)) == (one, other)
    assert [text for text, own in left if not own] == [text for text, own in right if not own]


def test_nearly_equal_answers_are_told_from_others() -> None:
    assert are_alike(TEXT, TEXT.replace("Monday", "Tuesday"))
    assert not are_alike(TEXT, TEXT)
    assert not are_alike(TEXT, "I do not know where it is.")
    assert not are_alike("", "")
    assert not are_alike("Answer 1 it is", "Answer 2 it is")
    assert not are_alike(TEXT * 1000, TEXT * 1000 + "!")
