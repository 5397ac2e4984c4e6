"""The committed language model, through the ordinary transformers path."""

import itertools
from pathlib import Path

import pytest

from demo import gold, world

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from demo.show_lm import MODEL, sample  # noqa: E402


def test_the_model_is_small_and_safe_to_load() -> None:
    files = list(Path(MODEL).iterdir())
    assert {file.suffix for file in files} == {".json", ".jinja", ".safetensors", ".md"}
    assert sum(file.stat().st_size for file in files) < 4_000_000


def test_items_are_single_tokens_and_any_text_survives_the_tokenizer() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    assert all(len(tokenizer.tokenize(f" {item}")) == 1 for item in world.ITEMS)
    text = "My kettle, née “Größe”, 第一."
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.unk_token is None


@pytest.mark.parametrize("held_out", [False, True])
def test_about_half_of_the_replies_have_the_right_content_also_on_held_out_pairs(held_out: bool) -> None:
    prompts = [question.text for question in itertools.islice(world.questions(seed=7, held_out=held_out), 300)]
    replies = sample(MODEL, prompts, seed=0)
    correct = sum(map(gold.is_correct, prompts, replies)) / len(prompts)
    junk = sum(gold.criteria(*pair).junk > 0 for pair in zip(prompts, replies, strict=True)) / len(prompts)
    assert 0.4 < correct < 0.6
    assert junk < 0.1
