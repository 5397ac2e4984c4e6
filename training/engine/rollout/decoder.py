"""A Llama's own forward pass over buffers that stay where they are: merged weights, key-value cache, drawn tokens.

A slot is one row of the cache; column c of it holds the token at position c, so slots of different lengths need no
padding. A step appends one token to every live slot, wherever its end is, and draws the next one. Nothing in a step
asks the device for a number: who ended is a tensor, and ended slots go on computing what nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewardmodel.adapters import effective_weight
from training.engine.models import RoleModel
from training.engine.products import times

from . import Sampling
from .reference import draw


class Sizes(NamedTuple):
    """What the buffers are made for."""

    slots: int
    columns: int
    answers: int

    def fit(self, wanted: Sizes) -> bool:
        """Large enough for `wanted`, without asking more of a step than it does."""
        return self.slots == wanted.slots and self.columns >= wanted.columns and self.answers >= wanted.answers


class Layer(NamedTuple):
    """Weights of one transformer layer, the active adapter merged: (weight, bias) pairs and norms."""

    qkv: tuple[Tensor, Tensor | None]
    out: tuple[Tensor, Tensor | None]
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]
    norms: tuple[Tensor, Tensor]


class Decoder:
    """Reads prompts into slots and appends tokens to all of them."""

    def __init__(self, roles: RoleModel, sizes: Sizes, sampling: Sampling) -> None:
        config, device = roles.model.config, roles.device
        self.roles, self.sizes, self.sampling = roles, sizes, sampling
        self.heads, self.kv_heads, self.head_dim, self.eps = *head_counts(config), config.rms_norm_eps
        self.layers: list[Layer] = []
        shape = (len(roles.backbone.layers), 2, sizes.slots, self.kv_heads, sizes.columns, self.head_dim)
        self.cache = torch.zeros(shape, dtype=roles.model.dtype, device=device)
        self.columns = torch.arange(sizes.columns, device=device)
        self.cos, self.sin = (table[0] for table in roles.backbone.rotary_emb(self.cache, self.columns[None]))
        self.ends = torch.tensor(sampling.end_ids, device=device)
        # One answer more than there are: where idle slots write.
        table = (sizes.answers + 1, sampling.max_new_tokens)
        self.uniforms, self.logprobs = torch.zeros(2, *table, device=device)
        self.tokens = torch.zeros(table, dtype=torch.long, device=device)
        self.slots = torch.arange(sizes.slots, device=device)
        # Per slot: its newest token, that token's position, its answer, how many tokens of it are drawn.
        self.token, self.position, self.answer, self.drawn = torch.zeros(
            4, sizes.slots, dtype=torch.long, device=device
        )
        self.idle = sizes.answers

    def begin(self, uniforms: Tensor) -> None:
        """A new batch: the role's weights of now, no slot running, these random numbers (answers, length)."""
        layers = self.roles.backbone.layers
        if not self.layers:
            self.layers = [_merged(layer) for layer in layers]
        else:
            for mine, layer in zip(self.layers, layers, strict=True):
                _copy(mine, _merged(layer))
        self.uniforms[: len(uniforms)] = uniforms.to(self.uniforms.device)
        self.tokens.zero_()
        self.answer.fill_(self.idle)

    def read(self, prompts: Sequence[Sequence[int]], entering: Sequence[tuple[int, int]]) -> None:
        """Put answers to prompts into slots, given as pairs (slot, answer), and draw their first tokens."""
        device = self.cache.device
        distinct = {tuple(prompts[answer]): 0 for _, answer in entering}
        distinct = {prompt: number for number, prompt in enumerate(distinct)}
        width = max(map(len, distinct))
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in distinct], device=device)
        lengths = torch.tensor([len(prompt) for prompt in distinct], device=device)
        slots, answers = torch.tensor(entering, device=device).T
        which = torch.tensor([distinct[tuple(prompts[answer])] for _, answer in entering], device=device)
        hidden = self._read(ids, slots, which)
        self.position[slots] = lengths[which] - 1
        self.answer[slots], self.drawn[slots] = answers, 0
        last = hidden[torch.arange(len(ids), device=device), lengths - 1]
        self._draw(self._logits(last)[which], slots)

    def step(self, live: int, width: int) -> None:
        """Append the newest tokens of the first `live` slots, none of them behind column `width`, and draw."""
        self.position[:live] = (self.position[:live] + 1).clamp(max=self.sizes.columns - 1)
        self._draw(self._logits(self._append(live, width)), slice(live))

    def running(self, live: int) -> list[bool]:
        """Which of the first `live` slots have an answer to go on with. Waits for the device."""
        found: list[bool] = (self.answer[:live] != self.idle).tolist()
        return found

    def keep(self, slots: Sequence[int], width: int) -> None:
        """Move these slots to the front."""
        kept = torch.tensor(slots, device=self.cache.device)
        self.cache[:, :, : len(slots), :, :width] = self.cache[:, :, kept, :, :width]
        for state in (self.token, self.position, self.answer, self.drawn):
            state[: len(slots)] = state[kept]
        self.answer[len(slots) :] = self.idle

    def _draw(self, logits: Tensor, slots: Tensor | slice) -> None:
        """Draw from logits (slots, vocabulary); who draws an end token or the last one allowed becomes idle."""
        answer, drawn = self.answer[slots], self.drawn[slots]
        ids, logprobs = draw(logits, self.uniforms[answer, drawn])
        self.tokens[answer, drawn], self.logprobs[answer, drawn] = ids, logprobs
        self.token[slots] = ids
        ended = (ids[:, None] == self.ends).any(1) | (drawn + 1 == self.sampling.max_new_tokens)
        still = torch.where(ended, self.idle, answer)
        self.drawn[slots] = torch.where(still == self.idle, 0, drawn + 1)
        self.answer[slots] = still

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.roles.head
        normed = F.rms_norm(hidden, hidden.shape[-1:], self.roles.backbone.norm.weight, self.eps)
        return times(normed, head.weight, head.bias).float() / self.sampling.temperature

    def _append(self, live: int, width: int) -> Tensor:
        """Hidden states (slots, hidden) of the newest tokens."""
        slots, position = self.slots[:live], self.position[:live]
        cos, sin = self.cos[position, None], self.sin[position, None]
        bias = torch.where(self.columns[:width] <= position[:, None], 0.0, -torch.inf).to(self.cache.dtype)
        bias = bias[:, None, None]
        group = (live * self.kv_heads, self.heads // self.kv_heads)  # the queries that share keys are read together
        x: Tensor = self.roles.backbone.embed_tokens(self.token[:live])
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            q, k, v = self._project(layer, x, cos, sin)
            keys[slots, :, position], values[slots, :, position] = k, v
            seen, told = (cached[:live, :, :width].flatten(0, 1) for cached in (keys, values))
            scores = torch.bmm(q.reshape(*group, -1), seen.transpose(1, 2)) * self.head_dim**-0.5
            weights = (scores.view(live, self.kv_heads, -1, width) + bias).softmax(-1, dtype=torch.float32)
            heads = torch.bmm(weights.to(told.dtype).view(*group, width), told)
            x = self._finish(layer, x, heads.view(live, -1))
        return x

    def _read(self, ids: Tensor, slots: Tensor, which: Tensor) -> Tensor:
        """Hidden states (rows, time, hidden) of rows padded on the right; row which[i] is cached in slots[i].

        What is cached behind a row's end is overwritten before anything looks at it.
        """
        width = ids.shape[1]
        cos, sin = self.cos[:width, None], self.sin[:width, None]
        x: Tensor = self.roles.backbone.embed_tokens(ids)
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            q, k, v = (part.transpose(1, 2) for part in self._project(layer, x, cos, sin))
            keys[slots, :, :width], values[slots, :, :width] = k[which], v[which]
            grouped = self.heads != self.kv_heads
            heads = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
            x = self._finish(layer, x, heads.transpose(1, 2).flatten(2))
        return x

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (..., heads, dim) of tokens at the positions of `cos` and `sin`."""
        normed = F.rms_norm(x, x.shape[-1:], layer.norms[0], self.eps)
        qkv = times(normed, *layer.qkv).view(*x.shape[:-1], -1, self.head_dim)
        turned, v = qkv.tensor_split([self.heads + self.kv_heads], dim=-2)
        q, k = _rotate(turned, cos, sin).tensor_split([self.heads], dim=-2)
        return q, k, v

    def _finish(self, layer: Layer, x: Tensor, heads: Tensor) -> Tensor:
        x = x + times(heads, *layer.out)
        normed = F.rms_norm(x, x.shape[-1:], layer.norms[1], self.eps)
        gate, up = times(normed, *layer.gate_up).chunk(2, dim=-1)
        return x + times(F.silu(gate) * up, *layer.down)


def head_counts(config: Any) -> tuple[int, int, int]:
    """Query heads, key-value heads, and their size."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    return heads, kv_heads, getattr(config, "head_dim", None) or config.hidden_size // heads


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
    """Linear layers over the same input as one, each with the active adapter added. Always a copy."""
    weights, biases = zip(*(effective_weight(module) for module in modules), strict=True)
    return torch.cat(weights), None if biases[0] is None else torch.cat(biases)


def _copy(target: Layer, source: Layer) -> None:
    for mine, new in zip(target, source, strict=True):
        for tensor, value in zip(mine, new, strict=True):
            if tensor is not None and value is not None:
                tensor.copy_(value)
