"""What a run needs of memory, and how to need less."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from .session import EngineError


def peak_megabytes(device: torch.device) -> float:
    """The most memory so far: of the GPU where one computes, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def checkpoint_activations(model: Any) -> None:
    """From now on each layer keeps only its input for the backward pass, and computes the rest again.

    Call it after `model.eval()`: layers look whether they are in training, their dropout must not be.
    """
    try:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise EngineError(
            f"This model cannot recompute activations: set gradient_checkpointing off. ({error})"
        ) from error
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module._gradient_checkpointing_func = _without_dropout(module, module._gradient_checkpointing_func)
            module.training = True


def _without_dropout(layer: Any, recompute: Callable[..., Any]) -> Callable[..., Any]:
    """What recomputes a layer, with the layer's flag off while it computes: some (OPT, Falcon) drop out by it."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        def compute(*args: Any) -> Any:
            layer.training = False
            try:
                return function(*args)
            finally:
                layer.training = True

        return recompute(compute, *args)

    return call


@contextmanager
def keeping_cache(model: Any) -> Iterator[None]:
    """Inside, layers that recompute activations read and write a key-value cache, as sampling needs it."""
    recomputing = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer) and m.training]
    for layer in recomputing:
        layer.training = False
    try:
        yield
    finally:
        for layer in recomputing:
            layer.training = True
