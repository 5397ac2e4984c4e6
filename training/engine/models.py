"""One frozen base model, many roles: policy, reference, value and reward are LoRA adapters on the same weights.

A role is a name for an adapter, or for the bare base. `use` switches roles and keeps peft from changing which
parameters learn (its `set_adapter` flips `requires_grad`). Adapters and heads are float32 whatever the base is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .artifacts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_tensors, write_json, write_tensors
from .lora import use_fast_forward
from .session import EngineError, Session

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class RoleModel:
    """A causal language model whose weights are shared by all roles. `use` one of them before computing."""

    def __init__(self, model: Any, tokenizer: Any, name: str = "") -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.backbone, self.head = model.get_decoder(), model.get_output_embeddings()
        self.head_is_plain = self._probe_head()
        self._peft: PeftModel | None = None
        self._adapters: dict[str, str | None] = {"base": None}  # role -> adapter
        self._layers: list[BaseTunerLayer] = []
        self._parameters: dict[str, list[nn.Parameter]] = {}  # adapter -> its matrices
        self._learns: set[str] = set()
        self._active: str | None = None

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def context(self) -> int | None:
        """Most positions the model can read, where it says so."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    # Roles

    def add_fresh(self, role: str, *, rank: int, alpha: float, dropout: float = 0.0) -> None:
        """A new adapter that changes nothing yet: B is zero."""
        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        self._add(role, config)

    def add_saved(self, role: str, folder: Path) -> None:
        """The adapter in `folder`, as peft writes it."""
        config = _read_lora_config(folder)
        self._add(role, config)
        saved = read_tensors(folder / ADAPTER_WEIGHTS)
        self.load_state(role, _match_names(saved, self.state(role), folder))

    def add_copy(self, role: str, source: str) -> None:
        """An adapter of its own, with the weights that `source` has now."""
        self._add(role, LoraConfig(**_portable(self._config(source))))
        self.load_state(role, self.state(source))

    def add_alias(self, role: str, source: str) -> None:
        """Another name for an adapter, or for "base"."""
        self._adapters[role] = self._adapters[source]

    def learn(self, *roles: str) -> None:
        """Exactly these roles' adapters get gradients, from now on and whatever is active."""
        self._learns = {adapter for role in roles if (adapter := self._adapters[role]) is not None}
        self._set_gradients()

    def use(self, role: str) -> None:
        """Compute as `role` from now on."""
        adapter = self._adapters[role]
        if adapter == self._active:
            return
        for layer in self._layers:
            layer.enable_adapters(adapter is not None)
            if adapter is not None:
                layer.set_adapter(adapter)
        self._active = adapter
        self._set_gradients()

    def train_dropout(self, on: bool) -> None:
        """LoRA dropout on or off; the base's own dropout is always off."""
        for layer in self._layers:
            layer.lora_dropout.train(on)

    # Computing

    def hidden(self, ids: Tensor) -> Tensor:
        """Last hidden states (rows, time, hidden) of rows padded on the right.

        No mask: attention is causal, so what follows a token cannot change it.
        """
        states: Tensor = self.backbone(input_ids=ids, use_cache=False).last_hidden_state
        return states

    # Weights

    def parameters(self, role: str) -> list[nn.Parameter]:
        adapter = self._adapters[role]
        return [] if adapter is None else self._parameters[adapter]

    def state(self, role: str) -> dict[str, Tensor]:
        """The adapter's tensors under peft's names."""
        state: dict[str, Tensor] = get_peft_model_state_dict(self._peft, adapter_name=self._adapters[role])
        return {name: tensor.detach().clone() for name, tensor in state.items()}

    def load_state(self, role: str, state: dict[str, Tensor]) -> None:
        set_peft_model_state_dict(self._peft, state, adapter_name=self._adapters[role])

    def save(self, role: str, folder: Path) -> None:
        """Write the adapter in peft's format, the same bytes for the same weights."""
        config = _portable(self._config(role)) | {"base_model_name_or_path": self.name, "inference_mode": True}
        write_json(folder / ADAPTER_CONFIG, config)
        write_tensors(folder / ADAPTER_WEIGHTS, self.state(role))

    def base_checksum(self) -> str:
        """SHA-256 over every weight of the base; no run may change it."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            if ".lora_" not in name:
                digest.update(name.replace(".base_layer", "").encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _add(self, role: str, config: LoraConfig) -> None:
        try:
            if self._peft is None:
                self._peft = get_peft_model(self.model, config, adapter_name=role)
            else:
                self._peft.add_adapter(role, config)
        except ValueError as error:
            raise EngineError(f"The adapter does not fit the base model {self.name}: {error}") from error
        self._adapters[role] = role
        self._layers = [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]
        for layer in self._layers:
            layer.lora_dropout.eval()
        self._parameters[role] = [p for n, p in self.model.named_parameters() if ".lora_" in n and f".{role}." in n]
        use_fast_forward(self.model)
        self._active = "nothing, so that use() switches"
        self.use(role)

    def _config(self, role: str) -> LoraConfig:
        if self._peft is None or self._adapters[role] is None:
            raise KeyError(f"role {role} has no adapter")
        return self._peft.peft_config[self._adapters[role]]

    def _set_gradients(self) -> None:
        for adapter, parameters in self._parameters.items():
            for parameter in parameters:
                parameter.requires_grad_(adapter in self._learns)

    @torch.no_grad()
    def _probe_head(self) -> bool:
        """Are logits just head(hidden)? Some models scale or cap them; those take a slower path."""
        if not isinstance(self.head, nn.Linear):
            return False
        ids = torch.arange(8, device=self.device)[None] % self.head.out_features
        expected = self.model(input_ids=ids).logits.float()
        return torch.allclose(self.head(self.hidden(ids)).float(), expected, atol=1e-3, rtol=1e-3)


def load_base(session: Session, *, trainable: bool = False) -> RoleModel:
    """The session's base model and tokenizer. `trainable` models are float32: small updates vanish in bfloat16."""
    name = session.config.base
    if not name:
        raise EngineError("No base model is given: set base to a local path or a hub name.")
    dtype = torch.float32 if trainable else session.dtype
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=dtype, use_safetensors=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EngineError(_missing(name, error)) from error
    return RoleModel(model.to(session.device), tokenizer, name)


