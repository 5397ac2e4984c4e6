"""Adapters as files: peft's format read, matched to a base, written; VeRA read as the plain LoRA that it amounts to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, VeraConfig
from torch import Tensor, nn

from rewardmodel.adapters import effective_weight, lora_config_of, plain_name, vera_product
from rewardmodel.config import DYLORA

from .artifacts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_card
from .session import EngineError


def adapter_folder(path: str) -> Path:
    """The folder, after checking that an adapter is in it."""
    folder = Path(path)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise EngineError(f"{path} is not a LoRA adapter: {name} is missing.")
    return folder


def check_rank(folder: Path, rank: int) -> None:
    """Whether an adapter can be cut to its first `rank` ranks. Raises EngineError."""
    settings = read_card(folder).get("config", {})
    if settings.get("lora_variant") != DYLORA:
        raise EngineError(f"{folder} was not trained as DyLoRA: only all of its ranks together can be used.")
    high = read_adapter_config(folder).r
    low = min(settings["lora_smallest_rank"], high)  # a start that was gone on with kept its own rank
    if not low <= rank <= high:
        raise EngineError(f"Of {folder}, {low} to {high} ranks can be used, not {rank}.")


def base_of(folder: Path) -> str:
    """The base that an adapter says it belongs to."""
    return str(read_adapter_config(folder).base_model_name_or_path or "")


def read_adapter_config(folder: Path) -> Any:
    """Peft's config of a saved LoRA, DoRA or VeRA adapter, to be trained on. Raises EngineError."""
    try:
        values = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        config = LoraConfig.from_peft_type(**values)
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(f"The adapter {folder} cannot be read: {error}") from error
    if type(config) not in (LoraConfig, VeraConfig):
        raise EngineError(f"The adapter {folder} is neither LoRA, DoRA nor VeRA.")
    config.inference_mode = False
    return config


def portable(config: PeftConfig) -> dict[str, Any]:
    """The fields that are not defaults, in JSON's types and without unordered sets."""
    default, values = type(config)().to_dict(), config.to_dict()
    changed = {k: v for k, v in values.items() if k in ("peft_type", "r", "lora_alpha") or v != default[k]}
    return {k: sorted(v) if isinstance(v, set | list) else v for k, v in changed.items() if k != "inference_mode"}


def match_names(saved: dict[str, Tensor], wanted: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Saved tensors under the names wanted here: an adapter trained on a bare backbone lacks a prefix of ours."""
    by_name = {name.removeprefix("base_model.model."): tensor for name, tensor in saved.items()}
    matched = {}
    for name, tensor in wanted.items():
        short = name.removeprefix("base_model.model.")
        found = by_name.get(short, by_name.get(short.partition(".")[2]))
        if found is None or found.shape != tensor.shape:
            raise EngineError(f"The adapter {folder} does not fit the base model: {short} is missing or differs.")
        matched[name] = found
    if len(matched) != len(saved):
        raise EngineError(
            f"The adapter {folder} has {len(saved) - len(matched)} tensors with no place in the base model."
        )
    return matched


def vera_as_lora(
    model: nn.Module, config: VeraConfig, saved: dict[str, Tensor], folder: Path
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Config and tensors of plain LoRA with the same product, for this model."""
    modules = {plain_name(name): module for name, module in model.named_modules()}
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for name in (n.removesuffix(".vera_lambda_d") for n in saved if n.endswith(".vera_lambda_d")):
        module = modules.get(plain_name(name))
        if module is None:
            raise EngineError(f"The adapter {folder} does not fit the base model: there is no {plain_name(name)}.")
        inputs = effective_weight(module)[0].shape[0 if config.fan_in_fan_out else 1]
        d, b = saved[f"{name}.vera_lambda_d"], saved[f"{name}.vera_lambda_b"]
        a, b = vera_product(d, b, saved["base_model.vera_A"], saved["base_model.vera_B"], inputs)
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        ranks[plain_name(name)] = len(a)
    return lora_config_of(ranks, config), tensors
