"""Whose completions are preferred, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from accounts.models import User
from labeling.duels import duels, outcomes
from labeling.importing import import_rows
from labeling.models import Campaign
from tests.conftest import client_for
from tests.labeling.conftest import claim, submit

ORDERS = {"new": [[0], [1]], "old": [[1], [0]], "tie": [[0, 1]]}


def compare(campaign: Campaign, *answers: tuple[User, str]) -> None:
    """One item per answer, of an old and a new model."""
    models = [{"text": "New.", "source": "new"}, {"text": "Old.", "source": "old"}]
    for number, (user, winner) in enumerate(answers):
        import_rows(campaign, [{"prompt": f"Question {number}?", "completions": models}], name="fixture")
        campaign.refresh_from_db()
        submit(user, claim(user, campaign), ORDERS[winner])


def test_the_winner_comes_first_and_a_tie_is_half_a_win(campaign: Campaign, anna: User) -> None:
    compare(campaign, *((anna, winner) for winner in ("old", "old", "tie", "new", "old")))
    (duel,) = duels(campaign)
    assert (duel.first, duel.second, duel.wins, duel.ties, duel.losses) == ("old", "new", 3, 1, 1)
    assert duel.share.value == pytest.approx(3.5 / 5) and duel.share.count == 5
    assert duel.share.low is not None and duel.share.high is not None
    assert duel.share.low < 0.5 < duel.share.value < duel.share.high


def test_an_item_with_many_answers_weighs_as_much_as_one_with_few(campaign: Campaign, anna: User, ben: User) -> None:
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    models = [{"text": "New.", "source": "new"}, {"text": "Old.", "source": "old"}]
    import_rows(campaign, [{"prompt": f"{n}?", "completions": models} for n in range(2)], name="fixture")
    campaign.refresh_from_db()
    task = claim(anna, campaign)
    submit(anna, task, ORDERS["new"])
    while (other := claim(ben, campaign)).item != task.item:
        submit(ben, other, ORDERS["old"])
    submit(ben, other, ORDERS["new"])
    (duel,) = duels(campaign)
    assert duel.share.value == pytest.approx(0.5 if duel.losses else 1.0)
    assert duel.share.count == (2 if duel.losses else 1)


def test_every_two_sources_of_a_ranking_are_compared_and_unknown_ones_left_out() -> None:
    sources = {0: "b", 1: "a", 2: "b", 3: "c"}
    assert sorted(outcomes([[3], [0, 1], [4]], sources)) == [(("a", "b"), 0.5), (("a", "c"), 0.0), (("b", "c"), 0.0)]
    assert list(outcomes([[0], [2]], sources)) == []  # of one model


def test_taken_back_and_imported_rankings_do_not_count(campaign: Campaign, anna: User) -> None:
    imported = {"prompt": "Imported?", "completions": [{"text": "N", "source": "new"}, {"text": "O", "source": "old"}]}
    import_rows(campaign, [imported | {"ranking": [[0], [1]]}], name="fixture")
    assert duels(campaign) == []
    compare(campaign, (anna, "new"))
    campaign.rankings.filter(user=anna).update(status="withdrawn")
    assert duels(campaign) == []


def test_the_report_tells_who_wins_on_its_page_and_by_api(campaign: Campaign, anna: User, reviewer: User) -> None:
    client = client_for(reviewer)
    page = f"/campaigns/{campaign.public_id}/report"
    assert "Whose answers people prefer" not in client.get(page).text
    compare(campaign, (anna, "new"), (anna, "new"), (anna, "old"))
    text = client.get(page).text
    assert "Whose answers people prefer" in text and "66.7 %" in text and "Not decided yet" in text
    (duel,) = client.get(f"/api/campaigns/{campaign.public_id}/report").json()["duels"]
    assert (duel["first"], duel["second"], duel["wins"], duel["losses"]) == ("new", "old", 2, 1)
    assert client_for(anna).get(page).status_code == 404  # those who compare blindly are not told
