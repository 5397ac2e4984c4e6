"""The LoRA family on a model: what peft is asked for, an adapter's tensors, and the weights it amounts to.

Variants (`AdapterConfig.variant`), W the frozen weight of a layer and s = alpha / rank:
    lora       W + s B A                      Hu et al. 2021
    rslora     the same, s = alpha / sqrt(rank)        Kalajdzievski 2023
    dora       m * (W + s B A) / |W + s B A|, the norm by output       Liu et al. 2024
    vera       W + b * (B d * A), A and B random, frozen and shared by all layers      Kopiczko et al. 2024
    lora_fa    lora with A frozen, so that no layer keeps its input for the backward pass      Zhang et al. 2023
    lora_plus  lora with a higher learning rate for B      Hayou et al. 2024
    adalora    W + s P diag(E) Q; ranks are taken from layers where they matter least       Zhang et al. 2023
    qlora      lora on a base in 4 bits        Dettmers et al. 2023
    dylora     lora whose first b ranks alone are usable, for every b       Valipour et al. 2023

What is another way to train the same product is saved as plain LoRA, which everything reads: all but dora and vera.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
import transformers
from peft import AdaLoraConfig, LoraConfig, PeftConfig, VeraConfig
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.tuners.vera.layer import VeraLayer
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from rewardmodel.config import (
    ADALORA,
    ALL_LINEAR,
    DORA,
    DYLORA,
    GAUSSIAN,
    LORA,
    LORA_FA,
    LORA_PLUS,
    RSLORA,
    VERA,
    AdapterConfig,
)
from rewardmodel.dylora import Truncation

PREFIX = "base_model.model."  # of the names in a file, as peft writes them
FOREIGN = re.compile(r"\b(lora_|vera_|ranknum)")
"""In the names of tensors that are no part of the base."""
DROPOUT = re.compile(r"\b(lora|vera)_dropout\b")
"""In the names of the adapters' dropout modules."""
Factors = dict[str, tuple[Tensor, Tensor]]
"""Of each layer by its name, A (rank, inputs) and B (outputs, rank) with the scale in it."""
_TENSOR = re.compile(r"(.+)\.(lora_[ABE]|lora_magnitude_vector|vera_lambda_[bd])\.([^.]+)(\.weight)?")


class AdapterMismatch(ValueError):
    """An adapter cannot go on as the variant that is asked for; the message says what to do."""


