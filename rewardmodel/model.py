"""The reward model: a causal language model or an encoder, a LoRA adapter on it, and a scalar head in float32.

    score = (head(h) - mean) / sd

where h is the last hidden state of the last token (causal models), or the mean over all tokens (encoders, as
sentence encoders are trained). Dropout of the base is always off. A saved model is a folder: the adapter in peft's
format (or the whole model, where all weights were trained) and `head.safetensors`.
Left out: encoder-decoders, quantised bases, several heads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.auto import modeling_auto

from rewardmodel.tokens import Message, encode_scored, pad_id

# Facts about the model beside the head's tensors, as one JSON text: safetensors writes several keys in any order.
FACTS = "prefloop"
HEAD, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "head.safetensors", "adapter_config.json", "adapter_model.safetensors"
PADDED_TOKENS = 16384  # of one forward pass without gradients


class RewardModelError(ValueError):
    """This base, adapter or folder cannot be a reward model; the message is one sentence that says why."""


class RewardHead(nn.Module):
    """(rows, hidden) to (rows,), always in float32. `forward` is normalised, `raw` is what is trained."""

    mean: Tensor
    sd: Tensor

    def __init__(self, hidden: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        # Huang et al. 2024: this spread gives scores of order 1 at the start.
        self.weight = nn.Parameter(torch.randn(1, hidden, generator=generator) / math.sqrt(hidden + 1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sd", torch.ones(()))

    def raw(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.float(), self.weight, self.bias)[..., 0]

    def forward(self, hidden: Tensor) -> Tensor:
        return (self.raw(hidden) - self.mean) / self.sd


def load_head(folder: Path) -> RewardHead:
    """The head of a saved reward model, to put on a base that is loaded already (see `pool`)."""
    return _read_head(folder)[0]


def pool(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
    """One vector per row: of the `last` token, or the `mean` over tokens.

    hidden: (rows, time, hidden); mask: (rows, time), True where there is a token, padded on either side.
    """
    if how == "mean":
        weight = mask[..., None].float()  # a long sum in bfloat16 would lose the small terms
        return (hidden.float() * weight).sum(1) / weight.sum(1).clamp(min=1)
    last = (mask.long() * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


class RewardModel(nn.Module):
    """Scores of conversations. Make one with `create` or `load`."""

    def __init__(
        self, model: Any, tokenizer: Any, head: RewardHead, *, base: str, pooling: str, max_length: int
    ) -> None:
        super().__init__()
        self.model, self.head = model.eval(), head
        self.tokenizer, self.base, self.pooling, self.max_length = tokenizer, base, pooling, max_length
        plain = model.get_base_model() if isinstance(model, PeftModel) else model
        # The transformer without its language-modelling head: logits over a vocabulary would be wasted work.
        # In a list, because a module registered twice would appear twice among the weights.
        self._trunk = [plain.get_decoder() if pooling == "last" else plain]

    @classmethod
    def create(
        cls,
        base: str,
        *,
        adapter: str = "",
        lora_rank: int = 16,
        lora_alpha: float = 32.0,
        lora_dropout: float = 0.0,
        max_length: int = 1024,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> RewardModel:
        """A model to train, on a base by local path or hub name.

        It starts from a copy of `adapter` (e.g. of the SFT policy) where one is given, and keeps that one's rank.
        Rank 0 trains all weights, in float32 because small updates vanish in bfloat16.
        """
        model, tokenizer, pooling = _load_base(base, torch.float32 if lora_rank == 0 else dtype)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if adapter:
                model = _with_saved_adapter(model, adapter, trainable=lora_rank > 0)
            elif lora_rank:
                model = get_peft_model(model, _lora_config(model, pooling, lora_rank, lora_alpha, lora_dropout))
        head = RewardHead(_hidden_size(model), generator)
        length = min(max_length, _context(model, tokenizer))
        made = cls(model, tokenizer, head, base=base, pooling=pooling, max_length=length).to(device)
        if lora_rank == 0:  # of a causal model, without the unused language-modelling head
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
    ) -> RewardModel:
        """A saved model, ready to score. `base` replaces the base that the adapter names (it may have moved)."""
        folder = Path(folder)
        head, facts = _read_head(folder)
        config = folder / ADAPTER_CONFIG
        if config.is_file():
            base = base or json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
            model, tokenizer, pooling = _load_base(base, dtype)
            model = _with_saved_adapter(model, str(folder), trainable=True)
        else:
            base = str(folder)
            model, tokenizer, pooling = _load_base(base, dtype)
        length = min(int(facts.get("max_length", 1 << 30)), _context(model, tokenizer))
        loaded = cls(model, tokenizer, head, base=base, pooling=pooling, max_length=length)
        return loaded.requires_grad_(False).to(device)

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder: safetensors and JSON only, the same bytes for the same weights."""
        if isinstance(self.model, PeftModel):
            config = self.model.peft_config["default"].to_dict()
            config |= {"base_model_name_or_path": self.base, "inference_mode": True}
            config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
            text = json.dumps(config, indent=1, sort_keys=True, default=str)
            (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")
            _write(folder / ADAPTER_WEIGHTS, get_peft_model_state_dict(self.model))
        else:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        facts = {"max_length": self.max_length, "pooling": self.pooling}
        _write(folder / HEAD, self.head.state_dict(), {FACTS: json.dumps(facts, sort_keys=True)})

    @property
    def trunk(self) -> Any:
        return self._trunk[0]

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def train_dropout(self, on: bool) -> None:
        """LoRA's dropout on or off; the base's own stays off."""
        for name, module in self.model.named_modules():
            if "lora_dropout" in name:
                module.train(on)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The ids that `raw_scores` and `score` take."""
        return encode_scored(self.tokenizer, messages, self.max_length)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Raw scores (rows,) of padded ids (rows, time); mask is True on tokens, padding may be on either side."""
        mask = mask.bool()
        # Tokens first: positions then count from 0 in every architecture, whichever side the padding came on.
        order = mask.int().argsort(dim=1, descending=True, stable=True)
        ids, mask = ids.gather(1, order), mask.gather(1, order)
        if self.pooling == "mean":
            states = self.trunk(input_ids=ids, attention_mask=mask.long())
        else:  # causal attention: what follows a token cannot change it, so padding behind it needs no mask
            states = self.trunk(input_ids=ids, use_cache=False)
        return self.head.raw(pool(states.last_hidden_state, mask, self.pooling))

    def raw_scores(self, sequences: Sequence[Sequence[int]], padded_tokens: int = PADDED_TOKENS) -> Tensor:
        """Raw scores (sequences,) in the order given, with gradients where they are on.

        Sequences of similar length go through together, so that little is computed for padding.
        """
        order, parts = [], []
        for chunk in similar_lengths([len(s) for s in sequences], padded_tokens):
            order += chunk
            parts.append(self(*self._pad([sequences[i] for i in chunk])))
        if not parts:
            return torch.zeros(0, device=self.device)
        position = torch.empty(len(order), dtype=torch.long)
        position[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[position.to(self.device)]

    @torch.no_grad()
    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Normalised scores of whole conversations."""
        raw = self.raw_scores([self.encode(messages) for messages in conversations])
        return [float(value) for value in (raw - self.head.mean) / self.head.sd]

    def _pad(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(s) for s in sequences])
        width, fill = int(lengths.max()), pad_id(self.tokenizer)
        ids = torch.tensor([[*s, *[fill] * (width - len(s))] for s in sequences])
        mask = torch.arange(width)[None] < lengths[:, None]
        return ids.to(self.device), mask.to(self.device)


def similar_lengths(lengths: Sequence[int], padded_tokens: int, tightness: float = 0.8) -> list[list[int]]:
    """Indices in groups, longest first; in a group none is shorter than `tightness` times the longest.

    A group holds at most `padded_tokens` tokens with its padding (and at least one sequence).
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[groups[-1][0]] if groups else 0
        fits = groups and (len(groups[-1]) + 1) * longest <= padded_tokens
        if fits and lengths[i] >= tightness * longest:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _load_base(base: str, dtype: torch.dtype) -> tuple[Any, Any, str]:
    """Model, tokenizer and pooling of a base. Never runs code that comes with a model."""
    if not base:
        raise RewardModelError("No base model is given: set base to a local path or a hub name.")
    try:
        config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False)
        if config.is_encoder_decoder:
            raise RewardModelError(f"{base} is an encoder-decoder; take a causal language model or an encoder.")
        # Families that know masked language modelling read both ways, whatever else they can be built as.
        names, masked = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        causal = config.model_type in names and config.model_type not in masked
        auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
        model = auto.from_pretrained(base, dtype=dtype, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if isinstance(error, RewardModelError):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RewardModelError(f"The base model {base} cannot be loaded: {first}") from error
    return model, tokenizer, "last" if causal else "mean"


def _lora_config(model: Any, pooling: str, rank: int, alpha: float, dropout: float) -> LoraConfig:
    unused = r"(.*\.)?pooler(\..*)?" if getattr(model, "pooler", None) is not None else None
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        exclude_modules=unused,
        task_type="CAUSAL_LM" if pooling == "last" else "FEATURE_EXTRACTION",
    )


def _with_saved_adapter(model: Any, folder: str, *, trainable: bool) -> Any:
    """The model with the adapter on it; merged into it where the adapter itself is not to be trained."""
    try:
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except Exception as error:  # peft, safetensors and torch each raise their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RewardModelError(f"The adapter {folder} does not fit the base model: {first}") from error
    return adapted if trainable else adapted.merge_and_unload()


def _hidden_size(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)


def _context(model: Any, tokenizer: Any) -> int:
    """Most tokens that the model can read. Tokenizers without a limit say a huge number."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    return min(int(positions), int(tokenizer.model_max_length))


def _read_head(folder: Path) -> tuple[RewardHead, dict[str, Any]]:
    try:
        with safe_open(folder / HEAD, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
        head = RewardHead(tensors["weight"].shape[1])
        head.load_state_dict(tensors)
    except Exception as error:  # OSError for a missing file, the library's own type for a damaged one
        raise RewardModelError(f"{folder} holds no reward model: {HEAD} cannot be read ({error}).") from error
    return head, facts


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    ready = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    save_file(ready, path, metadata=metadata)
