"""A run on a Ray cluster: the same run directory, computed by workers that Ray places.

Every machine of the cluster must see the run directory, the models and this program under the same paths. Where
RAY_ADDRESS names no cluster, Ray starts one on this machine for the run. Restarts are left to whoever started this
process, as for runs without Ray: a worker that dies ends the job, and the next one resumes from the newest checkpoint.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from .rundir import FAILED, LOST, STOPPED, SUCCEEDED, RunDir

OUTCOMES = {"succeeded": SUCCEEDED, "stopped": STOPPED, "failed": FAILED}
PASSED_ON = ("PREFLOOP_", "GOMP_", "OMP_", "HF_", "TRANSFORMERS_", "TOKENIZERS_")


def submit(rundir: RunDir, devices: int, device: str) -> int:
    """Compute the run as a Ray Train job of so many workers, and return the engine's exit code."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "900")  # a cluster may have to grow first
    import ray  # here: the engine has to do without it
    from ray.exceptions import RayError
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    status = {"stage": "start", "step": 0, "total_steps": 0, "eta_seconds": None, "device": None}
    rundir.write_status(status | rundir.read_status() | {"state": "running", "error": None})
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    ray.init(include_dashboard=False, runtime_env={"env_vars": passed_on})
    signal.signal(signal.SIGTERM, lambda number, frame: rundir.write_control(stop=True))
    gpus = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    trainer = TorchTrainer(
        work,
        train_loop_config={"run_dir": str(rundir.path.resolve())},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=devices, use_gpu=gpus),
        run_config=RunConfig(storage_path=str(rundir.path.resolve() / "ray")),
    )
    try:
        trainer.fit()
    except (TrainingFailedError, RayError) as error:
        print(f"The Ray job ended early: {str(error).splitlines()[0]}", flush=True)
    finally:
        ray.shutdown()
    return OUTCOMES.get(str(rundir.read_status().get("state")), LOST)


def work(settings: dict[str, Any]) -> None:
    """What every worker does: the engine's program, in the place that Ray has put into the environment."""
    from .__main__ import main

    code = main([settings["run_dir"]])
    if code not in (SUCCEEDED, STOPPED):
        raise RuntimeError(f"The engine ended with {code}.")  # so that Ray ends the other workers
