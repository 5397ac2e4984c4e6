"""How well people answer: those whose faults are known are found, and where too little is known it is said."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from accounts.models import User
from labeling.models import Campaign, Ranking
from labeling.quality.answers import Answers, read_answers
from labeling.quality.reliability import FEWEST, UNKNOWN_WEIGHT, Quality, qualities_of, weight_of
from tests.conftest import client_for, make_user
from tests.labeling.conftest import add_items, claim, submit

GOOD, GUESSING, REVERSED, LEFT = 0.97, 0.5, 0.03, 0.97


def answers(*reliable: float, items: int = 600, overlap: int = 3, lean: dict[int, float] | None = None) -> Answers:
    """Pairs judged by people of these reliabilities; `lean` pulls some of them to what is shown first."""
    random = np.random.default_rng(1)
    found = Answers([], [], [], [], Counter(), partial=False)
    for item in range(items):
        strengths = random.normal(scale=1.5, size=2)
        for person in map(int, random.choice(len(reliable), overlap, replace=False)):
            first, second = map(int, random.permutation(2))
            sign = 1 if random.random() < reliable[person] else -1
            gap = sign * (strengths[first] - strengths[second]) + (lean or {}).get(person, 0) + random.logistic()
            order = [[first, second]] if abs(gap) < 0.3 else [[first], [second]][:: 1 if gap > 0 else -1]
            found.items.append(item)
            found.people.append(person)
            found.tiers.append(order)
            found.shown.append([first, second])
    return found


def by_person(found: list[Quality]) -> dict[int, Quality]:
    return {quality.person: quality for quality in found}


def test_who_guesses_reverses_or_leans_is_found_and_weighs_accordingly() -> None:
    found = by_person(qualities_of(answers(GUESSING, REVERSED, *[GOOD] * 5, lean={2: 1.2, 3: -1.2})))
    assert [found[person].finding for person in range(7)] == ["random", "reversed", "first", "last", "", "", ""]
    assert found[1].weight == 0 and found[0].weight < 0.4 < 0.6 < found[4].weight
    agreement = [found[person].agreement.value or 0 for person in (1, 0, 4)]
    assert agreement == sorted(agreement) and agreement[0] < agreement[2] - 0.1
    assert found[4].threshold.value == pytest.approx(0.3, abs=0.15)
    assert found[2].bias.value == pytest.approx(1.2, abs=0.4)


def test_agreement_with_others_counts_what_somebody_else_said() -> None:
    tiers = {0: [[0], [1]], 1: [[0], [1]], 2: [[1], [0]]}
    rows = [(item, person) for item in range(FEWEST) for person in tiers]
    given = Answers(
        [item for item, _ in rows],
        [person for _, person in rows],
        [tiers[person] for _, person in rows],
        [[0, 1]] * len(rows),
        Counter({2: 4}),
        partial=False,
    )
    found = by_person(qualities_of(given))
    assert [found[person].agreement.value for person in tiers] == [0.5, 0.5, 0.0]
    assert [found[person].cannot_tell for person in tiers] == [0, 0, 4]
    assert found[0].answers == found[0].shared == FEWEST


def test_too_little_overlap_gives_a_reason_instead_of_a_number() -> None:
    few = by_person(qualities_of(answers(*[GOOD] * 4, items=12)))
    assert few[0].reliability.value is None
    assert few[0].reliability.reason == f"not enough overlapping answers: {few[0].shared} of {FEWEST}"
    two = by_person(qualities_of(answers(GOOD, GUESSING, items=60, overlap=2)))
    assert two[0].reliability.reason == "with 2 people nobody can say who of them is wrong"
    alone = by_person(qualities_of(answers(GOOD, GOOD, GOOD, items=60, overlap=1)))
    assert "0 of" in alone[0].reliability.reason and alone[0].finding == ""
    assert alone[0].weight == two[0].weight == UNKNOWN_WEIGHT
    assert qualities_of(Answers([], [], [], [], Counter(), partial=False)) == []


def test_a_weight_is_the_share_that_is_not_guessing() -> None:
    assert [weight_of(share) for share in (1, 0.75, 0.5, 0.2)] == [1, 0.5, 0, 0]


def test_the_report_names_who_guesses_and_what_to_do(campaign: Campaign, admin: User, reviewer: User) -> None:
    campaign.overlap = 3
    campaign.save(update_fields=["overlap"])
    items = add_items(campaign, 200)
    planted = answers(GUESSING, *[GOOD] * 5, items=200)
    people = [make_user(f"person-{number}") for number in range(6)]
    for person in people:
        campaign.contributions.create(user=person, labeler=f"annotator-{person.username}", done=1)
    Ranking.objects.bulk_create(
        Ranking(
            item=items[item],
            campaign=campaign,
            user=people[person],
            labeler=f"annotator-{people[person].username}",
            tiers=tiers,
            shown_order=shown,
            protocol="pair",
            guidelines_version=1,
        )
        for item, person, tiers, shown in zip(planted.items, planted.people, planted.tiers, planted.shown, strict=True)
    )
    path = f"/campaigns/{campaign.public_id}/report"
    text = client_for(admin).get(path).text
    assert "Answers of <b>person-0</b> look random" in text
    assert "without=annotator-person-0" in text and "weigh=on" in text
    assert text.count("look random") == 1
    assert "without=" not in client_for(reviewer).get(path).text  # who may not train
    rows = client_for(reviewer).get(f"/api{path}").json()["qualities"]
    assert {row["username"]: row["quality"]["finding"] for row in rows}["person-0"] == "random"


def test_answers_read_leave_out_imports_what_was_taken_back_and_who_cannot_tell(campaign: Campaign, anna: User) -> None:
    add_items(campaign, 3)
    taken_back = submit(anna, claim(anna, campaign))
    Ranking.objects.filter(pk=taken_back.pk).update(status="withdrawn")
    submit(anna, claim(anna, campaign), [], cannot_tell=True)
    kept = submit(anna, claim(anna, campaign))
    campaign.rankings.create(
        item=kept.item, labeler="x", origin="imported", tiers=[[0], [1]], protocol="pair", guidelines_version=1
    )
    found = read_answers(campaign)
    assert (found.items, found.people, found.tiers) == ([kept.item_id], [anna.pk], [[[0], [1]]])
    assert (found.shown, found.cannot_tell, found.partial) == ([kept.shown_order], Counter({anna.pk: 1}), False)


def test_answers_of_somebody_without_a_contribution_are_shown_as_well(campaign: Campaign, admin: User) -> None:
    item = add_items(campaign, 1)[0]
    campaign.rankings.create(
        item=item, user=make_user("guest"), labeler="x", tiers=[[0], [1]], protocol="pair", guidelines_version=1
    )
    text = client_for(admin).get(f"/campaigns/{campaign.public_id}/report").text
    assert "guest" in text and f"Not enough overlapping answers: 0 of {FEWEST}." in text
