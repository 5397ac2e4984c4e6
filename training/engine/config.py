"""What a run is asked to do: one frozen dataclass per kind, one documented setting per field.

Standard library only: the web process builds its forms from these fields, the engine reads them back from
`config.json`, and the resolved config is stored with the run and with the artifact it makes.
Unknown keys, wrong types and values out of bounds raise `ConfigError` with a sentence a person can act on.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardmodel.config import (
    ADALORA,
    ALL_LINEAR,
    DORA,
    GAUSSIAN,
    KAIMING,
    LORA,
    LOSSES,
    QLORA,
    VARIANTS,
    AdapterConfig,
    FitConfig,
)

from .settings import ConfigError as ConfigError
from .settings import checked, setting

LOCAL, RAY = "local", "ray"
CONVERSATIONS, TURNS = "conversations", "turns"


@dataclass(frozen=True)
class CommonConfig:
    """Settings of every kind of run."""

    base: str = setting("", "Base causal language model (or encoder, for rewards): a local path or a hub name.")
    adapter: str = setting("", "Folder of a LoRA adapter on that base to start from; empty for the base itself.")
    seed: int = setting(0, "Seed of every random number of the run.", low=0, high=2**63 - 1)
    device: str = setting("auto", "Where to compute.", choices=("auto", "cpu", "cuda"))
    dtype: str = setting(
        "auto",
        "Precision of the frozen base; auto is bfloat16 on a GPU and float32 on a CPU.",
        choices=("auto", "float32", "bfloat16"),
    )
    gradient_checkpointing: bool = setting(
        False, "Compute each layer twice in training instead of keeping what is between its ends: slower, less memory."
    )
    threads: int = setting(0, "CPU threads; 0 leaves the choice to torch.", low=0, high=256)
    checkpoint_every: int = setting(10, "Optimizer steps (PPO: iterations) between checkpoints.", low=1)
    keep_checkpoints: int = setting(2, "Newest checkpoints kept on disk.", low=1)


@dataclass(frozen=True)
class DevicesConfig:
    """Settings of runs that several processes can compute together."""

    devices: int = setting(
        1,
        "Processes that share the work, each on a GPU of its own where there are any. The batch stays the same, and so "
        "do the results, up to rounding.",
        low=1,
        high=1024,
    )
    executor: str = setting(
        LOCAL, "Where the processes run: on the worker's machine, or on a Ray cluster.", choices=(LOCAL, RAY)
    )


@dataclass(frozen=True)
class ParallelConfig(DevicesConfig):
    """Settings of such runs whose base may be divided, too."""

    shard_base: bool = setting(
        False, "Several devices: each holds a part of the base's layers, for a base that does not fit on one. Slower."
    )


@dataclass(frozen=True)
class LoraConfig:
    """Settings of the trained adapter. Rank 0 trains the whole model (of a PPO run the policy, a copy of the base).

    A start adapter keeps its form, rank and scale; of these settings it takes what concerns training.
    """

    lora_variant: str = setting(
        LORA,
        "Kind of adapter. DoRA also learns each output's size; VeRA learns two vectors per layer, over shared random "
        "matrices; LoRA-FA learns B only; LoRA+ learns B faster; AdaLoRA gives ranks to the layers that need them; "
        "QLoRA holds the base in 4 bits (GPU); DyLoRA can be cut to a smaller rank after training.",
        choices=VARIANTS,
    )
    lora_rank: int = setting(
        16,
        "Rank of the matrices: AdaLoRA's at the start, DyLoRA's largest. VeRA wants some 256. 0 trains all weights.",
        low=0,
        high=1024,
    )
    lora_alpha: float = setting(
        32.0, "Scale: the update is alpha / rank times B A (rsLoRA: alpha / root of rank; VeRA has none).", low=0
    )
    lora_dropout: float = setting(
        0.0, "Dropout on the LoRA input. 0 keeps old and new log-probs comparable.", low=0, high=0.9
    )
    lora_targets: str = setting(
        ALL_LINEAR, "Layers with an adapter: all-linear, or names such as q_proj, v_proj separated by commas."
    )
    lora_init: str = setting(KAIMING, "How A starts; B is zero. Not for VeRA and AdaLoRA.", choices=(KAIMING, GAUSSIAN))
    lora_ratio: float = setting(16.0, "LoRA+: learning rate of B over that of A.", low=0)
    lora_target_rank: int = setting(4, "AdaLoRA: mean rank at the end, below the rank at the start.", low=1, high=1024)
    lora_smallest_rank: int = setting(1, "DyLoRA: smallest rank that can be used alone.", low=1, high=1024)

    def __post_init__(self) -> None:
        if self.lora_rank:
            self.lora()
        elif self.lora_variant != LORA:
            raise ConfigError(f"Rank 0 trains the whole model: set lora_rank for {self.lora_variant}.")
        if getattr(self, "shard_base", False) and (not self.lora_rank or self.lora_variant in (DORA, QLORA)):
            raise ConfigError(
                "shard_base divides a frozen base of 16 or 32 bits: set lora_rank above 0, and a lora_variant that is "
                f"neither {DORA} nor {QLORA}."
            )

    def lora(self) -> AdapterConfig:
        """The settings as the library takes them. Raises ConfigError for those that do not go together."""
        names = [field.name for field in dataclasses.fields(AdapterConfig)]
        try:
            return AdapterConfig(**{name: getattr(self, f"lora_{name}") for name in names})
        except ValueError as error:
            raise ConfigError(str(error)) from error


@dataclass(frozen=True)
class SftConfig(CommonConfig, ParallelConfig, LoraConfig):
    """Supervised fine-tuning on `data/sft.jsonl`: loss on assistant tokens only."""

    epochs: float = setting(1.0, "Passes over the data.", low=0, basic=True)
    batch_size: int = setting(16, "Conversations per optimizer step.", low=1)
    micro_batch_size: int = setting(16, "Conversations per forward pass; lower it when memory runs out.", low=1)
    learning_rate: float = setting(2e-4, "Peak learning rate.", low=0, basic=True)
    warmup: float = setting(0.05, "Share of the steps in which the learning rate rises.", low=0, high=1)
    weight_decay: float = setting(0.0, "AdamW weight decay.", low=0)
    max_grad_norm: float = setting(1.0, "Gradient norm is clipped to this.", low=1e-3)
    max_length: int = setting(1024, "Longest conversation in tokens; older turns are cut from the left.", low=8)
    eval_fraction: float = setting(0.05, "Share of the prompts held out for the evaluation loss.", low=0, high=0.9)


@dataclass(frozen=True)
class RewardConfig(CommonConfig, DevicesConfig, LoraConfig):
    """Reward model on `data/rankings.jsonl`; writes score = (raw - mean) / sd, mean 0 and sd 1 on the training rows."""

    loss: str = setting(
        "plackett_luce",
        "Likelihood of a ranking. Pairs give Bradley-Terry with the first two, in which a tie is half a win. "
        "The others learn from ties how large a difference people notice.",
        choices=LOSSES,
        basic=True,
    )
    rewards_of: str = setting(
        CONVERSATIONS,
        "What gets a reward: a whole conversation, or each of its turns, read alone; a conversation's score is then "
        "their sum (Christiano et al. 2017). For conversations of several answers; what lies between turns, such as a "
        "contradiction, is then in no reward, and PPO cannot be run against them.",
        choices=(CONVERSATIONS, TURNS),
    )
    top: int = setting(0, "Plackett-Luce: only so many of the best places count; 0 for the whole order.", low=0)
    noise: float = setting(
        0.0, "Share of the answers that are taken to be random, whoever gave them.", low=0, high=0.99
    )
    label_smoothing: float = setting(
        0.0, "Share of each choice that is spread evenly over what there was to choose from.", low=0, high=0.99
    )
    margin: float = setting(
        0.0,
        "By how many logits the strongest preferences have to win, weaker ones by less (Llama 2: 1 or 3). Where "
        "annotators said how much better an answer is; 0 for none.",
        low=0,
    )
    edits: bool = setting(True, "Learn as well that an answer which an annotator improved is better than it was.")
    reliability: bool = setting(
        False, "Learn how far each annotator can be relied on, and believe them accordingly (Crowd-BT).", basic=True
    )
    epochs: float = setting(2.0, "Most passes over the data; the best held-out epoch is kept.", low=0, basic=True)
    batch_size: int = setting(16, "Prompts per optimizer step, each with all of its completions.", low=1)
    micro_batch_size: int = setting(8, "Prompts per forward pass; lower it when memory runs out.", low=1)
    learning_rate: float = setting(3e-4, "Peak learning rate of the LoRA matrices.", low=0, basic=True)
    head_learning_rate: float = setting(1e-3, "Peak learning rate of the scalar head.", low=0)
    warmup: float = setting(0.05, "Share of the steps in which the learning rate rises.", low=0, high=1)
    weight_decay: float = setting(0.01, "AdamW weight decay.", low=0)
    max_grad_norm: float = setting(1.0, "Gradient norm is clipped to this.", low=1e-3)
    l2: float = setting(
        0.0,
        "Weight, at the start, of half the squared distance from the start weights; it is adapted so that the held-out "
        "loss stays within 1.1 and 1.5 times the training loss. 0 for none.",
        low=0,
    )
    members: int = setting(
        1,
        "Reward models trained on bootstrap samples of the prompts, on one base; the mean of their scores counts.",
        low=1,
        high=16,
        basic=True,
    )
    pessimism: float = setting(
        0.0,
        "How many deviations of the members are taken off their mean score; of a single model, standard errors of its "
        "head that the comparisons leave (Zhu et al. 2023).",
        low=0,
    )
    centering: float = setting(0.01, "Weight of the squared mean score of each prompt, which stops drift.", low=0)
    max_length: int = setting(1024, "Longest prompt plus completion in tokens; older turns are cut.", low=8)
    eval_fraction: float = setting(
        0.15, "Share of the prompts held out; a prompt is never in both parts.", low=0.01, high=0.9, basic=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fit()
        if self.members > 1 and not self.lora_rank:
            raise ConfigError("Several members share one base, so they need adapters: set lora_rank above 0.")
        if self.members > 1 and self.lora_variant == ADALORA:
            raise ConfigError("adalora trains one adapter on a base: set members to 1, or take another lora_variant.")
        if self.rewards_of == TURNS and self.pessimism:
            raise ConfigError(
                f"pessimism is taken off whole conversations: set it to 0, or rewards_of to {CONVERSATIONS}."
            )

    def fit(self) -> FitConfig:
        """The part of the settings that is the library's. Raises ConfigError for those that do not go together."""
        names = {field.name for field in dataclasses.fields(FitConfig)}
        try:
            return FitConfig(**{name: value for name, value in dataclasses.asdict(self).items() if name in names})
        except ValueError as error:
            raise ConfigError(str(error)) from error


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn."""

    max_new_tokens: int = setting(64, "Longest completion in tokens.", low=1, basic=True)
    temperature: float = setting(1.0, "Logits are divided by this before sampling.", low=0.01, high=10)


@dataclass(frozen=True)
class RewardSettings:
    """Where scores come from: the sum of reward models and functions."""

    reward_path: str = setting("", "Folder of the reward model artifact.")
    more_reward_paths: str = setting("", "Folders of further reward models, one per line, whose scores are added.")
    reward_functions: str = setting(
        "",
        "Functions whose results are added to the score, with weights, as in 0.5 * brevity + polite. Known are those "
        "of the Python file that PREFLOOP_REWARDS names where the engine runs.",
    )


@dataclass(frozen=True)
class PpoConfig(CommonConfig, ParallelConfig, LoraConfig, SamplingSettings, RewardSettings):
    """PPO on `data/prompts.jsonl` against the reward model in `reward_path`.

    ALGORITHMS: the KL penalty inside the reward is k1; the score sits on the last valid token.
    """

    iterations: int = setting(60, "PPO iterations: sample a batch, then learn from it.", low=1, basic=True)
    batch_size: int = setting(64, "Episodes per iteration.", low=2, basic=True)
    completions: int = setting(1, "Answers to each prompt of a batch; a prompt is read once for all of them.", low=1)
    mini_batches: int = setting(1, "Optimizer steps per pass over the batch.", low=1)
    micro_batch_size: int = setting(64, "Episodes per forward pass; lower it when memory runs out.", low=1)
    ppo_epochs: int = setting(2, "Passes over each batch.", low=1)
    max_approxkl: float = setting(
        0.0, "Passes over a batch end once the policy has moved so far from the one that sampled it; 0 never.", low=0
    )
    learning_rate: float = setting(1e-4, "Learning rate of the policy adapter.", low=0, basic=True)
    value_learning_rate: float = setting(3e-4, "Learning rate of the value adapter and head.", low=0)
    linear_decay: bool = setting(True, "Lower both learning rates linearly to 10 % of their start.")
    max_grad_norm: float = setting(1.0, "Gradient norms (policy and value apart) are clipped to this.", low=1e-3)
    kl_coef: float = setting(0.05, "beta: weight of the KL penalty inside the reward.", low=0, basic=True)
    kl_controller: str = setting(
        "fixed", "Keep beta fixed, or steer it to the target KL.", choices=("fixed", "adaptive")
    )
    kl_target: float = setting(6.0, "Target KL of a whole completion, in nats, for the adaptive controller.", low=0.01)
    kl_horizon: int = setting(10_000, "Episodes over which the adaptive controller acts.", low=1)
    stop_kl: float = setting(0.0, "End the run, with the policy it has, once the KL is above this; 0 never.", low=0)
    kl_budget: float = setting(
        0.0,
        "KL above which the run warns that scores may mislead; 0 takes what the reward model's held-out accuracy and "
        "number of prompts cover.",
        low=0,
    )
    on_alert: str = setting(
        "warn",
        "What happens when answers look as if they gamed the reward model (KL beyond the budget, length, repeats).",
        choices=("warn", "stop"),
    )
    clip: float = setting(0.2, "Ratio clip of the policy loss.", low=0, high=1)
    entropy_coef: float = setting(0.0, "Weight of the policy's entropy per token, which keeps answers varied.", low=0)
    advantage: str = setting(
        "gae",
        "What an answer is compared with: a learned value function (gae), the other answers to its prompt (rloo; grpo "
        "also divides by their deviation), or nothing: the best answer to each prompt is imitated (best).",
        choices=("gae", "rloo", "grpo", "best"),
    )
    value: str = setting(
        "adapter",
        "The value function of gae: an adapter of its own that starts as the reward model, or a head on the policy's "
        "states, which needs one pass less.",
        choices=("adapter", "head"),
    )
    value_coef: float = setting(0.1, "Weight of the value loss where the value function is a head.", low=0)
    value_clip: float = setting(0.2, "Clip of the change of a value estimate.", low=0)
    value_warmup: int = setting(2, "First iterations in which only the value function learns.", low=0)
    gamma: float = setting(1.0, "Discount per token.", low=0, high=1)
    gae_lambda: float = setting(0.95, "GAE lambda.", low=0, high=1)
    whiten_rewards: bool = setting(False, "Bring token rewards to variance 1 over the batch.")
    whiten_advantages: bool = setting(True, "Bring advantages of gae and rloo to mean 0, variance 1 over the batch.")
    normalize_scores: bool = setting(False, "Bring scores to mean 0 and deviation 1 over all answers so far.")
    score_clip: float = setting(5.0, "Scores are clipped to plus or minus this.", low=0)
    missing_end: str = setting(
        "replace",
        "What the missing-end score does to an answer that did not end within the token limit.",
        choices=("replace", "add", "ignore"),
    )
    missing_end_score: float = setting(-1.0, "Score of a completion that did not end, or what is added to it.")
    length_penalty: float = setting(0.0, "Taken off the score for every token of the answer.", low=0)
    ptx_coef: float = setting(
        0.0, "PPO-ptx: weight of the loss on the answers that people put first, mixed into every step.", low=0
    )
    ptx_batch_size: int = setting(16, "Conversations of that loss per optimizer step.", low=1)
    ema: float = setting(
        0.0, "The policy kept is a running mean over iterations with this decay (InstructGPT: 0.992); 0 the last one.",
        low=0, high=0.9999,
    )  # fmt: skip
    sample_every: int = setting(5, "Iterations between sample events (and evaluation on held-out prompts).", low=1)
    samples: int = setting(8, "Completions per sample event, each beside the reference's answer.", low=1, high=64)
    max_prompt_tokens: int = setting(512, "Longer prompts lose their oldest turns.", low=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.advantage != "gae" and self.completions < 2:
            raise ConfigError(f"{self.advantage} compares answers to one prompt: set completions to 2 or more.")
        if self.batch_size % self.completions:
            raise ConfigError(f"batch_size ({self.batch_size}) must be a multiple of completions ({self.completions}).")
        if self.kl_controller == "adaptive" and self.kl_horizon < self.batch_size:
            raise ConfigError(f"kl_horizon counts episodes: set it to batch_size ({self.batch_size}) or more.")
        if self.ema and self.lora_variant == ADALORA:
            raise ConfigError("A running mean would keep ranks that adalora takes away: set ema to 0.")
        if self.max_approxkl and self.lora_variant == ADALORA:
            raise ConfigError("adalora takes ranks away by a plan over all steps: set max_approxkl to 0.")


@dataclass(frozen=True)
class SamplingConfig(CommonConfig, ParallelConfig, SamplingSettings, RewardSettings):
    """Draw `completions` answers per prompt of `data/prompts.jsonl` into `artifact/completions.jsonl`."""

    completions: int = setting(4, "Completions per prompt and policy.", low=1, high=64, basic=True)
    best_of: int = setting(
        1, "Each completion is the best of so many by the reward model; 1 needs none.", low=1, high=256
    )
    adapter_rank: int = setting(
        0, "Of a policy that was trained as DyLoRA: how many of its ranks answer; 0 for all.", low=0
    )
    versus: str = setting("", "Second policy to draw from beside the first: an adapter's folder, or base.")
    batch_size: int = setting(64, "Completions drawn at once.", low=1)
    max_prompt_tokens: int = setting(512, "Longer prompts lose their oldest turns.", low=4)

    def __post_init__(self) -> None:
        if self.adapter_rank and not self.adapter:
            raise ConfigError("adapter_rank cuts a policy that was trained as DyLoRA: set it to 0 for a whole model.")


KINDS: dict[str, type[CommonConfig]] = {
    "sft": SftConfig,
    "reward": RewardConfig,
    "ppo": PpoConfig,
    "sampling": SamplingConfig,
}


def parse_config(kind: str, values: dict[str, Any]) -> CommonConfig:
    """Check `values` for a run of `kind` and fill in the defaults.

    Raises ConfigError: unknown kind, unknown key, wrong type, out of bounds.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}.")
    cls = KINDS[kind]
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"A {kind} run has no setting {', '.join(unknown)}.")
    return cls(**{key: checked(fields[key], hints[key], value) for key, value in values.items()})


def to_json(kind: str, config: CommonConfig) -> dict[str, Any]:
    """The resolved config as it is stored in `config.json`."""
    return {"kind": kind, "settings": dataclasses.asdict(config)}


def read_config(path: Path) -> tuple[str, CommonConfig]:
    """Read `config.json`. Raises ConfigError when it is missing, not JSON, or does not fit."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        kind, values = raw["kind"], raw["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    return kind, parse_config(kind, values)