def peft_config(settings: AdapterConfig, task_type: str | None = None, exclude: str | None = None) -> PeftConfig:
    """What peft is to put on a model. `exclude` is a pattern of names that never get an adapter."""
    names = settings.target_names
    where: dict[str, Any] = {
        "target_modules": names[0] if names == [ALL_LINEAR] else names,
        "task_type": task_type,
    }
    if settings.variant == VERA:
        # The projections are saved: a random generator of another version would silently be another model.
        # Peft cannot exclude layers here; one that is never used stays as it is.
        return VeraConfig(r=settings.rank, vera_dropout=settings.dropout, save_projection=True, **where)
    where |= {"exclude_modules": exclude, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    if settings.variant == ADALORA:
        # The schedule is set by `RankBudget` when the number of steps is known.
        # The weight of orthogonality is the paper's; by peft's, ranks of a planted teacher are found less often.
        ranks = {"init_r": settings.rank, "target_r": settings.target_rank}
        return AdaLoraConfig(**ranks, orth_reg_weight=0.1, total_step=1, **where)
    return LoraConfig(
        r=settings.rank,
        init_lora_weights="gaussian" if settings.init == GAUSSIAN else True,
        use_rslora=settings.variant == RSLORA,
        use_dora=settings.variant == DORA,
        **where,
    )


def check_start(config: PeftConfig, variant: str) -> None:
    """Whether an adapter may be gone on with as `variant`. Raises AdapterMismatch.

    It keeps its form: plain LoRA, DoRA or VeRA. Plain LoRA can also become DoRA or AdaLoRA that computes the same.
    """
    form = VERA if isinstance(config, VeraConfig) else DORA if getattr(config, "use_dora", False) else LORA
    allowed = {VERA: (VERA,), DORA: (DORA, LORA), ADALORA: (LORA,), DYLORA: (LORA,)}.get(variant, (form,))
    if form not in allowed:
        raise AdapterMismatch(
            f"The start is {form} and cannot go on as {variant}: take variant lora, or merge the start into a base of "
            "its own first (python -m training.engine.merge)."
        )


def becomes_another(config: PeftConfig, variant: str) -> bool:
    """Does a start with this config need `converted` and `put_factors` to go on as `variant`?"""
    return variant == ADALORA or (variant == DORA and not getattr(config, "use_dora", False))


def converted(config: LoraConfig, saved: dict[str, Tensor], settings: AdapterConfig) -> tuple[PeftConfig, Factors]:
    """A config of `settings`' variant for the layers of a saved plain adapter, and the update of each layer."""
    factors = {}
    for name in (n.removesuffix(".lora_A.weight") for n in saved if n.endswith(".lora_A.weight")):
        a, b = saved[f"{name}.lora_A.weight"], saved[f"{name}.lora_B.weight"]
        pattern = config.alpha_pattern
        alpha = pattern.get(get_pattern_key(pattern.keys(), plain_name(name)), config.lora_alpha)
        factors[plain_name(name)] = a, b * alpha / (len(a) ** 0.5 if config.use_rslora else len(a))
    ranks = {name: len(a) for name, (a, _) in factors.items()}
    if settings.variant == DORA:
        made = lora_config_of(ranks, config)
        made.use_dora = True
        return made, factors
    rank = max(settings.rank, *ranks.values())
    return peft_config(replace(settings, rank=rank, targets=",".join(sorted(ranks))), config.task_type), factors


@torch.no_grad()
def put_factors(model: nn.Module, adapter: str, factors: Factors) -> None:
    """Let an adapter that `converted` described compute the update it was made of. Raises AdapterMismatch."""
    for name, layer in adapter_layers(model, adapter).items():
        if name not in factors or factors[name][0].shape[1] != layer.in_features:
            raise AdapterMismatch(f"The start does not fit the base model: {name} is missing or differs.")
        a, b = (factor.to(layer.get_base_layer().weight.device) for factor in factors[name])
        if isinstance(layer, AdaLoraLayer):
            _put_svd(layer, adapter, a, b)
        else:
            layer.lora_A[adapter].weight.copy_(a)
            layer.lora_B[adapter].weight.copy_(b)
            dim = 0 if layer.fan_in_fan_out else 1
            weight = dequantize_module_weight(layer.get_base_layer()) + layer.get_delta_weight(adapter)
            layer.lora_magnitude_vector[adapter].weight.copy_(weight.norm(dim=dim))


def _put_svd(layer: Any, adapter: str, a: Tensor, b: Tensor) -> None:
    """The singular vectors and values of B A, found without making the product. Ranks beyond stay free, at zero."""
    (qb, rb), (qa, ra) = torch.linalg.qr(b), torch.linalg.qr(a.T)
    u, values, vh = torch.linalg.svd(rb @ ra.T)
    rank = len(values)
    layer.lora_B[adapter][:, :rank] = qb @ u
    layer.lora_A[adapter][:rank] = vh @ qa.T
    layer.lora_E[adapter][:rank, 0] = values * (layer.ranknum[adapter] + 1e-5) / layer.scaling[adapter]


def is_trained(name: str, settings: AdapterConfig) -> bool:
    """Does this tensor of an adapter learn?"""
    return not (settings.variant == LORA_FA and ".lora_A" in name)


def rate_factor(name: str, settings: AdapterConfig) -> float:
    """What the learning rate of this tensor is multiplied by."""
    return settings.ratio if settings.variant == LORA_PLUS and ".lora_B" in name else 1.0


def adapter_tensors(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """An adapter's own tensors under the names that peft gives them in a file."""
    found = {}
    for name, parameter in model.named_parameters():
        match = _TENSOR.fullmatch(name)
        if match and match[3] == adapter:
            end = "" if match[2] == "lora_magnitude_vector" else match[4] or ""
            found[f"{PREFIX}{plain_name(match[1])}.{match[2]}{end}"] = parameter
    return found


def adapter_layers(model: nn.Module, adapter: str) -> dict[str, BaseTunerLayer]:
    """The layers that carry this adapter, by their names in the bare model."""
    return {
        plain_name(name): module
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer) and adapter in getattr(module, module.adapter_layer_names[0])
    }


def stored_bytes(model: nn.Module, base: str) -> int:
    """Size of a base's weights as they are stored, without the adapters around them."""
    dtype = transformers.AutoConfig.from_pretrained(base).dtype or torch.float32
    numbers = sum(p.numel() for name, p in model.named_parameters() if not FOREIGN.search(name))
    return numbers * torch.empty(0, dtype=dtype).element_size()


def plain_name(name: str) -> str:
    """The name that a module has without any adapter around it."""
    return name.removeprefix(PREFIX).replace(".base_layer", "")


def freeze_untrained(model: nn.Module, adapter: str, settings: AdapterConfig) -> None:
    """Keep the matrices that do not learn frozen whenever peft switches adapters."""
    if settings.variant == LORA_FA:
        for layer in adapter_layers(model, adapter).values():
            known = getattr(layer, "frozen_peft_weight_names", {})
            layer.frozen_peft_weight_names = {**known, adapter: ("lora_A",)}
            layer.lora_A[adapter].requires_grad_(False)


@torch.no_grad()
def effective_weight(module: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the plain layer that computes what this one does now, with the adapter that is active.

    Layers may be nested, where several kinds of adapters share a base; at most one is active. The sum is made in the
    adapter's precision and then rounded to the base's.
    """
    base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    weight: Tensor = dequantize_module_weight(base)
    while isinstance(module, BaseTunerLayer):
        if not module.disable_adapters:
            (adapter,) = module.active_adapters
            return _with_adapter(module, adapter, weight).to(weight.dtype), base.bias
        module = module.base_layer
    return weight, base.bias


def _with_adapter(layer: Any, adapter: str, weight: Tensor) -> Tensor:
    if isinstance(layer, LoraLayer) and not isinstance(layer, AdaLoraLayer):
        variant = layer.lora_variant.get(adapter)
        if isinstance(variant, Truncation):
            return weight + variant.delta_weight(layer, adapter)
        if adapter in layer.lora_magnitude_vector:
            dim = 0 if layer.fan_in_fan_out else 1
            summed = weight + layer.get_delta_weight(adapter)
            magnitude = layer.lora_magnitude_vector[adapter].weight.unsqueeze(dim)
            dora: Tensor = magnitude / summed.norm(dim=dim, keepdim=True) * summed
            return dora
    delta: Tensor = layer.get_delta_weight(adapter)
    return weight + delta


@torch.no_grad()
def as_lora(model: nn.Module, adapter: str, config: PeftConfig) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The same update of every weight as an adapter of peft's plain LoRA (DoRA stays DoRA): config and tensors."""
    if isinstance(config, LoraConfig) and not isinstance(config, AdaLoraConfig):
        return config, {name: tensor.detach().clone() for name, tensor in adapter_tensors(model, adapter).items()}
    tensors, ranks = {}, {}
    for name, layer in adapter_layers(model, adapter).items():
        a, b = _vera_factors(layer, adapter) if isinstance(layer, VeraLayer) else _adalora_factors(layer, adapter)
        tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"] = a, b
        ranks[name] = len(a)
    return lora_config_of(ranks, config), tensors


def lora_config_of(ranks: dict[str, int], like: PeftConfig) -> LoraConfig:
    """Plain LoRA with a rank for each layer, by its name, and no scale."""
    top = max(ranks.values())
    pattern = {name: rank for name, rank in sorted(ranks.items()) if rank != top}
    return LoraConfig(
        r=top,
        lora_alpha=top,
        rank_pattern=pattern,
        alpha_pattern=dict(pattern),
        target_modules=sorted(ranks),
        task_type=like.task_type,
        fan_in_fan_out=getattr(like, "fan_in_fan_out", False),
    )


def _adalora_factors(layer: Any, adapter: str) -> tuple[Tensor, Tensor]:
    """The ranks that are left. A layer that has none keeps one, of zeros, because peft knows no rank 0."""
    values = layer.lora_E[adapter][:, 0]
    kept = values.nonzero()[:, 0]
    kept = kept if len(kept) else torch.zeros(1, dtype=torch.long, device=values.device)
    scale = layer.scaling[adapter] / (layer.ranknum[adapter] + 1e-5)
    return layer.lora_A[adapter][kept].clone(), layer.lora_B[adapter][:, kept] * values[kept] * scale


def _vera_factors(layer: Any, adapter: str) -> tuple[Tensor, Tensor]:
    d, b = layer.vera_lambda_d[adapter], layer.vera_lambda_b[adapter]
    return vera_product(d, b, layer.vera_A[adapter], layer.vera_B[adapter], layer.in_features)


def vera_product(d: Tensor, b: Tensor, a: Tensor, shared_b: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """A (rank, inputs) and B (outputs, rank) of the plain LoRA that a VeRA layer amounts to."""
    return d[:, None] * a[:, :inputs].to(d), b[:, None] * shared_b[: len(b)].to(b)
