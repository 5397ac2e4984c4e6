import json

from demo import gold, stages, world


def questions_of(rows: bytes) -> list[str]:
    return [json.loads(line)["messages"][-1]["content"] for line in rows.splitlines()]


def test_desk_and_model_replies_are_about_different_training_questions_and_held_out_ones_about_neither() -> None:
    desk = questions_of(stages.desk_replies(3))
    drawn = [one.text for one in stages.questions(3, stages.DESK_PROMPTS, 424)]
    held_out = questions_of(stages.held_out_replies(3))
    assert (len(desk), len(held_out)) == (stages.DESK_PROMPTS, stages.HELD_OUT_PROMPTS)
    assert len({*desk, *drawn, *held_out}) == len(desk) + len(drawn) + len(held_out)
    for texts, expected in ((desk, False), (drawn, False), (held_out, True)):
        asked = map(gold.understand, texts)
        assert {world.is_held_out(one.item, one.problem) for one in asked} == {expected}


def test_another_seed_asks_other_questions() -> None:
    assert set(questions_of(stages.desk_replies(0))) != set(questions_of(stages.desk_replies(1)))


def test_the_less_is_certain_about_a_reward_model_the_shorter_is_the_leash() -> None:
    leashes = [stages.kl_coefficient(accuracy) for accuracy in (0.9, 0.75, 0.6, 0.51, 0.5, 0.4)]
    assert leashes == sorted(leashes)
    assert leashes[1] == 2 * stages.KL_COEFFICIENT
    assert leashes[-1] == leashes[-2] == stages.LARGEST_KL_COEFFICIENT
