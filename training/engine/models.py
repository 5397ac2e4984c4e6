"""One frozen base model, many roles: policy, reference, value and reward are LoRA adapters on the same weights.

A role is a name for an adapter, or for the bare base. `use` switches roles and keeps peft from changing which
parameters learn (its `set_adapter` flips `requires_grad`). Adapters and heads are float32 whatever the base is.
Only what is trained may be of another form than plain LoRA or DoRA (AdaLoRA, VeRA: layers of peft around or within
those of LoRA); copies, and saved adapters that are read, are plain LoRA with the same product.
A role may also have a whole model of its own.
"""

from __future__ import annotations

import copy
import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftConfig, PeftModel, VeraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers.modeling_outputs import BaseModelOutputWithPast

from rewardmodel.adapters import (
    FOREIGN,
    AdapterMismatch,
    adapter_layers,
    adapter_tensors,
    as_lora,
    becomes_another,
    check_start,
    converted,
    is_trained,
    peft_config,
    plain_name,
    put_factors,
    rate_factor,
    stored_bytes,
)
from rewardmodel.bases import RewardModelError, quantization
from rewardmodel.config import ADALORA, DYLORA, AdapterConfig
from rewardmodel.dylora import Truncation, make_truncatable, truncate
from rewardmodel.tuning import AdapterAdamW, RankBudget

from .adapter_files import adapter_folder as adapter_folder
from .adapter_files import check_rank, match_names, portable, read_adapter_config, vera_as_lora
from .artifacts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_tensors, write_json, write_tensors
from .lora import use_fast_forward
from .memory import checkpoint_activations
from .parallel import shard
from .session import EngineError, Session

