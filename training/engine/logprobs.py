"""Log-probabilities and entropies of tokens, never holding tokens x vocabulary at once.

Where the output head is frozen, the gradient of a log-probability with respect to its hidden state is one vector,
`(W[target] - p W) / temperature`. It is computed in the forward pass, chunk by chunk, and stored instead of logits.
Where it learns, or the model does more behind it (Gemma 2 caps logits), a chunk's logits are made again for gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .models import RoleModel
from .products import times

ROWS = 128  # on a CPU their logits stay in its cache
LOGITS_ON_GPU = 1 << 26  # 256 MB in float32


class TokenStats(NamedTuple):
    """Per selected token, all (tokens,): its log-probability, and the entropy of the distribution it came from.

    The entropy is left out, and NaN, where gradients of the log-probabilities alone are taken.
    """

    logprobs: Tensor
    entropy: Tensor


def token_logprobs(
    roles: RoleModel,
    ids: Tensor,
    states: Tensor,
    temperature: float = 1.0,
    *,
    targets: Tensor | None = None,
    hidden: Tensor | None = None,
    entropy_learns: bool = False,
) -> TokenStats:
    """Of tokens behind the positions `states` (indices into the flattened rows x time of `ids`).

    `targets` are those tokens where they are not the next ones; `hidden` are the states, where they were read already.
    With `entropy_learns` the entropy has a gradient, too.
    """
    targets = ids.flatten()[states + 1] if targets is None else targets
    if hidden is None:
        hidden = roles.hidden(ids).flatten(0, 1).index_select(0, states)
    head = roles.head
    if not roles.head_is_plain or head.weight.requires_grad:

        def part(states: Tensor, tokens: Tensor) -> TokenStats:
            return _from_logits(roles.logits(states).float() / temperature, tokens, entropy_learns)

        rows = zip(*(torch.split(tensor, _rows(head.weight)) for tensor in (hidden, targets)), strict=True)
        parts = [checkpoint(part, *chunk, use_reentrant=False) for chunk in rows]
        return TokenStats(*(torch.cat(column) for column in zip(*parts, strict=True)))
    arguments = (hidden, head.weight, head.bias, targets, temperature, entropy_learns)
    return TokenStats(*_HeadLogprobs.apply(*arguments))  # type: ignore[no-untyped-call]


def _rows(weight: Tensor) -> int:
    """Tokens whose logits are held at once."""
    return ROWS if weight.device.type == "cpu" else max(ROWS, LOGITS_ON_GPU // len(weight))


def _from_logits(logits: Tensor, targets: Tensor, entropy_learns: bool) -> TokenStats:
    logprobs = logits.log_softmax(-1)
    spread = logprobs if entropy_learns else logprobs.detach()
    return TokenStats(logprobs.gather(-1, targets[:, None])[:, 0], -(spread.exp() * spread).sum(-1))


class _HeadLogprobs(torch.autograd.Function):
    """hidden (tokens, hidden), weight (vocabulary, hidden), targets (tokens) -> log-probs and entropy (tokens)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        entropy_learns: bool,
    ) -> tuple[Tensor, Tensor]:
        learns = ctx.needs_input_grad[0]
        parts = []
        for rows in torch.split(torch.arange(len(hidden), device=hidden.device), _rows(weight)):
            logits = times(hidden[rows], weight, bias).float()
            log_p = (logits if temperature == 1 else logits.div_(temperature)).log_softmax(-1)
            logprobs = log_p.gather(-1, targets[rows, None])[:, 0]
            slope = entropy_slope = log_p[:, 0]
            entropy = torch.full_like(logprobs, torch.nan)
            if not learns or entropy_learns:
                entropy = -(log_p.exp() * log_p).sum(-1)
            if learns and entropy_learns:  # dH / d logit = -p (log p + H)
                share = log_p.exp() * (log_p + entropy[:, None])
                entropy_slope = times(share.to(weight.dtype), weight.T) / -temperature
            if learns:
                slope = (weight[targets[rows]] - times(log_p.exp_().to(weight.dtype), weight.T)) / temperature
            parts.append((logprobs, entropy, slope, entropy_slope))
        logprobs, entropy, slope, entropy_slope = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(slope, entropy_slope)
        if not entropy_learns:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slope, entropy_slope = ctx.saved_tensors
        result = slope * gradients[0][:, None].to(slope.dtype)
        if entropy_slope.dim() == 2:
            result += entropy_slope * gradients[1][:, None].to(slope.dtype)
        return result, None, None, None, None, None
