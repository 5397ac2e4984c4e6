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
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from rewardmodel.bases import RewardModelError as RewardModelError
from rewardmodel.bases import context, hidden_size, load_base, lora_config, with_saved_adapter
from rewardmodel.packing import Tree, fill_rows, lay_out, make_tree, split_group
from rewardmodel.tokens import Message, encode_scored, encode_together, pad_id

# Facts about the model beside the head's tensors, as one JSON text: safetensors writes several keys in any order.
FACTS = "prefloop"
HEAD, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "head.safetensors", "adapter_config.json", "adapter_model.safetensors"
PADDED_TOKENS = 16384  # of one forward pass without gradients
PACKED_ROW = 512  # tokens up to which rows are filled; longer ones would spend more on attention than they save


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
        self._shares: dict[int, bool] = {}  # what `shares_beginnings` found, by length

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
        model, tokenizer, pooling = load_base(base, torch.float32 if lora_rank == 0 else dtype)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if adapter:
                model = with_saved_adapter(model, adapter, trainable=lora_rank > 0)
            elif lora_rank:
                model = get_peft_model(model, lora_config(model, pooling, lora_rank, lora_alpha, lora_dropout))
        head = RewardHead(hidden_size(model), generator)
        length = min(max_length, context(model, tokenizer))
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
        """The ids of a conversation, as `raw_scores` takes them."""
        return encode_scored(self.tokenizer, messages, self.max_length)

    def encode_together(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """The ids of an item's conversations, as `group_scores` takes them: what is too long is cut alike."""
        return encode_together(self.tokenizer, conversations, self.max_length)

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
        return self._in_order(parts, order)

    def group_scores(
        self, groups: Sequence[Sequence[Sequence[int]]], padded_tokens: int = PADDED_TOKENS
    ) -> list[Tensor]:
        """Raw scores of each group of sequences, e.g. of one item's conversations, with gradients where they are on.

        What a group's sequences have in common at their beginning is read once, and equal sequences are read once.
        Models that cannot do that exactly (see `shares_beginnings`) read every sequence alone.
        """
        distinct = [list(dict.fromkeys(map(tuple, group))) for group in groups]
        if self.shares_beginnings(max((len(s) for group in distinct for s in group), default=0)):
            parts = [part for group in distinct for part in split_group(group, self.head.weight.shape[1])]
            flat = self._packed_scores([make_tree(part) for part in parts], padded_tokens)
        else:
            flat = self.raw_scores([s for group in distinct for s in group], padded_tokens)
        scores = list(torch.split(flat, [len(group) for group in distinct]))
        for i, (group, different) in enumerate(zip(groups, distinct, strict=True)):
            if len(different) < len(group):
                place = {sequence: n for n, sequence in enumerate(different)}
                scores[i] = scores[i][[place[tuple(sequence)] for sequence in group]]
        return scores

    def shares_beginnings(self, longest: int) -> bool:
        """Whether this model reads packed sequences of up to `longest` tokens exactly as it reads them alone.

        Windows, recurrent states, positions of their own kind and kernels that ignore masks all show in the hidden
        states of random tokens; so that is tried, up to the next power of two, instead of trusting a list of names.
        """
        if self.pooling != "last" or longest == 0:
            return False
        if any(shares and longest <= tried for tried, shares in self._shares.items()):
            return True
        size = max(8, min(1 << (longest - 1).bit_length(), max(longest, self.max_length)))
        if size not in self._shares:
            self._shares[size] = self._try_sharing(size)
        return self._shares[size]

    @torch.no_grad()
    def _try_sharing(self, size: int) -> bool:
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.trunk.get_input_embeddings().num_embeddings
        ids = torch.randint(vocabulary, (4, size), generator=generator).tolist()
        half, quarter = ids[0][: size // 2], ids[1][: size // 4]
        groups = [[half + ids[2][: size - size // 2], half + ids[3][: size - size // 2]], [quarter, ids[2][:5]]]
        trees = [make_tree(group) for group in groups]
        dropout = [m for name, m in self.model.named_modules() if "lora_dropout" in name and m.training]
        self.train_dropout(False)
        try:
            packed = self._read(trees, [[1, 0]])
        except Exception:  # architectures refuse such masks or positions each with an error of their own
            return False
        else:
            alone = [self.trunk(input_ids=self._pad([s])[0], use_cache=False) for group in groups for s in group]
        finally:
            for module in dropout:
                module.train()
        expected = torch.cat([states.last_hidden_state[:, -1] for states in alone]).float()
        exact = packed.dtype == torch.float32
        difference = (packed.float() - expected).norm(dim=1) / expected.norm(dim=1)
        return bool((difference < (1e-4 if exact else 5e-2)).all())  # False for NaN, too

    def _packed_scores(self, trees: Sequence[Tree], padded_tokens: int) -> Tensor:
        """Raw scores of all sequences, tree by tree."""
        lengths = [len(tree.ids) for tree in trees]
        rows = fill_rows(lengths, PACKED_ROW)
        firsts = list(accumulate((len(tree.ends) for tree in trees), initial=0))
        order, parts = [], []
        for chunk in similar_lengths([sum(lengths[i] for i in row) for row in rows], padded_tokens):
            chosen = sorted(i for row in chunk for i in rows[row])
            local = {i: n for n, i in enumerate(chosen)}
            states = self._read([trees[i] for i in chosen], [[local[i] for i in rows[row]] for row in chunk])
            order += [n for i in chosen for n in range(firsts[i], firsts[i + 1])]
            parts.append(self.head.raw(states))
        return self._in_order(parts, order)

    def _read(self, trees: Sequence[Tree], rows: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states (sequences, hidden) at the ends of all sequences, tree by tree."""
        packed = lay_out(trees, rows, pad_id(self.tokenizer), self.device)
        mask = packed.attention_mask(self.trunk.dtype)
        states = self.trunk(
            input_ids=packed.ids, attention_mask=mask, position_ids=packed.positions, use_cache=False
        ).last_hidden_state
        ends: Tensor = states[packed.ends]
        return ends

    def _in_order(self, parts: list[Tensor], order: list[int]) -> Tensor:
        """Parts one behind the other, of which the entries belong to the places `order`."""
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