WHOLE_FROM_ADAPTER = "Rank 0 trains the whole base model: leave adapter empty, or set a rank."
EPSILON = 1e-5  # of AdamW, as the RLHF reproductions run it

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class RoleModel:
    """A causal language model whose weights are shared by all roles. `use` one of them before computing."""

    def __init__(self, model: Any, tokenizer: Any, name: str = "") -> None:
        self._base, self.tokenizer, self.name = model.eval(), tokenizer, name
        self._wholes: dict[str, Any] = {}  # models of roles with weights of their own
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self._compute_with(model)
        self.head_is_plain = self._probe_head()
        self._tuners: dict[str, PeftModel] = {}  # by kind of adapter, all around the same model
        self._adapters: dict[str, str | None] = {"base": None}  # role -> adapter
        self._settings: dict[str, AdapterConfig] = {}  # adapter -> how it is trained
        self._configs: dict[str, PeftConfig] = {}
        self._tensors: dict[str, dict[str, nn.Parameter]] = {}
        self._truncations: dict[str, Truncation] = {}
        self._layers: list[BaseTunerLayer] = []
        self._learns: set[str] = set()
        self._active: str | None = None

    @property
    def device(self) -> torch.device:
        return torch.device(self._base.device)

    @property
    def hidden_size(self) -> int:
        return int(self._base.config.get_text_config().hidden_size)

    @property
    def context(self) -> int | None:
        """Most positions the model can read, where it says so."""
        return getattr(self._base.config.get_text_config(), "max_position_embeddings", None)

    # Roles

    def add_fresh(self, role: str, **settings: Any) -> None:
        """A new adapter that changes nothing yet; settings as of `AdapterConfig`."""
        how = AdapterConfig(**settings)
        self._add(role, peft_config(how, "CAUSAL_LM"), how)

    def add_whole(self, role: str) -> None:
        """A role with weights of its own, all of them, that start as the base's; float32, as small updates need it."""
        if self._tuners:
            raise ValueError("roles with weights of their own come before adapters")
        self._wholes[role] = copy.deepcopy(self._base).float()
        self._adapters[role], self._settings[role] = role, AdapterConfig()
        self._tensors[role] = dict(self._wholes[role].named_parameters())
        self.use(role)

    def add_start(self, role: str, folder: Path, **settings: Any) -> None:
        """The adapter in `folder`, to be trained on. Raises EngineError if it cannot be as the settings ask."""
        how, config = AdapterConfig(**settings), read_adapter_config(folder)
        saved = read_tensors(folder / ADAPTER_WEIGHTS)
        try:
            check_start(config, how.variant)
            if becomes_another(config, how.variant):
                config, factors = converted(config, saved, how)
                self._add(role, config, how)
                return put_factors(self._base, role, factors)
        except AdapterMismatch as error:
            raise EngineError(str(error)) from error
        if how.variant == DYLORA:
            how = replace(how, rank=config.r, smallest_rank=min(how.smallest_rank, config.r))
        self._add(role, config, how)
        for name, shared in self._projections(role).items():
            shared.copy_(saved.pop(name))
        self._load(role, saved, folder)

    def add_saved(self, role: str, folder: Path, rank: int = 0) -> None:
        """The adapter in `folder`, as peft writes it. Of one that was trained as DyLoRA, the first `rank` ranks."""
        config, saved = read_adapter_config(folder), read_tensors(folder / ADAPTER_WEIGHTS)
        if isinstance(config, VeraConfig):
            config, saved = vera_as_lora(self._base, config, saved, folder)
        if rank:
            check_rank(folder, rank)
            share = rank / config.r  # the scale stays what it was
            config.lora_alpha, config.r = config.lora_alpha * (share**0.5 if config.use_rslora else share), rank
            saved = truncate(saved, rank)
        self._add(role, config, AdapterConfig())
        self._load(role, saved, folder)

    def add_copy(self, role: str, source: str) -> None:
        """An adapter of its own that computes what `source` does now."""
        config, tensors = as_lora(self._base, *self._config(source))
        self._add(role, LoraConfig(**portable(config)), AdapterConfig())
        self.load_state(role, tensors)

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
        self._compute_with(self._wholes.get(adapter or "", self._base))
        for layer in self._layers:
            here = adapter in getattr(layer, layer.adapter_layer_names[0])
            layer.enable_adapters(here)
            if here:
                layer.set_adapter(adapter)
        self._active = adapter
        self._set_gradients()

    def train_dropout(self, on: bool) -> None:
        """Dropout of the adapters on or off; the base's own dropout is always off."""
        for module in self._dropouts():
            module.train(on)

    def usable_ranks(self, role: str) -> list[int]:
        """Of a role that is trained as DyLoRA: its ranks by doubling, from the smallest; else nothing."""
        truncation = self._truncations.get(self._adapters[role] or "")
        return truncation.usable_ranks() if truncation else []

    def cut(self, role: str, rank: int) -> AbstractContextManager[None]:
        """Within it, a role that is trained as DyLoRA computes with its first ranks only."""
        return self._truncations[role].cut(rank)

    def truncated(self, role: str, seed: int, step: int) -> AbstractContextManager[None]:
        """Within it, a role that is trained as DyLoRA computes and learns with a rank drawn for this step."""
        truncation = self._truncations.get(self._adapters[role] or "")
        return truncation.drawn(seed, step) if truncation else nullcontext()

    # Computing

    def hidden(self, ids: Tensor, **layout: Tensor) -> Tensor:
        """Last hidden states (rows, time, hidden) of rows padded on the right.

        No mask: attention is causal, so what follows a token cannot change it. Rows that hold several answers come
        with their `layout`: `position_ids` and `attention_mask`.
        """
        states: Tensor = self.backbone(input_ids=ids, use_cache=False, **layout).last_hidden_state
        return states

    def logits(self, states: Tensor) -> Tensor:
        """What the model makes of last states (tokens, hidden): its head, and whatever it does behind that."""
        if self.head_is_plain:
            logits: Tensor = self.head(states)
            return logits
        result, backbone = BaseModelOutputWithPast(last_hidden_state=states[None]), self.backbone
        forward, backbone.forward = backbone.forward, lambda **_: result
        try:
            logits = self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device)).logits[0]
        finally:
            backbone.forward = forward
        return logits

    # Weights

    def parameters(self, role: str) -> list[nn.Parameter]:
        """What is trained of the role's adapter."""
        return [parameter for _, parameter in self._trained(self._adapters[role])]

    def layers(self, role: str) -> dict[str, BaseTunerLayer]:
        """The layers that carry the role's adapter, by their names in the bare model."""
        return adapter_layers(self._base, self._config(role)[0])

    def optimizer(
        self, role: str, learning_rate: float, total_steps: int, weight_decay: float = 0.0
    ) -> torch.optim.Optimizer:
        """AdamW on the role's adapter with what its variant asks for. `total_steps` is how often it will step."""
        adapter = self._adapter(role)
        settings = self._settings[adapter]
        by_factor: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self._trained(adapter):
            by_factor.setdefault(rate_factor(name, settings), []).append(parameter)
        groups = [
            {"params": parameters, "factor": factor, "lr": factor * learning_rate}
            for factor, parameters in by_factor.items()
        ]
        budget = None
        if settings.variant == ADALORA:
            try:
                budget = RankBudget(self._tuner(adapter), adapter, total_steps)
            except ValueError as error:
                raise EngineError(str(error)) from error
        return AdapterAdamW(groups, budget=budget, eps=EPSILON, weight_decay=weight_decay)

    def state(self, role: str) -> dict[str, Tensor]:
        """The role's own tensors, of adapters under the names that peft gives them in a file."""
        return {name: tensor.detach().clone() for name, tensor in self._tensors[self._adapter(role)].items()}

    @torch.no_grad()
    def load_state(self, role: str, state: dict[str, Tensor]) -> None:
        for name, tensor in self._tensors[self._adapter(role)].items():
            tensor.copy_(state[name])

    def save(self, role: str, folder: Path) -> None:
        """Write the adapter in peft's format (VeRA, LoRA or DoRA), or the whole model of a role with its own weights.

        The same weights give the same bytes.
        """
        if role in self._wholes:
            self._wholes[role].save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            return
        adapter, config = self._config(role)
        if isinstance(config, VeraConfig):
            tensors = self.state(role) | self._projections(role)
        else:
            config, tensors = as_lora(self._base, adapter, config)
        facts = portable(config) | {"base_model_name_or_path": self.name, "inference_mode": True}
        write_json(folder / ADAPTER_CONFIG, facts)
        write_tensors(folder / ADAPTER_WEIGHTS, tensors)

    def base_bytes(self) -> int:
        """Size of the base's weights as they are stored, whatever precision they are loaded in."""
        return stored_bytes(self._base, self.name)

    def base_checksum(self) -> str:
        """SHA-256 over every weight of the base; no run may change it."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._base.state_dict().items()):
            if not FOREIGN.search(name):
                digest.update(plain_name(name).encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _add(self, role: str, config: PeftConfig, settings: AdapterConfig) -> None:
        kind = str(config.peft_type)
        if getattr(config, "use_dora", False) and isinstance(self.backbone, FSDPModule):
            raise EngineError(f"The adapter {role} is DoRA, which reads whole weights: set shard_base off.")
        vars(self._base).pop("peft_config", None)  # peft would take the adapters of one kind for another's
        try:
            if kind in self._tuners:
                self._tuners[kind].add_adapter(role, config)
            else:
                self._tuners[kind] = get_peft_model(self._base, config, adapter_name=role)
        except ValueError as error:
            raise EngineError(f"The adapter does not fit the base model {self.name}: {error}") from error
        ends = self._base.get_output_embeddings(), self._base.get_input_embeddings()
        if any(isinstance(end, BaseTunerLayer) for end in ends):
            raise EngineError("Adapters belong on the layers between embedding and output: change lora_targets.")
        self._adapters[role], self._settings[role], self._configs[role] = role, settings, config
        self._tensors |= {adapter: adapter_tensors(self._base, adapter) for adapter in self._configs}
        self._layers = [module for module in self._base.modules() if isinstance(module, BaseTunerLayer)]
        self.train_dropout(False)
        if settings.variant == DYLORA:
            layers = adapter_layers(self._base, role).values()
            self._truncations[role] = make_truncatable(layers, role, settings)
        if not isinstance(self.backbone, FSDPModule):  # it keeps weights, which are to be forgotten there
            use_fast_forward(self._base)
        self._active = "nothing, so that use() switches"
        self.use(role)

    def _load(self, role: str, saved: dict[str, Tensor], folder: Path) -> None:
        self.load_state(role, match_names(saved, self.state(role), folder))

    def _compute_with(self, model: Any) -> None:
        self.model, self.backbone, self.head = model, model.get_decoder(), model.get_output_embeddings()

    def _adapter(self, role: str) -> str:
        adapter = self._adapters[role]
        if adapter is None:
            raise KeyError(f"role {role} has no weights of its own")
        return adapter

    def _config(self, role: str) -> tuple[str, PeftConfig]:
        adapter = self._adapter(role)
        return adapter, self._configs[adapter]

    def _tuner(self, adapter: str) -> Any:
        return self._tuners[str(self._configs[adapter].peft_type)].base_model

    def _trained(self, adapter: str | None) -> list[tuple[str, nn.Parameter]]:
        if adapter is None:
            return []
        settings = self._settings[adapter]
        return [(name, p) for name, p in self._tensors[adapter].items() if is_trained(name, settings)]

    def _set_gradients(self) -> None:
        for adapter, tensors in self._tensors.items():
            for name, parameter in tensors.items():
                parameter.requires_grad_(adapter in self._learns and is_trained(name, self._settings[adapter]))

    def _dropouts(self) -> list[nn.Module]:
        """Dropout modules of all adapters."""
        names = ("lora_dropout", "vera_dropout")
        return [getattr(layer, name) for layer in self._layers for name in names if hasattr(layer, name)]

    def _projections(self, role: str) -> dict[str, Tensor]:
        """VeRA's random matrices by their names in a file; nothing for other adapters."""
        adapter, config = self._config(role)
        if not isinstance(config, VeraConfig):
            return {}
        tuner = self._tuner(adapter)
        return {"base_model.vera_A": tuner.vera_A[adapter], "base_model.vera_B": tuner.vera_B[adapter]}

    @torch.no_grad()
    def _probe_head(self) -> bool:
        """Are logits just head(hidden)? Some models scale or cap them, which takes a slower path."""
        if not isinstance(self.head, nn.Linear):
            return False
        ids = torch.arange(8, device=self.device)[None] % self.head.out_features
        expected = self._base(input_ids=ids).logits.float()
        return torch.allclose(self.head(self.hidden(ids)).float(), expected, atol=1e-3, rtol=1e-3)


