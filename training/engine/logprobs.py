"""Log-probabilities and entropies of tokens, never holding tokens x vocabulary at once.

The output head is frozen, so the gradient of a log-probability with respect to its hidden state is one vector,
`(W[target] - p W) / temperature`. It is computed in the forward pass, chunk by chunk, and stored instead of logits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .models import RoleModel

CHUNK = 1 << 22  # logits held at once: 16 MB in float32


class TokenStats(NamedTuple):
    """Per selected token, all (tokens,): its log-probability, and the entropy of the distribution it came from."""

    logprobs: Tensor
    entropy: Tensor


def token_logprobs(roles: RoleModel, ids: Tensor, states: Tensor, temperature: float = 1.0) -> TokenStats:
    """Of the tokens that follow the positions `states` (indices into the flattened rows x time of `ids`)."""
    targets = ids.flatten()[states + 1]
    if not roles.head_is_plain:
        logits = roles.model(input_ids=ids, use_cache=False).logits.flatten(0, 1)[states]
        return _from_logits(logits.float() / temperature, targets)
    hidden = roles.hidden(ids).flatten(0, 1).index_select(0, states)
    if roles.head.weight.requires_grad:  # full fine-tuning: the head learns too
        return _from_logits(roles.head(hidden).float() / temperature, targets)
    head = roles.head
    return TokenStats(*_HeadLogprobs.apply(hidden, head.weight, head.bias, targets, temperature))  # type: ignore[no-untyped-call]


def _from_logits(logits: Tensor, targets: Tensor) -> TokenStats:
    logprobs = logits.log_softmax(-1)
    entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(-1)
    return TokenStats(logprobs.gather(-1, targets[:, None])[:, 0], entropy)


class _HeadLogprobs(torch.autograd.Function):
    """hidden (tokens, hidden), weight (vocabulary, hidden), targets (tokens) -> log-probs and entropy (tokens)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        wants_gradient = ctx.needs_input_grad[0]
        parts = []
        for rows in torch.split(torch.arange(len(hidden), device=hidden.device), max(1, CHUNK // len(weight))):
            logits = F.linear(hidden[rows], weight, bias).float().div_(temperature)
            normalizer = logits.logsumexp(-1)
            target = targets[rows, None]
            logprobs = logits.gather(-1, target)[:, 0] - normalizer
            p = (logits - normalizer[:, None]).exp_()
            entropy = normalizer - (p * logits).sum(-1)
            slope = (weight[targets[rows]] - p.to(weight.dtype) @ weight) / temperature if wants_gradient else p[:, :0]
            parts.append((logprobs, entropy, slope))
        logprobs, entropy, slope = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * gradients[0][:, None].to(slope.dtype), None, None, None, None
