"""Small Llamas for the benchmarks: from a config with random weights, a tokenizer of words, and a reward model.

Random weights never end an answer on purpose, and a clock wants answers of known length. So one hidden dimension is
the same large number for every token, and the row of the output head that belongs to the end token reads it: the
chance to end is about `end_rate` at every step, 0 for answers that all reach the limit. It is in the weights, so every
program that reads them behaves alike. The padding token gets chance 0, because TRL takes it for the end.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from rewardmodel.model import RewardModel

SPECIALS = ["<pad>", "<end>", "<user>", "<assistant>"]
PAD, END = 0, 1
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ '<end> ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
NEVER = -60.0  # a logit that is never drawn, and finite


class Size(NamedTuple):
    """Shape of a Llama."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int


SIZES = {
    "0.3M": Size(64, 3, 4, 2, 176, 1000),
    "8M": Size(256, 5, 4, 2, 688, 8000),
    "15M": Size(384, 5, 6, 2, 1024, 8000),
    "1.5B": Size(1536, 28, 12, 2, 8960, 151936),
}


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words w4, w5, ... behind the special tokens."""
    words = {word: i for i, word in enumerate([*SPECIALS, *(f"w{i}" for i in range(len(SPECIALS), vocabulary))])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<end>", unk_token="<pad>", padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_llama(size: Size, end_rate: float = 0.0, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """Random weights of this shape, ending answers at the given rate."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads, intermediate_size=size.intermediate, vocab_size=size.vocabulary,
        max_position_embeddings=2048, initializer_range=0.05, bos_token_id=None, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.lm_head.weight[[PAD, END]] = 0.0
        ids = torch.randint(len(SPECIALS), size.vocabulary, (8, 32))
        constant = model.model(input_ids=ids).last_hidden_state[..., 0].float().mean()
        others = model(input_ids=ids).logits.float()[..., len(SPECIALS) :].logsumexp(-1).mean()
        model.lm_head.weight[PAD, 0] = NEVER / constant
        wanted = math.log(end_rate / (1 - end_rate)) + others if end_rate else NEVER
        model.lm_head.weight[END, 0] = wanted / constant
    return model


def save_base(folder: Path, size: Size, end_rate: float = 0.0) -> Path:
    """A base model and its tokenizer, as from a hub."""
    make_llama(size, end_rate).save_pretrained(folder)
    make_tokenizer(size.vocabulary).save_pretrained(folder)
    return folder


def save_reward(folder: Path, base: Path, rank: int = 16) -> Path:
    """A reward artifact on that base with an opinion nobody trained, so that scores differ between answers."""
    model = RewardModel.create(str(base), lora_rank=rank)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=generator))
    return write_reward(folder, model)


def write_reward(folder: Path, model: RewardModel) -> Path:
    folder.mkdir(parents=True)
    model.save(folder)
    card = {"kind": "reward", "format": "adapter", "base": model.base}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def merge_reward(folder: Path, reward: Path) -> Path:
    """The same reward model as transformers' sequence classifier, which is what TRL reads.

    Its head has no bias, so scores differ from ours by a constant, which changes no advantage that is whitened.
    """
    model = RewardModel.load(reward)
    trunk = model.model.merge_and_unload()
    trunk.config.num_labels = 1
    trunk.config.pad_token_id = model.tokenizer.pad_token_id
    classifier = LlamaForSequenceClassification(trunk.config)
    classifier.model.load_state_dict(trunk.model.state_dict())
    with torch.no_grad():
        classifier.score.weight.copy_(model.head.weight / model.head.sd)
    classifier.save_pretrained(folder)
    return folder


def words_of(base: Path) -> list[str]:
    """Single words of a tokenizer's vocabulary, to make prompts of."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = (tokenizer.decode([i]).strip() for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids)
    return [text for text in texts if text.isascii() and text.isalnum()]


def parameters(base: Path) -> int:
    """Weights of a saved model, from the file's header."""
    from safetensors import safe_open

    total = 0
    for path in base.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total