def load_base(session: Session, *, trainable: bool = False) -> RoleModel:
    """The session's base model and tokenizer. `trainable` models are float32: small updates vanish in bfloat16."""
    name = session.config.base
    if not name:
        raise EngineError("No base model is given: set base to a local path or a hub name.")
    dtype = torch.float32 if trainable else session.dtype
    variant = getattr(session.config, "lora_variant", "")
    try:
        options = quantization(variant, session.device)
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=dtype, use_safetensors=True, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except RewardModelError as error:
        raise EngineError(str(error)) from error
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EngineError(_missing(name, error)) from error
    if session.world.sharded:  # before the model moves: no device has to hold all of it
        shard(model, session.world, session.device)
    roles = RoleModel(model if options else model.to(session.device), tokenizer, name)
    if session.config.gradient_checkpointing:
        checkpoint_activations(model)
    return roles


def load_start(session: Session, role: str, settings: Any) -> RoleModel:
    """The base with `role` to be trained: the session's adapter, a fresh one by its settings, or (rank 0) a copy."""
    roles = load_base(session)
    if not settings.lora_rank:
        if session.config.adapter:
            raise EngineError(WHOLE_FROM_ADAPTER)
        roles.add_whole(role)
        if session.config.gradient_checkpointing:
            checkpoint_activations(roles.model)  # the copy recomputes for itself
    elif session.config.adapter:
        roles.add_start(role, adapter_folder(session.config.adapter), **asdict(settings.lora()))
    else:
        roles.add_fresh(role, **asdict(settings.lora()))
    return roles


def _missing(name: str, error: Exception) -> str:
    local = Path(name).is_absolute() or name.startswith(".")
    if local and not Path(name).exists():
        return f"The base model {name} does not exist."
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"The base model {name} cannot be loaded: {lines[0]}"
