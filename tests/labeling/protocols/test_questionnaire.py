"""Forms: what may be asked, and what counts as an answer to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling.protocols.basics import InvalidRanking
from labeling.protocols.presets import PRESETS
from labeling.protocols.questionnaire import PLAIN, Form, checked_reply, labels_to_indices, parse_form
from labeling.protocols.questions import InvalidForm

SCALE = {"kind": "rating", "name": "overall", "label": "Overall", "of": "completion", "required": True, "high": 7}
SURE = {
    "kind": "choice",
    "name": "confidence",
    "label": "How sure?",
    "required": True,
    "options": [{"name": "low", "label": "Not sure"}, {"name": "high", "label": "Sure"}],
}
FORM = parse_form(
    {
        "both_bad": True,
        "strength": ["A little", "Much"],
        "questions": [
            SCALE,
            SURE,
            {"kind": "flags", "label": "Flags", "of": "completion", "options": [{"name": "rude", "label": "Rude"}]},
            {"kind": "rationale", "label": "Why?", "required": True},
            {"kind": "ideal", "label": "A better answer"},
            {"kind": "edit", "label": "Improve it"},
            {"kind": "marks", "label": "Good and bad turns"},
        ],
    }
)
ENOUGH = {"overall": [3, 5], "confidence": "high", "rationale": "Because."}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_is_a_form_of_its_protocol_and_survives_its_document(preset: Any):
    assert parse_form(preset.form.document(), preset.protocol) == preset.form


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tie": True}, "nothing called 'tie'"),
        ({"ties": 1}, "ties is either true or false"),
        ({"strength": ["Better"]}, "2 to 4 degrees"),
        ({"strength": ["Better", "Better"]}, "Name each differently"),
        ({"questions": {}}, "questions is a list"),
        ({"questions": [{"kind": "colour"}]}, "kind is one of"),
        ({"questions": [SCALE | {"label": ""}]}, "fill in the label"),
        ({"questions": [SCALE | {"name": "Über"}]}, "small letters"),
        ({"questions": [SCALE | {"high": 12}]}, "2 to 11 points"),
        ({"questions": [SCALE | {"low": 5, "high": 5}]}, "2 to 11 points"),
        ({"questions": [SCALE | {"words": ["a", "b", "c"]}]}, "for each of its points"),
        ({"questions": [SCALE, SCALE]}, "called 'overall'"),
        ({"questions": [SURE | {"options": []}]}, "give 2 to 30 options"),
        ({"questions": [SURE | {"options": [{"name": "low", "label": "x"}] * 2}]}, "the same name"),
        ({"questions": [{"kind": "ideal", "label": "Better", "of": "completion"}]}, "of is one of: item"),
        ({"questions": [SCALE | {"name": f"n{n}"} for n in range(21)]}, "at most 20"),
        ({"skip_reasons": [{"name": "x"}]}, "fill in the label"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_with_what_to_change(change: dict[str, Any], sentence: str):
    with pytest.raises(InvalidForm, match=sentence):
        parse_form(change, "pair")


@pytest.mark.parametrize("change", [{"strength": ["A little", "Much"]}, {"both_bad": True}])
def test_strength_and_both_bad_are_for_two_answers(change: dict[str, Any]):
    assert parse_form(change, "conversation")
    with pytest.raises(InvalidForm, match="compare pairs"):
        parse_form(change, "ranking")


def test_what_is_said_is_kept_where_it_was_said():
    marks = {"A": {"2": "bad", "0": "good"}}
    details = {"strength": 2, "answers": {"overall": {"A": 7, "B": 1}, "edit": {"B": "Mended"}, "marks": marks}}
    shown = [1, 0]  # A is completion 1
    given_details = labels_to_indices(details, shown)
    given_details["answers"] |= {"confidence": "low", "flags": [[], ["rude"]], "ideal": ""}
    reply = checked_reply(
        FORM, [[1], [0]], shown, rationale="Clear\x00er", details=labels_to_indices(given_details, shown)
    )
    assert reply.rationale == "Clearer"
    assert reply.flags == ["rude"]
    assert reply.details == {
        "strength": 2,
        "degrees": 2,
        "answers": {
            "overall": [1, 7],
            "confidence": "low",
            "flags": [None, ["rude"]],
            "edit": ["Mended", None],
            "marks": [None, {"0": "good", "2": "bad"}],
        },
    }


@pytest.mark.parametrize(
    ("tiers", "details", "sentence"),
    [
        ([[0], [1]], {}, "how much better"),
        ([[0], [1]], {"strength": 3}, "how much better"),
        ([[0], [1]], {"strength": True}, "how much better"),
        ([[0, 1]], {"strength": 1}, "said of a better answer"),
        ([[0], [1]], {"strength": 1, "both_bad": True}, "two answers that are level"),
        ([[0, 1]], {"answers": ENOUGH | {"overall": [3, None]}}, "Overall: please answer this for B, too"),
        ([[0, 1]], {"answers": ENOUGH | {"overall": [0, 3]}}, "from 1 to 7"),
        ([[0, 1]], {"answers": ENOUGH | {"overall": [True, 3]}}, "from 1 to 7"),
        ([[0, 1]], {"answers": ENOUGH | {"overall": [3]}}, "for each answer"),
        ([[0, 1]], {"answers": ENOUGH | {"confidence": "medium"}}, "Not sure, Sure"),
        ([[0, 1]], {"answers": ENOUGH | {"confidence": None}}, "How sure[?]: please"),
        ([[0, 1]], {"answers": ENOUGH | {"rationale": " "}}, "Why[?]: please"),
        ([[0, 1]], {"answers": ENOUGH | {"ideal": 3}}, "write a text"),
        ([[0, 1]], {"answers": ENOUGH | {"flags": [["loud"], []]}}, "some of: rude"),
        ([[0, 1]], {"answers": ENOUGH | {"marks": [{"-1": "good"}, {}]}}, "mark turns"),
        ([[0, 1]], {"answers": ENOUGH | {"marks": [{"0": "great"}, {}]}}, "mark turns"),
        ([[0, 1]], {"answers": ENOUGH | {"colour": 1}}, "does not ask for 'colour'"),
        ([[0, 1]], {"mood": 1}, "nothing called 'mood'"),
        ([[0, 1]], {"answers": []}, "are one, too"),
        ([[0, 1]], [], "an object"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_what_is_missing(tiers: Any, details: Any, sentence: str):
    with pytest.raises(InvalidRanking, match=sentence):
        checked_reply(FORM, tiers, [0, 1], details=details)


def test_what_is_required_is_required_only_of_what_was_ranked():
    assert checked_reply(FORM, [], [0, 1]).details == {}
    form = Form(questions=FORM.questions[:1])
    assert checked_reply(form, [[2], [0]], [0, 1, 2], details={"answers": {"overall": [3, None, 5]}})
    with pytest.raises(InvalidRanking, match="for B, too"):
        checked_reply(form, [[2], [0]], [1, 0, 2], details={"answers": {"overall": [None, 3, 5]}})


def test_a_required_edit_is_of_one_of_the_best():
    form = parse_form({"questions": [{"kind": "edit", "label": "Improve the better one", "required": True}]})
    assert checked_reply(form, [[1], [0]], [0, 1], details={"answers": {"edit": [None, "Better"]}})
    with pytest.raises(InvalidRanking, match="for B, too"):
        checked_reply(form, [[1], [0]], [0, 1], details={"answers": {"edit": ["Better", None]}})


@pytest.mark.parametrize(
    ("rule", "tiers", "details"),
    [
        ({"ties": False}, [[0, 1], [2]], {}),
        ({"unranked": False}, [[0], [1]], {}),
        ({"cannot_tell": False}, [], {}),
        ({}, [[0, 1, 2]], {"both_bad": True}),
    ],
)
def test_a_form_decides_which_orders_there_are(rule: dict[str, Any], tiers: Any, details: Any):
    with pytest.raises(InvalidRanking):
        checked_reply(parse_form(rule), tiers, [0, 1, 2], details=details)
    allowed = parse_form({"both_bad": True})
    assert checked_reply(allowed, tiers, [0, 1, 2], details=details).details == details


def test_both_bad_may_be_said_where_no_ties_are_taken():
    form = parse_form({"ties": False, "both_bad": True})
    assert checked_reply(form, [[0, 1]], [0, 1], details={"both_bad": True}).details == {"both_bad": True}
    with pytest.raises(InvalidRanking, match="no ties"):
        checked_reply(form, [[0, 1]], [0, 1])


def test_letters_that_are_not_on_the_screen_are_refused():
    with pytest.raises(InvalidRanking, match="no answer 'C'"):
        labels_to_indices({"answers": {"overall": {"C": 1}}}, [0, 1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["ties", "strength", "questions", "skip_reasons", "kind", "name", "label", "options", "high"])


@given(st.dictionaries(NAMES, JSON | st.lists(st.dictionaries(NAMES, JSON))))
def test_no_document_breaks_the_reader(document: dict[str, Any]):
    try:
        form = parse_form(document)
    except InvalidForm:
        return
    assert parse_form(form.document()) == form


@given(
    st.dictionaries(
        st.sampled_from(["strength", "both_bad", "answers"]),
        JSON | st.dictionaries(st.sampled_from([question.name for question in FORM.questions]), JSON),
    )
)
def test_no_details_break_the_check(details: dict[str, Any]):
    try:
        checked_reply(FORM, [[0], [1]], [1, 0], details=labels_to_indices(details, [1, 0]))
    except InvalidRanking:
        return


def test_the_plain_form_asks_for_flags_and_a_reason_as_ever():
    assert parse_form({}) is PLAIN
    assert checked_reply(PLAIN, [[0], [1]], [0, 1], flags=["violent", "opinion", "violent"]).flags == [
        "violent",
        "opinion",
    ]
    with pytest.raises(InvalidRanking, match="the flags are some of"):
        checked_reply(PLAIN, [[0], [1]], [0, 1], flags=["colour"])
