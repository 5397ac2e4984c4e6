import pytest

from demo.judging import quality, win, win_rate

PROMPT = "My kettle has not arrived."
GOOD = "Sorry for the trouble. We will find out where your kettle is."


def test_a_win_is_read_from_the_tiers() -> None:
    assert win([[1], [0]], policy=1, other=0) == 1.0
    assert win([[1], [0]], policy=0, other=1) == 0.0
    assert win([[0, 1]], policy=0, other=1) == 0.5


def test_the_win_rate_weighs_items_alike_and_has_an_interval_by_item() -> None:
    rate = win_rate({"a": [1.0, 1.0, 1.0], "b": [0.0]})
    assert rate.value == 0.5
    many = win_rate({str(number): [1.0, 0.5] for number in range(100)})
    assert many.value == pytest.approx(0.75)
    assert many.low is not None and many.high is not None
    assert 0.6 < many.low < 0.75 < many.high < 0.9


def test_quality_is_the_mean_over_replies() -> None:
    both = quality([(PROMPT, GOOD), (PROMPT, "No idea.")])
    assert both.correct == 0.5
    assert both.gold == pytest.approx((6.5 + 0.0) / 2)
