"""What each of several processes holds of a sharded base: run by torchrun, writes a line of JSON per process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from tests.engine.tiny import make_llama, make_tokenizer
from training.engine.models import RoleModel
from training.engine.parallel import join, shard

CPU = torch.device("cpu")


def held_bytes(model: Any) -> int:
    """Memory behind the weights of the layers, as it lies in this process."""
    weights = [w for name, w in model.named_parameters() if ".layers." in name and "lora" not in name]
    return sum((w.to_local() if isinstance(w, DTensor) else w).untyped_storage().nbytes() for w in weights)


def main(folder: Path) -> None:
    """Before and after sharding, and after a pass through the model in both directions."""
    world = join(CPU, sharded=True)
    model, ids = make_llama(), torch.arange(8)[None]
    whole = held_bytes(model)
    expected = model(input_ids=ids).logits
    shard(model, world, CPU)
    roles = RoleModel(model, make_tokenizer(), "tiny")
    roles.add_fresh("policy", rank=4, alpha=8)
    roles.learn("policy")
    roles.use("policy")
    logits = roles.head(roles.hidden(ids))
    logits.sum().backward()
    learned = sum(float(p.grad.abs().sum()) for p in roles.parameters("policy") if p.grad is not None)
    gap = float((logits - expected).abs().max())
    facts = {"whole": whole, "held": held_bytes(roles.model), "gap": gap, "learned": learned}
    (folder / f"{world.rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
