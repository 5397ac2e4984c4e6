"""Calibration and the report on held-out comparisons: against simulated people whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from rewardmodel.data import Item, Label
from rewardmodel.report import held_out_report
from rewardmodel.stats.calibration import calibration
from rewardmodel.stats.errors import InvalidComparison, NothingToFit


def simulated(pairs: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is `sharpness` times as sure as the people are, and what they said."""
    rng = np.random.default_rng(seed)
    gaps = rng.normal(0, 2, pairs)
    return sharpness * gaps, (rng.random(pairs) < expit(gaps)).astype(float)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_how_sure_of_itself_a_model_is(sharpness: float) -> None:
    found = calibration(*simulated(40_000, sharpness))
    assert found.temperature == pytest.approx(sharpness, rel=0.05)
    assert (found.error < 0.01) == (sharpness == 1.0)


def test_brier_score_of_a_coin_and_of_an_oracle() -> None:
    assert calibration([0.0, 0.0], [1, 0]).brier == 0.25
    assert calibration([50.0, -50.0], [1, 0]).brier == pytest.approx(0)


def test_which_of_two_is_called_first_means_nothing() -> None:
    gaps, seen = simulated(500, 2.0)
    flip = np.arange(500) % 2 == 0
    turned = calibration(np.where(flip, -gaps, gaps), np.where(flip, 1 - seen, seen))
    assert turned == calibration(gaps, seen)


def test_bins_hold_all_pairs_between_a_half_and_one() -> None:
    found = calibration(*simulated(1000, 1.0), bins=5)
    assert sum(one.weight for one in found.bins) == 1000
    for one in found.bins:
        assert 0.5 <= one.low <= one.predicted <= one.high <= 1


def test_what_cannot_be_calibrated_is_refused_with_a_reason() -> None:
    with pytest.raises(NothingToFit):
        calibration([], [])
    with pytest.raises(InvalidComparison, match="finite"):
        calibration([float("nan")], [1.0])
    with pytest.raises(InvalidComparison, match="between 0 and 1"):
        calibration([1.0], [2.0])


def item(number: int, texts: list[str], labels: list[tuple[str, list[list[int]]]]) -> Item:
    completions = tuple(({"role": "assistant", "content": text},) for text in texts)
    given = tuple(Label(tuple(map(tuple, tiers)), person) for person, tiers in labels)
    return Item(str(number), ({"role": "user", "content": f"Question {number}?"},), completions, given, str(number))


def by_name(report: dict, name: str) -> dict:
    return next(one for one in report["slices"] if one["name"] == name)


def test_slices_ceiling_and_surprises_of_a_small_set() -> None:
    items = [
        item(1, ["short", "much longer than that"], [("ann", [[1], [0]]), ("bob", [[1], [0]])]),
        item(2, ["short", "much longer than that"], [("ann", [[0], [1]]), ("bob", [[1], [0]])]),
        item(3, ["abcde", "fghij"], [("ann", [[0], [1]])]),
        item(4, ["abcde", "fghij"], [("ann", [[0, 1]])]),
    ]
    report = held_out_report(items, [[0.0, 2.0], [0.0, 1.0], [3.0, 3.0], [9.0, 0.0]])
    assert report["pairs"] == 5, "a tie is no pair"
    assert report["accuracy"]["value"] == pytest.approx((1 + 0.5 + 0.5) / 3), "each prompt weighs the same"
    assert by_name(report, "people agree")["accuracy"]["value"] == 1
    assert by_name(report, "people differ")["accuracy"]["value"] == 0.5
    assert by_name(report, "about equal")["pairs"] == 1
    assert by_name(report, "shorter one preferred")["accuracy"]["value"] == 0
    assert report["people"]["comparisons"] == 2
    assert report["people"]["agreement"] == 0.5
    assert report["people"]["ceiling"] == 0.5
    assert {one["name"]: one["pairs"] for one in report["people"]["labelers"]} == {"ann": 3, "bob": 2}
    assert report["length"] == {"people": 0.75, "model": 1.0}
    [surprise] = report["surprises"]
    assert (surprise["item"], surprise["labeler"], surprise["chosen"]) == ("2", "ann", "short")
    assert surprise["probability"] == pytest.approx(expit(-1.0))


def test_nothing_ranked_apart_gives_an_empty_report() -> None:
    assert held_out_report([item(1, ["a", "b"], [("ann", [[0, 1]])])], [[1.0, 0.0]]) == {}


def test_the_ceiling_is_the_accuracy_of_knowing_the_common_answer() -> None:
    rng = np.random.default_rng(0)
    q = 0.8
    items = [
        item(n, ["a", "b"], [(f"p{k}", [[0], [1]] if rng.random() < q else [[1], [0]]) for k in range(2)])
        for n in range(4000)
    ]
    report = held_out_report(items, [[1.0, 0.0]] * len(items))
    assert report["people"]["ceiling"] == pytest.approx(q, abs=0.02)
    assert report["accuracy"]["value"] == pytest.approx(report["people"]["ceiling"], abs=0.02)