def load_start(session: Session, role: str, settings: Any) -> RoleModel:
    """The base with `role` on it: the session's adapter, or a fresh one by `settings` (lora_rank and so on)."""
    roles = load_base(session)
    if session.config.adapter:
        roles.add_saved(role, adapter_folder(session.config.adapter))
    else:
        roles.add_fresh(role, rank=settings.lora_rank, alpha=settings.lora_alpha, dropout=settings.lora_dropout)
    return roles


def adapter_folder(path: str) -> Path:
    """The folder, after checking that an adapter is in it."""
    folder = Path(path)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise EngineError(f"{path} is not a LoRA adapter: {name} is missing.")
    return folder


def _missing(name: str, error: Exception) -> str:
    local = Path(name).is_absolute() or name.startswith(".")
    if local and not Path(name).exists():
        return f"The base model {name} does not exist."
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"The base model {name} cannot be loaded: {lines[0]}"


def _read_lora_config(folder: Path) -> LoraConfig:
    try:
        values = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        config = LoraConfig.from_peft_type(**values)
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(f"The adapter {folder} cannot be read: {error}") from error
    if not isinstance(config, LoraConfig):
        raise EngineError(f"The adapter {folder} is not a LoRA adapter.")
    config.inference_mode = False
    return config


def _portable(config: LoraConfig) -> dict[str, Any]:
    """The fields that are not defaults, in JSON's types and without unordered sets."""
    default, values = LoraConfig().to_dict(), config.to_dict()
    changed = {k: v for k, v in values.items() if k in ("peft_type", "r", "lora_alpha") or v != default[k]}
    return {k: sorted(v) if isinstance(v, set | list) else v for k, v in changed.items() if k != "inference_mode"}


def _match_names(saved: dict[str, Tensor], wanted: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
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
