"""What a reward model stands on: a causal language model or an encoder, its tokenizer, and a LoRA adapter."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import transformers
from peft import PeftConfig, PeftModel, get_peft_model, load_peft_weights
from transformers.models.auto import modeling_auto

from rewardmodel.adapters import AdapterMismatch, becomes_another, check_start, converted, peft_config, put_factors
from rewardmodel.config import LORA, QLORA, AdapterConfig


class RewardModelError(ValueError):
    """This base, adapter or folder cannot be a reward model; the message is one sentence that says why."""


def load_base(base: str, dtype: torch.dtype, **options: Any) -> tuple[Any, Any, str]:
    """Model, tokenizer and pooling of a base; options as of `quantization`. Never runs code that comes with a model."""
    if not base:
        raise RewardModelError("No base model is given: set base to a local path or a hub name.")
    try:
        config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False)
        if config.is_encoder_decoder:
            raise RewardModelError(f"{base} is an encoder-decoder; take a causal language model or an encoder.")
        # Families that know masked language modelling read both ways, whatever else they can be built as.
        names, masked = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        causal = config.model_type in names and config.model_type not in masked
        auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
        model = auto.from_pretrained(base, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if isinstance(error, RewardModelError):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RewardModelError(f"The base model {base} cannot be loaded: {first}") from error
    return model, tokenizer, "last" if causal else "mean"


def with_fresh_adapter(model: Any, pooling: str, settings: AdapterConfig) -> PeftModel:
    """The model with a new adapter on the layers that are used. Raises RewardModelError."""
    unused = r"(.*\.)?pooler(\..*)?" if getattr(model, "pooler", None) is not None else None
    task = "CAUSAL_LM" if pooling == "last" else "FEATURE_EXTRACTION"
    try:
        return get_peft_model(model, peft_config(settings, task, unused))
    except ValueError as error:
        raise RewardModelError(f"The adapter does not fit the base model: {error}") from error


def with_saved_adapter(model: Any, folder: str, *, trainable: bool, lora: AdapterConfig | None = None) -> Any:
    """The model with the adapter on it, to be trained as `lora`; merged into it where it is not to be trained."""
    variant = lora.variant if lora else LORA
    try:
        config = PeftConfig.from_pretrained(folder)
        check_start(config, variant)
        if lora and becomes_another(config, variant):
            made, factors = converted(config, load_peft_weights(folder, device="cpu"), lora)
            adapted = get_peft_model(model, made)
            put_factors(adapted, "default", factors)
            return adapted
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except AdapterMismatch as error:
        raise RewardModelError(str(error)) from error
    except Exception as error:  # peft, safetensors and torch each raise their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RewardModelError(f"The adapter {folder} does not fit the base model: {first}") from error
    return adapted if trainable else adapted.merge_and_unload()


def quantization(variant: str, device: torch.device | str) -> dict[str, Any]:
    """Options of `from_pretrained` for a base in 4 bits, where the variant asks for one. Raises RewardModelError."""
    if variant != QLORA:
        return {}
    if torch.device(device).type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise RewardModelError("qlora needs a CUDA device and the package bitsandbytes: take another lora_variant.")
    four_bits = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": four_bits, "device_map": {"": device}}


def hidden_size(model: Any) -> int:
    """Width of the hidden states."""
    return int(model.config.get_text_config().hidden_size)


def context(model: Any, tokenizer: Any) -> int:
    """Most tokens that the model can read. Tokenizers without a limit say a huge number."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    return min(int(positions), int(tokenizer.model_max_length))
