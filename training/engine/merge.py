"""Make a plain transformers model of an adapter and its base, for export or as a base of its own.

    python -m training.engine.merge ARTIFACT FOLDER [--base PATH] [--rank N]

The sums are made in float32 and rounded once, to the base's precision. Nothing is merged in place: the base stays.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from rewardmodel.adapters import effective_weight

from .adapter_files import adapter_folder, base_of
from .models import RoleModel
from .session import EngineError


def merge(artifact: Path, target: Path, base: str = "", rank: int = 0) -> None:
    """Write the model into a new folder. Raises EngineError; the folder is then not there."""
    if target.exists():
        raise EngineError(f"{target} is there already.")
    adapter = adapter_folder(str(artifact))
    name = base or base_of(adapter)
    try:
        plain = transformers.AutoModelForCausalLM.from_pretrained(name, dtype="auto", use_safetensors=True)
        exact = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, use_safetensors=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise EngineError(f"The base model {name} cannot be loaded: {str(error).splitlines()[0]}") from error
    roles = RoleModel(exact, tokenizer, name)
    roles.add_saved("policy", adapter, rank)
    with torch.no_grad():
        for place, layer in roles.layers("policy").items():
            plain.get_submodule(place).weight.copy_(effective_weight(layer)[0])
    unfinished = target.with_name(f".{target.name}.tmp")
    try:
        plain.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        unfinished.rename(target)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EngineError(f"The model cannot be written: {error}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of the module's docstring; exits with a sentence where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m training.engine.merge", description="Merge an adapter.")
    parser.add_argument("artifact", type=Path, help="folder of the adapter")
    parser.add_argument("folder", type=Path, help="where to write the model")
    parser.add_argument("--base", default="", help="base model, if it is not where the adapter says")
    parser.add_argument("--rank", type=int, default=0, help="of a DyLoRA adapter, only so many ranks")
    given = parser.parse_args(arguments)
    try:
        merge(given.artifact, given.folder, given.base, given.rank)
    except EngineError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
