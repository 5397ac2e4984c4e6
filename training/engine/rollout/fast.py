"""A faster rollout engine for Llama-shaped models: own forward, merged weights, a preallocated cache.

transformers' forward spends most of a small model's decoding step in Python and in growing its cache. Here a role's
adapter is merged into copies of the weights once per batch of answers, and a step is a handful of operations per
layer. Left out: CUDA graphs and refilling freed rows; models of other shapes use the reference engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewardmodel.adapters import effective_weight
from training.engine.models import RoleModel

from . import Completion, RolloutEngine, Sampling
from .reference import ReferenceEngine, collect, draw

SHAPES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"}
SHRINK = 0.8  # rows that ended leave the batch once the others are at most this share of it


def choose_engine(roles: RoleModel) -> RolloutEngine:
    """The fastest engine that knows this model."""
    return FastEngine(roles) if FastEngine.knows(roles) else ReferenceEngine(roles)


class Layer(NamedTuple):
    """Merged weights of one transformer layer: (weight, bias) pairs and norms."""

    qkv: tuple[Tensor, Tensor | None]
    out: tuple[Tensor, Tensor | None]
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]
    norms: tuple[Tensor, Tensor]


class FastEngine:
    """Same answers as the reference engine for the same random numbers, up to rounding."""

    def __init__(self, roles: RoleModel) -> None:
        self.roles = roles
        config = roles.model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps

    @staticmethod
    def knows(roles: RoleModel) -> bool:
        """Llama-shaped, on a CPU, full attention; elsewhere copies of the weights may cost more than they save."""
        config = roles.model.config
        return (
            type(roles.model).__name__ in SHAPES
            and roles.device.type == "cpu"
            and config.hidden_act == "silu"
            and not getattr(config, "use_sliding_window", getattr(config, "sliding_window", None))
        )

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
    ) -> list[Completion]:
        """One answer per prompt. A prompt that appears several times is read once."""
        count, length = len(prompts), sampling.max_new_tokens
        uniforms = torch.rand(count, length, generator=generator)
        ends = torch.tensor(sampling.end_ids)
        tokens, logprobs = torch.zeros(count, length, dtype=torch.long), torch.zeros(count, length)
        run = _Decoder(self, [_merged(layer) for layer in self.roles.backbone.layers], prompts, length)
        rows = torch.arange(count)  # which prompt each row of the shrinking batch answers
        running = torch.ones(count, dtype=torch.bool)
        ids = None
        for step in range(length):
            logits = run.first_logits() if ids is None else run.logits(ids)
            ids, picked = draw(logits.float() / sampling.temperature, uniforms[rows, step])
            tokens[rows, step], logprobs[rows, step] = ids, picked
            running &= ~torch.isin(ids, ends)
            alive = int(running.sum())
            if alive == 0:
                break
            if alive <= SHRINK * len(rows):
                keep = running.nonzero()[:, 0]
                run.keep(keep)
                ids, rows, running = ids[keep], rows[keep], running[keep]
        return collect(tokens, logprobs, ends)


class _Decoder:
    """The state of one batch: cache (layer, key or value, rows, heads, columns, dim), padded on the left."""

    def __init__(self, engine: FastEngine, layers: list[Layer], prompts: Sequence[Sequence[int]], new: int) -> None:
        self.engine, self.layers, self.backbone = engine, layers, engine.roles.backbone
        distinct = {tuple(prompt): i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        self.width = max(len(prompt) for prompt in distinct)
        lengths = torch.tensor([len(prompt) for prompt in distinct])
        self.prompt_ids = torch.tensor([[0] * (self.width - len(prompt)) + list(prompt) for prompt in distinct])
        self.pads = self.width - lengths
        shape = (len(layers), 2, len(distinct), engine.kv_heads, self.width + new, engine.head_dim)
        self.cache = torch.zeros(shape, dtype=engine.roles.model.dtype)
        positions = torch.arange(self.width + new)[None]
        self.cos, self.sin = (table[0] for table in self.backbone.rotary_emb(self.cache, positions))
        self.repeats = torch.tensor([distinct[tuple(prompt)] for prompt in prompts])
        self.columns = 0

    def first_logits(self) -> Tensor:
        """Read the prompts; logits (rows, vocabulary) behind their last tokens."""
        columns = torch.arange(self.width)
        causal = (columns[None, :] <= columns[:, None])[None] & (columns[None, None, :] >= self.pads[:, None, None])
        hidden = self._forward(self.prompt_ids, causal | torch.eye(self.width, dtype=torch.bool))
        self.keep(self.repeats)
        return self._head(hidden[:, -1][self.repeats])

    def logits(self, ids: Tensor) -> Tensor:
        """Append one token (rows,) per row; logits behind it."""
        seen = torch.arange(self.columns + 1) >= self.pads[:, None]
        return self._head(self._forward(ids[:, None], seen[:, None])[:, -1])

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only (or with some of them several times)."""
        used = self.cache[:, :, :, :, : self.columns]
        cache = self.cache.new_zeros(*self.cache.shape[:2], len(rows), *self.cache.shape[3:])
        cache[:, :, :, :, : self.columns] = used.index_select(2, rows)
        self.cache, self.pads = cache, self.pads[rows]

    def _head(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.engine.roles.head(hidden)
        return logits

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of new columns; mask (rows, new columns, all columns) is True where attention may look."""
        e, start, end = self.engine, self.columns, self.columns + ids.shape[1]
        # Columns serve as positions: rotary attention sees differences only, so left padding does not matter.
        cos, sin = self.cos[start:end], self.sin[start:end]
        x = self.backbone.embed_tokens(ids)
        bias = torch.zeros(mask.shape, dtype=x.dtype).masked_fill_(~mask, -torch.inf)[:, None]
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            h = F.rms_norm(x, x.shape[-1:], layer.norms[0], e.eps)
            qkv = F.linear(h, *layer.qkv).view(*ids.shape, -1, e.head_dim).transpose(1, 2)
            q, k, v = torch.split(qkv, [e.heads, e.kv_heads, e.kv_heads], dim=1)
            keys[:, :, start:end], values[:, :, start:end] = _rotate(k, cos, sin), v
            heads = F.scaled_dot_product_attention(
                _rotate(q, cos, sin),
                keys[:, :, :end],
                values[:, :, :end],
                attn_mask=bias,
                enable_gqa=e.heads != e.kv_heads,
            )
            x = x + F.linear(heads.transpose(1, 2).flatten(2), *layer.out)
            h = F.rms_norm(x, x.shape[-1:], layer.norms[1], e.eps)
            gate, up = F.linear(h, *layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, *layer.down)
        self.columns = end
        return F.rms_norm(x, x.shape[-1:], self.backbone.norm.weight, e.eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, the two halves of a head as real and imaginary parts."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _merged(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        _join(attention.q_proj, attention.k_proj, attention.v_proj),
        _join(attention.o_proj),
        _join(mlp.gate_proj, mlp.up_proj),
        _join(mlp.down_proj),
        (layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
    )


def _join(*modules: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Linear layers over the same input as one, each with the active adapter added."""
    weights, biases = zip(*(effective_weight(module) for module in modules), strict=True)
    bias = None if biases[0] is None else torch.cat(biases)
    return (weights[0] if len(weights) == 1 else torch.cat(weights)), bias
