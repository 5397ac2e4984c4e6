"""How the settings of runs are called and grouped in forms. What they are and mean stands in the engine's config."""

from __future__ import annotations

from django.utils.translation import gettext_noop

LABELS = {
    "eval_fraction": "Held-out share",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "lora_variant": "Kind of adapter",
    "lora_targets": "LoRA layers",
    "lora_init": "LoRA start",
    "lora_ratio": "LoRA+ ratio",
    "lora_target_rank": "AdaLoRA target rank",
    "lora_smallest_rank": "DyLoRA smallest rank",
    "adapter_rank": "DyLoRA rank",
    "kl_coef": "KL coefficient",
    "kl_controller": "KL controller",
    "kl_target": "Target KL",
    "kl_horizon": "KL horizon",
    "gae_lambda": "GAE lambda",
    "ppo_epochs": "PPO epochs",
    "dtype": "Precision",
    "stop_kl": "End at a KL of",
    "kl_budget": "KL budget",
    "max_approxkl": "End passes at a KL of",
    "ptx_coef": "PPO-ptx coefficient",
    "ptx_batch_size": "PPO-ptx batch size",
    "ema": "Running mean of the policy",
    "best_of": "Best of",
    "margin": "Margin of the strongest preferences",
    "edits": "Learn from improved answers",
}

CHOICES = {
    "plackett_luce": "Plackett-Luce, whole rankings",
    "pairwise": "Pairwise",
    "rao_kupper": "Pairwise, ties by Rao and Kupper",
    "davidson": "Pairwise, ties by Davidson",
    "conversations": "Whole conversations",
    "turns": "Single turns, which add up",
    "lora": "LoRA",
    "rslora": "rsLoRA, scaled by the root of the rank",
    "dora": "DoRA",
    "vera": "VeRA",
    "lora_fa": "LoRA-FA, A frozen",
    "lora_plus": "LoRA+",
    "adalora": "AdaLoRA",
    "qlora": "QLoRA, on a 4-bit base (GPU)",
    "dylora": "DyLoRA",
    "kaiming": "Kaiming",
    "gaussian": "Gaussian",
    "local": "The worker's machine",
    "ray": "A Ray cluster",
    "cpu": "CPU",
    "cuda": "GPU (CUDA)",
    "auto": "Automatic",
    "fixed": "Fixed",
    "adaptive": "Adaptive",
    "gae": "A value function (GAE)",
    "rloo": "The other answers (RLOO)",
    "grpo": "The other answers, in deviations (GRPO)",
    "best": "Nothing: imitate the best",
    "adapter": "An adapter of its own",
    "head": "A head on the policy",
    "replace": "Replaces the score",
    "add": "Is added to the score",
    "ignore": "Nothing",
    "warn": "Warn",
    "stop": "Warn, and end the run",
}

GROUPS = {
    gettext_noop("Data"): (
        "data_origin",
        "data_without",
        "data_weigh",
        "data_limit",
        "data_eval_fraction",
        "eval_fraction",
    ),
    gettext_noop("Rewards"): ("data_more_rewards", "reward_functions", "best_of"),
    gettext_noop("What is learned"): (
        *("rewards_of", "margin", "edits", "top", "noise", "label_smoothing", "pessimism", "centering"),
        *("advantage", "completions", "value", "value_coef", "value_clip", "value_warmup", "gamma", "gae_lambda"),
        *("whiten_rewards", "whiten_advantages", "entropy_coef", "clip"),
    ),
    gettext_noop("Scores"): ("normalize_scores", "score_clip", "missing_end", "missing_end_score", "length_penalty"),
    gettext_noop("Staying near the start"): (
        *("kl_controller", "kl_target", "kl_horizon", "stop_kl", "kl_budget", "on_alert"),
        *("ptx_coef", "ptx_batch_size"),
    ),
    gettext_noop("Optimisation"): (
        *("epochs", "ppo_epochs", "batch_size", "mini_batches", "micro_batch_size", "max_approxkl"),
        *("learning_rate", "head_learning_rate", "value_learning_rate", "warmup", "linear_decay", "weight_decay"),
        *("l2", "max_grad_norm", "ema"),
    ),
    gettext_noop("Lengths and samples"): (
        *("max_length", "max_prompt_tokens", "max_new_tokens", "temperature", "sample_every", "samples"),
    ),
    gettext_noop("Adapter"): (
        *("adapter_rank", "lora_rank", "lora_alpha", "lora_dropout", "lora_variant", "lora_targets", "lora_init"),
        *("lora_ratio", "lora_target_rank", "lora_smallest_rank"),
    ),
    gettext_noop("Machine"): (
        *("device", "devices", "executor", "shard_base", "dtype", "threads", "gradient_checkpointing", "seed"),
        *("checkpoint_every", "keep_checkpoints"),
    ),
}
"""Settings to unfold, by the heading they stand under. What is in none of them stands at the end."""
