"""Whose completions are preferred, against numbers worked out by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from accounts.models import User
from labeling.data.importing import import_rows
from labeling.models import Campaign
from labeling.quality.answers import Answers, read_answers, sources_of
from labeling.quality.duels import Duel, duels_of, outcomes
from labeling.quality.leaderboard import Leaderboard, leaderboard_of
from tests.conftest import client_for
from tests.labeling.conftest import claim, submit

ORDERS = {"new": [[0], [1]], "old": [[1], [0]], "tie": [[0, 1]]}


def duels(campaign: Campaign) -> list[Duel]:
    answers = read_answers(campaign)
    return duels_of(answers, sources_of(answers.items))


def leaderboard(campaign: Campaign) -> Leaderboard:
    answers = read_answers(campaign)
    return leaderboard_of(answers, sources_of(answers.items))


def compare(campaign: Campaign, *answers: tuple[User, str]) -> None:
    """One item per answer, of an old and a new model."""
    models = [{"text": "New.", "source": "new"}, {"text": "Old.", "source": "old"}]
    for user, winner in answers:
        prompt = f"Question {campaign.items.count()}?"
        import_rows(campaign, [{"prompt": prompt, "completions": models}], name="fixture")
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
    (duel,) = client.get(f"/api/campaigns/{campaign.public_id}/report").json()["statistics"]["duels"]
    assert (duel["first"], duel["second"], duel["wins"], duel["losses"]) == ("new", "old", 2, 1)
    assert client_for(anna).get(page).status_code == 404  # those who compare blindly are not told


def ranked(campaign: Campaign, user: User, *orders: str, sources: str = "abc") -> None:
    """One item per order, such as "b>a=c", of completions by these sources."""
    campaign.protocol = "ranking"
    campaign.save(update_fields=["protocol"])
    completions = [{"text": f"By {source}.", "source": source} for source in sources]
    for order in orders:
        prompt = f"Question {campaign.items.count()}?"
        import_rows(campaign, [{"prompt": prompt, "completions": completions}], name="fixture")
        tiers = [[sources.index(source) for source in tier.split("=")] for tier in order.split(">")]
        submit(user, claim(user, campaign), tiers)
    campaign.refresh_from_db()


def test_a_leaderboard_explains_all_duels_by_one_strength_each(campaign: Campaign, anna: User) -> None:
    ranked(campaign, anna, *["b>a>c"] * 6, *["a>b>c"] * 3, *["c>a>b"] * 2, "a=b>c")
    board = leaderboard(campaign)
    assert [place.source for place in board.places] == ["b", "a", "c"]
    assert (board.joined, board.decided) == (True, True)
    assert sum(place.strength.value or 0 for place in board.places) == pytest.approx(0)
    for place in board.places:
        assert place.comparisons == 24
        assert place.strength.low is not None and place.strength.high is not None and place.strength.value is not None
        assert place.strength.low < place.strength.value < place.strength.high
    # At the maximum of Plackett and Luce, each source is chosen as often as its strength says: a was the first of three
    # 3 1/2 times, and the first of two after b six times and after c twice; in half of the tie b came first.
    weight = {place.source: np.exp(place.strength.value or 0) for place in board.places}
    first, after_b, after_c = (sum(weight[one] for one in left) for left in ("abc", "ac", "ab"))
    expected = weight["a"] * (12 / first + 6.5 / after_b + 2 / after_c)
    assert (board.model, expected) == ("Plackett-Luce", pytest.approx(3.5 + 6.5 + 2))


def test_intervals_shrink_with_items_and_not_with_more_answers_to_the_same(campaign: Campaign, anna: User) -> None:
    def width() -> float:
        strength = leaderboard(campaign).places[0].strength
        return (strength.high or 0) - (strength.low or 0)

    compare(campaign, *[(anna, winner) for winner in ["new", "new", "old"] * 5])
    few = width()
    for number in range(3):  # the same answers again, by others
        for ranking in campaign.rankings.filter(user=anna):
            ranking.pk, ranking.public_id, ranking.slot, ranking.lease = None, f"{number}-{ranking.pk}", None, None
            ranking.save(force_insert=True)
    assert width() == pytest.approx(few, rel=0.05)
    compare(campaign, *[(anna, winner) for winner in ["new", "new", "old"] * 15])
    assert width() < 0.9 * few


def test_ties_of_pairs_say_what_people_notice_and_both_bad_is_none(campaign: Campaign, anna: User) -> None:
    compare(campaign, *[(anna, winner) for winner in ["new", "new", "tie", "old"] * 5])
    tied = leaderboard(campaign)
    assert tied.model == "Rao-Kupper" and tied.notices.value is not None and tied.notices.value > 0
    assert [place.source for place in tied.places] == ["new", "old"]
    answers = read_answers(campaign)
    rows = [row for row, tiers in enumerate(answers.tiers) if len(tiers) == 1]
    bad = leaderboard_of(replace(answers, both_bad=frozenset(rows)), sources_of(answers.items))
    assert bad.model == "Bradley-Terry" and bad.notices.value is None
    assert [(place.comparisons, place.both_bad.value) for place in bad.places] == [(15, 0.25)] * 2
    gap = (bad.places[0].strength.value or 0) - (bad.places[1].strength.value or 0)
    assert gap == pytest.approx(np.log(2))  # ten against five
    (duel,) = duels_of(replace(answers, both_bad=frozenset(rows)), sources_of(answers.items))
    assert (duel.wins, duel.ties, duel.losses) == (10, 0, 5)


def test_planted_strengths_are_found_from_rankings_with_ties(campaign: Campaign) -> None:
    random, strengths = np.random.default_rng(5), np.array([1.0, 0.3, -0.3, -1.0])
    rankings, shown = [], []
    for _ in range(800):
        drawn = random.permutation(4)[:3]
        noisy = strengths[drawn] + random.gumbel(size=3)
        order = [int(drawn[place]) for place in np.argsort(-noisy)]
        rankings.append([order[:2], order[2:]] if random.random() < 0.1 else [[index] for index in order])
        shown.append(order)
    answers = Answers(list(range(800)), [1] * 800, rankings, shown, Counter(), partial=False)
    board = leaderboard_of(answers, dict.fromkeys(range(800), dict(enumerate("abcd"))))
    assert board.model == "Plackett-Luce" and [place.source for place in board.places] == list("abcd")
    for place, planted in zip(board.places, strengths, strict=True):
        assert place.strength.low is not None and place.strength.high is not None
        assert place.strength.low - 0.1 < planted < place.strength.high + 0.1


def test_a_ranking_that_shows_a_source_twice_is_taken_as_its_pairs(campaign: Campaign) -> None:
    answers = Answers([0, 1], [1, 1], [[[0], [1], [2]], [[2], [0, 1]]], [[0, 1, 2]] * 2, Counter(), partial=False)
    board = leaderboard_of(answers, dict.fromkeys(range(2), {0: "a", 1: "a", 2: "b"}))
    assert board.model == "Bradley-Terry" and [place.comparisons for place in board.places] == [4, 4]


def test_a_leaderboard_says_what_it_cannot_know(campaign: Campaign, anna: User) -> None:
    assert leaderboard(campaign).places == []
    ranked(campaign, anna, "a>b", sources="ab")
    assert (leaderboard(campaign).joined, leaderboard(campaign).decided) == (True, False)
    ranked(campaign, anna, "c>d", "d>c", sources="cd")
    assert leaderboard(campaign).joined is False


def test_the_leaderboard_is_a_picture_and_a_table(campaign: Campaign, anna: User, reviewer: User) -> None:
    compare(campaign, (anna, "new"), (anna, "new"), (anna, "old"))
    client = client_for(reviewer)
    text = client.get(f"/campaigns/{campaign.public_id}/report").text
    assert "Leaderboard" in text and "+0.35" in text and "−0.35" in text
    assert text.split("Whose answers")[0].count('<svg class="interval"') == 2
    board = client.get(f"/api/campaigns/{campaign.public_id}/report").json()["statistics"]["leaderboard"]
    assert [place["source"] for place in board["places"]] == ["new", "old"]
