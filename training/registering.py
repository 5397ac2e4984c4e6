"""Register a base model by hub name or local path. What would only fail when a run starts is refused here."""

from __future__ import annotations

import json
import re
from pathlib import Path

from django.utils.translation import gettext as _

from accounts.models import User
from training.models import ModelArtifact

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


class NotAModel(ValueError):
    """Nothing that a run could start from; the message says what is missing."""


def register_model(user: User, *, name: str, path: str) -> ModelArtifact:
    """A base model from `org/name` or a folder on this machine. The same path again gives the row there is."""
    path = path.strip()
    if Path(path).is_absolute():
        _check_folder(Path(path))
        path = str(Path(path))
    elif not HUB_NAME.fullmatch(path):
        raise NotAModel(
            _("Give a hub name such as HuggingFaceTB/SmolLM2-135M-Instruct, or an absolute path to a folder.")
        )
    name = name.strip()[:120] or path.rpartition("/")[2][:120]
    known = ModelArtifact.objects.filter(kind=ModelArtifact.Kind.BASE, base_model=path, path="").first()
    return known or ModelArtifact.objects.create(
        kind=ModelArtifact.Kind.BASE, name=name, base_model=path, created_by=user
    )


def _check_folder(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise NotAModel(_("There is no model in this folder: its config.json is missing or cannot be read.")) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise NotAModel(_("The config.json of this folder does not describe a transformers model."))
    if not any(folder.glob("*.safetensors")):
        raise NotAModel(
            _("The folder has no *.safetensors file. Other formats can run code when loaded and are refused.")
        )
    if not any((folder / tokenizer).exists() for tokenizer in ("tokenizer.json", "tokenizer_config.json")):
        raise NotAModel(_("The folder has no tokenizer (tokenizer.json)."))
