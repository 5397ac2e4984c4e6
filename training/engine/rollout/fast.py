"""A faster rollout engine for Llama-shaped models: own forward, merged weights, static cache, slots that are refilled.

transformers' forward spends most of a small model's decoding step in Python and in growing its cache. Here a role's
adapter is merged into copies of the weights once per batch of answers, and a step is a handful of operations per
layer; on a GPU it is a CUDA graph. Rows that ended make room for prompts that wait. Models of other shapes use the
reference engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training.engine.models import RoleModel

from . import Completion, RolloutEngine, Sampling
from .decoder import Decoder, Sizes, head_counts
from .graphs import Graphs, Plain
from .reference import ReferenceEngine, collect
from .slots import Slots

SHAPES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"}
CACHE_SHARE = 0.5  # of the free memory of a GPU; beside it, the step's own tensors
CACHE_ON_CPU = 1 << 30  # bytes
WEIGHTS_SHARE = 0.3  # merged copies of the weights may take this much of a GPU's free memory


def choose_engine(roles: RoleModel) -> RolloutEngine:
    """The fastest engine that knows this model."""
    return FastEngine(roles) if FastEngine.knows(roles) else ReferenceEngine(roles)


class FastEngine:
    """Same answers as the reference engine for the same random numbers, up to rounding.

    `slots` answers are decoded at once at most, without it as many as memory allows.
    """

    def __init__(self, roles: RoleModel, slots: int = 0) -> None:
        self.roles, self._most = roles, slots
        self._graphs = roles.device.type == "cuda"
        self._decoder: Decoder | None = None
        self._run: Graphs | Plain | None = None

    @staticmethod
    def knows(roles: RoleModel) -> bool:
        """Llama-shaped, full attention, and room for a copy of the weights."""
        config = roles.model.config
        fits = roles.device.type == "cpu" or _bytes(roles) < WEIGHTS_SHARE * _free(roles.device)
        return (
            type(roles.model).__name__ in SHAPES
            and config.hidden_act == "silu"
            and not getattr(config, "use_sliding_window", getattr(config, "sliding_window", None))
            and fits
        )

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
    ) -> list[Completion]:
        """One answer per prompt. All random numbers are drawn first: a row's draws do not depend on its neighbours."""
        uniforms = torch.rand(len(prompts), sampling.max_new_tokens, generator=generator)
        decoder, run = self._prepare(prompts, sampling)
        decoder.begin(uniforms)
        slots = Slots(prompts, sampling.max_new_tokens, decoder.sizes.slots, exact=not self._graphs)
        while slots.open:
            if entering := slots.admit():
                decoder.read(prompts, entering)
            elif keep := slots.shrink():
                decoder.keep(keep, slots.width)
            for _ in range(min(run.stride, slots.steps_left)):
                run(slots.live, min(-(-slots.width // run.block) * run.block, decoder.sizes.columns))
                slots.step()
            slots.note(decoder.running(slots.live))
        answers = collect(decoder.tokens[: len(prompts)], decoder.logprobs[: len(prompts)], decoder.ends)
        if not self._graphs:  # the memory is worth more than the time that making buffers takes
            self._decoder = self._run = None
        return answers

    def _prepare(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> tuple[Decoder, Graphs | Plain]:
        """Buffers of the last batch where they fit, as graphs go by addresses; else new ones."""
        kind = Graphs if self._graphs else Plain
        columns = -(-(max(map(len, prompts)) + sampling.max_new_tokens) // kind.block) * kind.block
        wanted = Sizes(self._count_slots(len(prompts), columns), columns, len(prompts))
        found = self._decoder
        if found is None or self._run is None or found.sampling != sampling or not found.sizes.fit(wanted):
            self._decoder = self._run = None  # frees the old buffers first
            self._decoder = Decoder(self.roles, wanted, sampling)
            self._run = kind(self._decoder.step)
        return self._decoder, self._run  # type: ignore[return-value]

    def _count_slots(self, answers: int, columns: int) -> int:
        """As many slots as memory allows, at most one per answer."""
        if self._most:
            return min(self._most, answers)
        config = self.roles.model.config
        _, kv_heads, head_dim = head_counts(config)
        cached = 2 * config.num_hidden_layers * kv_heads * head_dim * columns * self.roles.model.dtype.itemsize
        drawing = 4 * 4 * config.vocab_size  # logits, probabilities and sums in float32
        room = CACHE_SHARE * _free(self.roles.device) if self._graphs else CACHE_ON_CPU
        return max(1, min(answers, int(room / (cached + drawing))))


def _bytes(roles: RoleModel) -> int:
    return sum(p.numel() * p.element_size() for p in roles.backbone.layers.parameters())


def _free(device: torch.device) -> int:
    """Bytes that torch could still take on a GPU."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held
