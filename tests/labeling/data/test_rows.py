"""Every form of a line, and every reason to refuse one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling.data.containers import parse_json
from labeling.data.files import BadLine
from labeling.data.formats.registry import parse_rows
from labeling.data.rows import ParsedRow

USER = {"role": "user", "content": "Why is the sky blue?"}
ANSWERS = ["Rayleigh scattering.", "It is not."]


def said(text: str, role: str = "assistant") -> dict[str, str]:
    return {"role": role, "content": text}


def parse_row(row: object, protocol: str) -> ParsedRow:
    [(_, parsed)] = parse_rows([(1, row)], protocol)
    if isinstance(parsed, BadLine):
        raise parsed
    return parsed


def refusal(row: object, protocol: str = "pair") -> str:
    with pytest.raises(BadLine) as error:
        parse_row(parse_json(row if isinstance(row, str) else json.dumps(row)), protocol)
    return str(error.value)


def test_prompt_and_completions_as_texts_lists_or_objects():
    texts = parse_row({"prompt": USER["content"], "completions": ANSWERS}, "pair")
    lists = parse_row({"messages": [USER], "completions": [[said(answer)] for answer in ANSWERS]}, "pair")
    objects = parse_row(
        {
            "prompt": [USER],
            "completions": [
                {"text": ANSWERS[0], "source": "gpt", "judge_score": 0.5},
                {"messages": [said(ANSWERS[1])], "meta": {"n": 1}},
            ],
            "split": "train",
        },
        "pair",
    )
    for row in (texts, lists, objects):
        assert row.messages == [USER]
        assert [completion.messages for completion in row.completions] == [[said(answer)] for answer in ANSWERS]
    assert texts.content_hash == lists.content_hash == objects.content_hash
    assert objects.completions[0].source == "gpt"
    assert [completion.meta for completion in objects.completions] == [{"judge_score": 0.5}, {"n": 1}]
    assert objects.meta == {"split": "train"}
    assert objects.tiers is None


def test_hh_text_is_split_into_turns_and_parted_where_the_two_differ():
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman:  What is 2+2? \n\nAssistant:"
    row = parse_row({"chosen": start + " 4", "rejected": start + " 5\n\nHuman: Sure?\n\nAssistant:"}, "pair")
    assert row.messages == [said("Hi", "user"), said("Hello."), said(" What is 2+2? ", "user")]
    by_rank = [row.completions[tier[0]].messages for tier in row.tiers or []]
    assert by_rank == [[said("4")], [said("5"), said("Sure?", "user"), said("")]]


def test_the_place_of_the_chosen_answer_tells_nothing():
    first = 0
    for n in range(200):
        row = parse_row({"prompt": "Q", "chosen": f"good {n}", "rejected": f"bad {n}"}, "pair")
        swapped = parse_row({"prompt": "Q", "chosen": f"bad {n}", "rejected": f"good {n}"}, "pair")
        assert row.content_hash == swapped.content_hash
        assert row.tiers == list(reversed(swapped.tiers or []))
        assert row.completions[row.tiers[0][0]].messages == [said(f"good {n}")]
        first += row.tiers == [[0], [1]]
    assert 60 < first < 140


def test_trl_forms():
    explicit = {"prompt": [USER], "chosen": [said("a")], "rejected": [said("b")]}
    implicit = {"chosen": [USER, said("a")], "rejected": [USER, said("b")]}
    both = {"prompt": USER["content"], **implicit}  # as in UltraFeedback
    cue = {"prompt": f"\n\nHuman: {USER['content']}\n\nAssistant:", "chosen": "a", "rejected": "b"}
    rows = [parse_row(row, "pair") for row in (explicit, implicit, both, cue)]
    assert len({row.content_hash for row in rows}) == 1
    assert rows[0].messages == [USER]


def test_a_conversation_needs_no_prompt_and_no_shared_beginning():
    row = parse_row({"completions": [[USER, said("a")], [said("Other question", "user"), said("b")]]}, "conversation")
    assert row.messages == []
    assert row.completions[0].messages == [USER, said("a")]
    diverging = {"chosen": [USER, said("a"), said("x", "user")], "rejected": [USER, said("a"), said("y", "user")]}
    assert parse_row(diverging, "conversation").messages == [USER, said("a")]
    assert "part at a message of the user" in refusal(diverging)


def test_rankings_in_tiers_or_flat():
    row = {"prompt": "Q", "completions": ["a", "b", "c"], "labeler": "mt-47"}
    assert parse_row(row | {"ranking": [[2], [0, 1]]}, "ranking").tiers == [[2], [0, 1]]
    assert parse_row(row | {"tiers": [[2], [0]]}, "ranking").tiers == [[2], [0]]
    assert parse_row(row | {"ranking": [2, 0, 1]}, "ranking").tiers == [[2], [0], [1]]
    assert parse_row(row | {"ranking": []}, "ranking").tiers is None
    assert parse_row(row, "ranking").labeler == "mt-47"
    for ranking in ([[0], [0]], [[3], [0]], [[0], []], "012", [[0]], [[True], [0]], {"0": 1}):
        assert refusal(row | {"ranking": ranking}, "ranking").startswith("The ranking does not fit")


def test_who_cannot_tell_has_empty_tiers_and_nothing_else():
    row = {"prompt": "Q", "completions": ["a", "b"], "labeler": "mt-47"}
    assert parse_row(row | {"cannot_tell": True}, "pair").tiers == []
    assert parse_row(row | {"cannot_tell": True, "tiers": []}, "pair").tiers == []
    assert parse_row(row | {"cannot_tell": False}, "pair").tiers is None
    assert "Either rank" in refusal(row | {"cannot_tell": True, "tiers": [[0], [1]]})
    assert "true or false" in refusal(row | {"cannot_tell": "yes"})


def test_equal_answers_of_two_models_are_kept_when_a_third_differs():
    assert parse_row({"prompt": "Q", "completions": ["a", "a", "b"]}, "ranking").completions[1].messages == [said("a")]
    assert "identical" in refusal({"prompt": "Q", "completions": ["a", "a", "a"]}, "ranking")


PAIR = {"prompt": "Q", "completions": ["a", "b"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1, 2], "not a JSON object"),
        ("{broken", "not valid JSON"),
        ('{"prompt": NaN}', "NaN is no JSON value"),
        ('{"prompt": "Q", "completions": ["a", "b"], "score": 1e999}', "number that is too large"),
        ('{"n": ' + "9" * 5000 + "}", "not valid JSON"),
        ({"prompt": "Q"}, 'needs "completions"'),
        ({"completions": ["a", "b"]}, 'needs a "prompt"'),
        (PAIR | {"completions": "ab"}, "must be a list"),
        (PAIR | {"completions": ["a"]}, "has 2 completions, this line has 1"),
        (PAIR | {"completions": ["a", "b", "c"]}, "has 2 completions, this line has 3"),
        (PAIR | {"completions": ["a", "a"]}, "identical"),
        (PAIR | {"completions": ["a", None]}, "Completion 2 must be a text or a list of messages"),
        (PAIR | {"completions": ["a", {}]}, 'Completion 2 needs a "text"'),
        (PAIR | {"completions": ["a", []]}, "Completion 2 must be a text or a list of messages"),
        (PAIR | {"completions": ["a", {"text": "b", "source": 7}]}, "source"),
        (PAIR | {"completions": ["a", [said("b", "user")]]}, "part at a message of the user"),
        (PAIR | {"prompt": " \n"}, "prompt is empty"),
        (PAIR | {"prompt": [{"role": "bot", "content": "x"}]}, "message 1 has the role 'bot'"),
        (PAIR | {"prompt": [{"role": "user", "content": ["x"]}]}, 'text "content"'),
        (PAIR | {"labeler": "x" * 121}, "labeler"),
        (PAIR | {"labeler": 3}, "labeler"),
        (PAIR | {"prompt": "a\x00b"}, "NUL character"),
        (PAIR | {"meta": {"deep": {"key\x00": 1}}}, "NUL character"),
        (PAIR | {"prompt": "\ud800"}, "surrogate"),
        ({"chosen": "no turns", "rejected": 3}, "must be a text"),
        ({"chosen": "no turns", "rejected": "none either"}, "The prompt is empty"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested more than 50"),
        ("[" * 200_000, "nested more than 50"),
    ],
)
def test_a_bad_line_has_a_reason(row: object, reason: str):
    assert reason in refusal(row)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
KEYS = ["prompt", "messages", "completions", "chosen", "rejected", "ranking", "tiers", "labeler", "meta", "other"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.sampled_from(["pair", "ranking", "conversation"]))
def test_whatever_the_line_says_it_is_taken_or_refused_with_a_sentence(row: dict[str, object], protocol: str):
    try:
        parsed = parse_row(row, protocol)
    except BadLine as error:
        assert str(error).endswith((".", "?", ":")) and len(str(error)) < 500
    else:
        assert len(parsed.completions) >= 2
