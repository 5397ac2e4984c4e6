"""The plain rollout engine: transformers' own forward with its KV cache, one token for all rows at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from training.engine.memory import keeping_cache
from training.engine.models import RoleModel

from . import Completion, Sampling

CHUNK = 64  # tokens


class ReferenceEngine:
    """Batched decoding with left padding. Rows that ended leave the batch once they are half of it.

    `any_open` says whether to go on when own rows are open or not: where processes share the model's weights, each
    has to read along until all are done.
    """

    def __init__(self, roles: RoleModel, any_open: Callable[[bool], bool] = bool) -> None:
        self.roles, self._any_open = roles, any_open

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
    ) -> list[Completion]:
        """One answer per prompt. All random numbers are drawn first: a row's draws do not depend on its neighbours."""
        uniforms = torch.rand(len(prompts), sampling.max_new_tokens, generator=generator)
        with keeping_cache(self.roles.model):
            [(tokens, logprobs)] = deque(self.stream(prompts, sampling, uniforms), maxlen=1)
        return collect(tokens, logprobs, torch.tensor(sampling.end_ids, device=self.roles.device))

    def stream(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, uniforms: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """After each step all tokens drawn so far and their log-probs (rows, steps), until every row has ended.

        What stands behind a row's end means nothing. Other roles may compute between two steps.
        """
        device, count = self.roles.device, len(prompts)
        uniforms = uniforms.to(device)
        ends = torch.tensor(sampling.end_ids, device=device)
        tokens = torch.zeros(count, sampling.max_new_tokens, dtype=torch.long, device=device)
        logprobs = torch.zeros(count, sampling.max_new_tokens, device=device)
        ids, mask = _pad_left(prompts, device)
        rows = torch.arange(count, device=device)  # which prompt each row of the shrinking batch answers
        running = torch.ones(count, dtype=torch.bool, device=device)
        cache = DynamicCache(config=self.roles.model.config)
        for step in range(sampling.max_new_tokens):
            logits = self._forward(ids, mask, cache)
            ids, picked = draw(logits / sampling.temperature, uniforms[rows, step])
            tokens[rows, step], logprobs[rows, step] = ids, picked
            running = running & ~torch.isin(ids, ends)
            yield tokens[:, : step + 1], logprobs[:, : step + 1]
            alive = int(running.sum())
            if not self._any_open(alive > 0):
                break
            if 0 < alive <= len(rows) // 2:
                keep = running.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                ids, mask, rows, running = ids[keep], mask[keep], rows[keep], running[keep]
            ids, mask = ids[:, None], torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)

    def _forward(self, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        """Logits (rows, vocabulary) behind the last column of `ids`."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self.roles.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits


def draw(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse-CDF sampling: logits (rows, vocabulary), uniforms (rows,) -> token ids and their log-probs (rows,).

    In two levels, first the chunk of the vocabulary and then the token in it, because summing up along a row is slow.
    """
    probabilities = logits.softmax(-1)
    vocabulary = logits.shape[-1]
    chunks = F.pad(probabilities, (0, -vocabulary % CHUNK)).view(len(logits), -1, CHUNK)
    sums = chunks.sum(-1).cumsum(-1)
    # The sum is 1 only up to rounding; scaling by it keeps the last tokens from being favoured or unreachable.
    chunk, rest = _find(sums, uniforms * sums[:, -1])
    inside = chunks.gather(1, chunk[:, None, None].expand(-1, 1, CHUNK))[:, 0].cumsum(-1)
    place, _ = _find(inside, rest)
    ids = chunk * CHUNK + place
    return ids, probabilities.gather(-1, ids[:, None])[:, 0].log()


def _find(sums: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """First place in each row of running sums that exceeds the target, and what of the target is left there."""
    # Below the last sum even when rounded: what has no probability is never found.
    targets = torch.minimum(targets, sums[:, -1] * (1 - 2**-22))
    places = torch.searchsorted(sums, targets[:, None], right=True)
    before = torch.where(places > 0, sums.gather(1, (places - 1).clamp(min=0)), 0.0)
    return places[:, 0], targets - before[:, 0]


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask


def collect(tokens: Tensor, logprobs: Tensor, ends: Tensor) -> list[Completion]:
    ended = torch.isin(tokens, ends)
    finished = ended.any(1)
    lengths = torch.where(finished, ended.int().argmax(1) + 1, tokens.shape[1])
    return [
        Completion(row[:n], bool(done), numbers[:n])
        for row, numbers, n, done in zip(
            tokens.tolist(), logprobs.tolist(), lengths.tolist(), finished.tolist(), strict=True
        )
    ]
