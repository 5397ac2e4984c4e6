"""How the processes of a run meet, and how they share a base that does not fit on one device."""

from __future__ import annotations

import atexit
import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from rewardmodel.processes import ALONE, World

from .launch import RENDEZVOUS


def shard(model: Any, world: World, device: torch.device) -> None:
    """Leave each process its part of every layer's weights (FSDP2); a layer is put together while it computes.

    Embedding and head stay whole, because log-probs read the head in chunks. Adapters that are added later are whole in
    every process.
    """
    backbone = model.get_decoder()
    layers = list(backbone.layers)
    inside = {parameter for layer in layers for parameter in layer.parameters()}
    mesh = init_device_mesh(device.type, (world.size,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(backbone, mesh=mesh, ignored_params={p for p in backbone.parameters() if p not in inside})


def join(device: torch.device, *, sharded: bool = False) -> World:
    """Meet the other processes of the run, if the environment tells of any (as torchrun and Ray put it)."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group(
            backend="cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=os.environ.get(RENDEZVOUS, "env://"),
            rank=rank,
            world_size=size,
        )
        # Its threads must end before the interpreter does, or the process aborts now and then after its work is done.
        atexit.register(dist.destroy_process_group)
    return World(rank, size, sharded)


def local_rank() -> int:
    """Which of this machine's processes this one is."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_size() -> int:
    """How many processes of the run share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def lost_another(error: BaseException) -> bool:
    """Did talking to the other processes fail? Then one of them is gone, and knows why. Gloo has no exception class."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
