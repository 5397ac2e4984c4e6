import itertools
import random

import pytest

from demo import gold, world


def first(count: int, *, seed: int = 0, held_out: bool = False) -> list[world.Question]:
    return list(itertools.islice(world.questions(seed=seed, held_out=held_out), count))


def test_questions_are_distinct_and_the_same_for_the_same_seed() -> None:
    asked = first(3000)
    assert len({question.text for question in asked}) == 3000
    assert asked == first(3000)
    assert asked != first(3000, seed=1)


def test_held_out_pairs_never_occur_in_training_questions() -> None:
    trained = {(question.item, question.problem) for question in first(5000)}
    held = {(question.item, question.problem) for question in first(1000, held_out=True)}
    assert len(held) == 80
    assert not trained & held
    assert trained | held == {(item, problem.name) for item in world.ITEMS for problem in world.PROBLEMS}


def test_held_out_pairs_are_spread_over_every_item_and_problem() -> None:
    held = [(i, p.name) for i in world.ITEMS for p in world.PROBLEMS if world.is_held_out(i, p.name)]
    assert {item for item, _ in held} == set(world.ITEMS)
    assert {problem for _, problem in held} == {problem.name for problem in world.PROBLEMS}


def test_every_phrase_says_one_item_and_no_phrase_belongs_to_two_problems() -> None:
    phrases = [phrase for problem in world.PROBLEMS for phrase in problem.complaints + problem.actions]
    assert all(phrase.count("{item}") == 1 for phrase in phrases)
    assert len(set(phrases)) == len(phrases)
    words = {word for phrase in phrases for word in phrase.lower().replace(".", "").split()}
    assert not words & set(world.ITEMS)


@pytest.mark.parametrize("held_out", [False, True])
def test_a_judge_understands_every_question(held_out: bool) -> None:
    for question in first(2000, held_out=held_out):
        assert gold.understand(question.text) == question


def test_supervised_replies_are_flawed_but_about_half_of_them_have_the_right_content() -> None:
    rng = random.Random(0)
    logged = [(question, world.exchange(rng, question)) for question in first(4000)]
    correct = sum(gold.is_correct(question.text, one.reply) for question, one in logged) / 4000
    assert 0.45 < correct < 0.57
    assert 0.03 < sum(not one.ends for _, one in logged) / 4000 < 0.07
    seen = [gold.criteria(question.text, one.reply) for question, one in logged if one.ends]
    assert not any(one.junk for one in seen)
    for flaw in ("wrong_item", "wrong_action", "rude", "filler", "extra_courtesies"):
        assert 0.1 < sum(bool(getattr(one, flaw)) for one in seen) / len(seen) < 0.5, flaw


def test_customers_say_whether_they_are_helped_and_what_they_think_of_the_tone() -> None:
    rng = random.Random(1)
    for question in first(1000):
        one = world.exchange(rng, question)
        if not one.ends:
            assert (one.to_content, one.to_tone) == ("", "")
            continue
        seen = gold.criteria(question.text, one.reply)
        assert (one.to_content in world.PLEASED) == gold.is_correct(question.text, one.reply)
        courtesies = int(seen.courteous + seen.extra_courtesies)
        assert one.to_tone == (world.TO_RUDENESS if seen.rude else world.TO_COURTESIES[courtesies])
