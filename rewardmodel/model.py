"""The reward model: a causal language model or an encoder, a LoRA adapter on it, and a scalar head in float32.

    score = (head(h) - mean) / sd

where h is the last hidden state of the last token (causal models), or the mean over all tokens (encoders, as
sentence encoders are trained). Dropout of the base is always off. A saved model is a folder: the adapter in peft's
format (or the whole model, where all weights were trained) and `head.safetensors`.
Several models may share one base, each with its adapter (`sibling`).
Left out: encoder-decoders, quantised bases, several heads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from rewardmodel.adapters import DROPOUT, adapter_layers, adapter_tensors, as_lora, freeze_untrained, is_trained
from rewardmodel.bases import RewardModelError as RewardModelError
from rewardmodel.bases import context, hidden_size, load_base, quantization, with_fresh_adapter, with_saved_adapter
from rewardmodel.config import ADALORA, DYLORA, AdapterConfig
from rewardmodel.dylora import Truncation, make_truncatable
from rewardmodel.head import FACTS, read_head, write_tensors
from rewardmodel.head import HEAD as HEAD
from rewardmodel.head import RewardHead as RewardHead
from rewardmodel.head import load_head as load_head
from rewardmodel.head import pool as pool
from rewardmodel.reading import PADDED_TOKENS as PADDED_TOKENS
from rewardmodel.reading import Groups, Of, Reader
from rewardmodel.reading import similar_lengths as similar_lengths
from rewardmodel.tokens import Message, encode_scored, encode_together, pad_id
from rewardmodel.tuning import RankBudget

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TRAJECTORY = "trajectory.json"  # beside models that score turns: `rewardmodel.trajectory`


class RewardModel(nn.Module):
    """Scores of conversations. Make one with `create` or `load`."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        head: RewardHead,
        *,
        base: str,
        pooling: str,
        max_length: int,
        adapter: str = "default",
    ) -> None:
        super().__init__()
        self.model, self.head = model.eval(), head
        self.tokenizer, self.base, self.pooling, self.max_length = tokenizer, base, pooling, max_length
        self.adapter, self.started_from = adapter, ""
        self.lora = AdapterConfig()
        self.truncation: Truncation | None = None
        plain = model.get_base_model() if isinstance(model, PeftModel) else model
        # The transformer without its language-modelling head: logits over a vocabulary would be wasted work.
        trunk = plain.get_decoder() if pooling == "last" else plain
        self._reader = Reader(trunk, pooling, pad_id(tokenizer), max_length)

    @classmethod
    def create(
        cls,
        base: str,
        *,
        adapter: str = "",
        lora_rank: int = 16,
        lora_alpha: float = 32.0,
        lora_dropout: float = 0.0,
        lora: AdapterConfig | None = None,
        max_length: int = 1024,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """A model to train, on a base by local path or hub name.

        It starts from a copy of `adapter` (e.g. of the SFT policy) where one is given, and keeps that one's rank.
        Rank 0 trains all weights, in float32 because small updates vanish in bfloat16. `lora` describes an adapter in
        full and takes the place of the three settings before it.
        """
        if lora is None and lora_rank:
            lora = AdapterConfig(rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout)
        options = quantization(lora.variant, device) if lora else {}
        model, tokenizer, pooling = load_base(base, dtype if lora else torch.float32, **options)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if adapter:
                model = with_saved_adapter(model, adapter, trainable=lora is not None, lora=lora)
            elif lora:
                model = with_fresh_adapter(model, pooling, lora)
        head = RewardHead(hidden_size(model), generator)
        length = min(max_length, context(model, tokenizer))
        made = cls(model, tokenizer, head, base=base, pooling=pooling, max_length=length).to(device)
        made.started_from = adapter
        if lora:
            made.train_as(lora)
        else:  # of a causal model, without the unused language-modelling head
            model.requires_grad_(False)
            made.trunk.requires_grad_(True)
        return made

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        base: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """A saved model, ready to score. `base` replaces the base that the adapter names (it may have moved)."""
        folder = Path(folder)
        if cls is RewardModel and (folder / TRAJECTORY).exists():
            raise RewardModelError(f"{folder} holds rewards of turns: load it as a TrajectoryModel.")
        head, facts = read_head(folder)
        config = folder / ADAPTER_CONFIG
        if config.is_file():
            base = base or json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
            model, tokenizer, pooling = load_base(base, dtype)
            model = with_saved_adapter(model, str(folder), trainable=True)
        else:
            base = str(folder)
            model, tokenizer, pooling = load_base(base, dtype)
        length = min(int(facts.get("max_length", 1 << 30)), context(model, tokenizer))
        loaded = cls(model, tokenizer, head, base=base, pooling=pooling, max_length=length)
        return loaded.requires_grad_(False).to(device)

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder: safetensors and JSON only, the same bytes for the same weights."""
        if isinstance(self.model, PeftModel):
            config, tensors = self._saved_adapter()
            config |= {"base_model_name_or_path": self.base, "inference_mode": True}
            config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
            text = json.dumps(config, indent=1, sort_keys=True, default=str)
            (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")
            write_tensors(folder / ADAPTER_WEIGHTS, tensors)
        else:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        facts = {"max_length": self.max_length, "pooling": self.pooling}
        write_tensors(folder / HEAD, self.head.state_dict(), {FACTS: json.dumps(facts, sort_keys=True)})

    @property
    def reader(self) -> Reader:
        """Hidden states of sequences, by this model's adapter."""
        self._activate()
        return self._reader

    @property
    def trunk(self) -> Any:
        return self._reader.trunk

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def train_dropout(self, on: bool) -> None:
        """LoRA's dropout on or off; the base's own stays off."""
        for name, module in self.model.named_modules():
            if DROPOUT.search(name):
                module.train(on)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation, as `raw_scores` takes them."""
        return encode_scored(self.tokenizer, messages, self.max_length)

    def encode_together(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """The ids of an item's conversations, as `group_scores` takes them: what is too long is cut alike."""
        return encode_together(self.tokenizer, conversations, self.max_length)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Raw scores (rows,) of padded ids (rows, time); mask is True on tokens, padding may be on either side."""
        return self.head.raw(self.reader.read(ids, mask))

    def raw_scores(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Raw scores (sequences,) in the order given, with gradients where they are on."""
        return self.reader.read_alone(sequences, self.head.raw)

    def group_scores(self, groups: Groups, of: Of | None = None) -> list[Tensor]:
        """Raw scores of each group of sequences, or what `of` makes of hidden states. See `Reader.read_groups`."""
        return self.reader.read_groups(groups, of or self.head.raw)

    @torch.no_grad()
    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Normalised scores of whole conversations."""
        sequences = [self.encode(messages) for messages in conversations]
        return [float(score) for score in self.reader.read_alone(sequences, self.head)]

    def prepare(self, longest: int) -> None:
        """Find out how groups with sequences of up to so many tokens are read, before the weights change."""
        self.reader.shares_beginnings(longest)

    def learning(self) -> dict[str, nn.Parameter]:
        """What is trained: this model's own adapter (or all weights) and its head."""
        self._activate()
        mine = {id(p) for name, p in self._tensors().items() if is_trained(name, self.lora)}
        others = isinstance(self.model, PeftModel)
        return {
            name: p
            for name, p in self.named_parameters()
            if p.requires_grad and (id(p) in mine or not others or name.startswith("head."))
        }

    def train_as(self, lora: AdapterConfig) -> None:
        """The adapter is to be trained by these settings, from now on."""
        self.lora = lora
        freeze_untrained(self.model, self.adapter, lora)
        if lora.variant == DYLORA:
            rank = self.model.peft_config[self.adapter].r
            self.lora = replace(lora, rank=rank, smallest_rank=min(lora.smallest_rank, rank))
            layers = adapter_layers(self.model, self.adapter).values()
            self.truncation = make_truncatable(layers, self.adapter, self.lora)

    def rank_budget(self, total_steps: int) -> RankBudget | None:
        """What takes ranks away in so many optimizer steps, of AdaLoRA. Raises RewardModelError for too few steps."""
        if self.lora.variant != ADALORA:
            return None
        try:
            return RankBudget(self.model.base_model, self.adapter, total_steps)
        except ValueError as error:
            raise RewardModelError(str(error)) from error

    def truncated(self, seed: int, step: int) -> AbstractContextManager[None]:
        """Within it, a model that is trained as DyLoRA computes and learns with a rank drawn for this step."""
        return self.truncation.drawn(seed, step) if self.truncation else nullcontext()

    def sibling(self, number: int, seed: int) -> Self:
        """Another model to train on the same base: an adapter like this one's, and a head of its own."""
        if not isinstance(self.model, PeftModel):
            raise RewardModelError("Only adapters can share a base: set lora_rank above 0.")
        if self.lora.variant == ADALORA:
            raise RewardModelError("adalora trains one adapter on a base: set members to 1, or take another variant.")
        name = f"member_{number}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model.add_adapter(name, self.model.peft_config[self.adapter])
            head = RewardHead(hidden_size(self.model), torch.Generator().manual_seed(seed))
        if self.started_from:
            set_peft_model_state_dict(
                self.model, get_peft_model_state_dict(self.model, adapter_name=self.adapter), name
            )
        other = self._beside(name, head)
        other.train_as(self.lora)
        return other

    def load_sibling(self, number: int, folder: Path) -> Self:
        """A saved model on the base that this one stands on."""
        head, _ = read_head(folder)
        self.model.load_adapter(str(folder), f"member_{number}", is_trainable=True)
        return self._beside(f"member_{number}", head).requires_grad_(False)

    def _beside(self, adapter: str, head: RewardHead) -> Self:
        facts: dict[str, Any] = {"base": self.base, "pooling": self.pooling, "max_length": self.max_length}
        other = type(self)(self.model, self.tokenizer, head.to(self.device), adapter=adapter, **facts)
        other.model.to(self.device)
        return other

    def _tensors(self) -> dict[str, nn.Parameter]:
        """The adapter's own tensors."""
        return adapter_tensors(self.model, self.adapter)

    def _saved_adapter(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The adapter as a file has it: config and tensors. AdaLoRA becomes the plain LoRA that it amounts to."""
        config = self.model.peft_config[self.adapter]
        if isinstance(config, AdaLoraConfig):
            config, tensors = as_lora(self.model, self.adapter, config)
        else:
            tensors = get_peft_model_state_dict(self.model, adapter_name=self.adapter)
        return config.to_dict(), tensors

    def _activate(self) -> None:
        """Compute with this model's adapter, where several share a base."""
        if isinstance(self.model, PeftModel) and self.model.active_adapter != self.adapter:
            # peft lets the parameters of the active adapter learn, and no others.
            self.model.set_adapter(self.adapter, inference_mode=not self.head.weight.requires_grad)
