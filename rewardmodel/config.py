"""Settings of reward-model training. Standard library only, so that everything may import it."""

from __future__ import annotations

from dataclasses import dataclass

PLACKETT_LUCE, PAIRWISE, RAO_KUPPER, DAVIDSON = "plackett_luce", "pairwise", "rao_kupper", "davidson"
LOSSES = (PLACKETT_LUCE, PAIRWISE, RAO_KUPPER, DAVIDSON)
TIE_AWARE = (RAO_KUPPER, DAVIDSON)

LORA, RSLORA, DORA, VERA, LORA_FA, LORA_PLUS = "lora", "rslora", "dora", "vera", "lora_fa", "lora_plus"
ADALORA, QLORA, DYLORA = "adalora", "qlora", "dylora"
VARIANTS = (LORA, RSLORA, DORA, VERA, LORA_FA, LORA_PLUS, ADALORA, QLORA, DYLORA)
ALL_LINEAR, KAIMING, GAUSSIAN = "all-linear", "kaiming", "gaussian"


@dataclass(frozen=True)
class AdapterConfig:
    """An adapter to train, by name (Hu et al. 2021 and what came after). The engine's settings are these with `lora_`.

    Raises ValueError for what does not go together.
    """

    variant: str = LORA
    """One of VARIANTS; see `rewardmodel.adapters`."""
    rank: int = 16
    """Rank of the matrices; of `adalora` the one at the start, of `dylora` the largest."""
    alpha: float = 32.0
    """The update is alpha / rank times B A, of `rslora` alpha / sqrt(rank). `vera` has no such factor."""
    dropout: float = 0.0
    """Dropout on the adapter's input."""
    targets: str = ALL_LINEAR
    """Names of the layers that get an adapter, separated by commas, or all linear ones but the output layer."""
    init: str = KAIMING
    """How A starts; B starts at zero."""
    ratio: float = 16.0
    """Of `lora_plus`: the learning rate of B over that of A."""
    target_rank: int = 4
    """Of `adalora`: the mean rank at the end."""
    smallest_rank: int = 1
    """Of `dylora`: the smallest rank that is trained to be used alone."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {self.variant!r}.")
        if self.rank < 1:
            raise ValueError("An adapter's rank is at least 1.")
        if self.init not in (KAIMING, GAUSSIAN):
            raise ValueError(f"init must be {KAIMING} or {GAUSSIAN}, not {self.init!r}.")
        if self.init != KAIMING and self.variant in (VERA, ADALORA):
            raise ValueError(f"{self.variant} starts in a way of its own: leave init at {KAIMING}.")
        if not self.target_names:
            raise ValueError(f"targets must be {ALL_LINEAR}, or names of layers separated by commas.")
        if self.variant == LORA_PLUS and self.ratio <= 0:
            raise ValueError("The ratio of learning rates of lora_plus must be above 0.")
        if self.variant == ADALORA and not 1 <= self.target_rank < self.rank:
            raise ValueError("adalora starts with the rank and ends with the target rank, which must be the smaller.")
        if self.variant == DYLORA and not 1 <= self.smallest_rank <= self.rank:
            raise ValueError("The smallest rank of dylora must lie between 1 and the rank.")

    @property
    def target_names(self) -> list[str]:
        """The targets one by one."""
        return [name.strip() for name in self.targets.split(",") if name.strip()]


@dataclass(frozen=True)
class FitConfig:
    """How a reward model is fitted. The names are those of the engine's reward settings."""

    loss: str = PLACKETT_LUCE
    """Likelihood of a ranking: `plackett_luce`, or the mean over its pairs: `pairwise` (a tie is half a win), or
    `rao_kupper` and `davidson`, in which a tie says that people saw no difference."""
    top: int = 0
    """Plackett-Luce: only so many of the best places count (1: best of K); 0 for the whole order."""
    noise: float = 0.0
    """Share of the answers that are taken to be random (Christiano et al. 2017: 0.1)."""
    label_smoothing: float = 0.0
    """Share of each choice that is spread evenly over what there was to choose from."""
    margin: float = 0.0
    """By how many logits the strongest preferences have to win; weaker ones by less, in equal steps down to 0 (Touvron
    et al. 2023: 1 or 3). Where people said how much better it is; 0 for none."""
    reliability: bool = False
    """Learn how far each person can be relied on, and believe them accordingly (Crowd-BT)."""
    epochs: float = 2.0
    """Most passes over the data; the evaluation with the smallest held-out loss is kept."""
    batch_size: int = 16
    """Prompts per optimizer step, each with all of its completions."""
    micro_batch_size: int = 8
    """Prompts per forward and backward pass; it changes memory and speed, never the result."""
    learning_rate: float = 3e-4
    """Peak learning rate of the adapter (or of the whole model)."""
    head_learning_rate: float = 1e-3
    """Peak learning rate of the head."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it falls as a cosine to a tenth."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; biases and norms have none."""
    l2: float = 0.0
    """Weight, at the start, of half the squared distance from the start; 0 for none. It is adapted at each evaluation,
    so that the held-out loss stays within 1.1 and 1.5 times the training loss (Christiano et al. 2017)."""
    max_grad_norm: float = 1.0
    """The norm of all gradients together is clipped to this."""
    centering: float = 0.01
    """Weight of the squared mean score of a prompt's completions."""
    evaluations_per_epoch: int = 2
    """Held-out evaluations in an epoch; one more comes after the last step."""
    patience: int = 6
    """Evaluations without a better held-out loss after which training ends early."""
    seed: int = 0
    """Seed of the order of the data."""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {self.loss!r}.")
        if self.label_smoothing and self.loss in TIE_AWARE:
            raise ValueError(f"label_smoothing has no meaning with {self.loss}: take noise.")
        if self.top and self.loss != PLACKETT_LUCE:
            raise ValueError(f"top is a setting of {PLACKETT_LUCE}, not of {self.loss}.")
        if self.margin < 0 or (self.margin and self.loss in TIE_AWARE):
            raise ValueError(f"margin is at least 0, and none with {' or '.join(TIE_AWARE)}: they learn a threshold.")
        if self.l2 < 0:
            raise ValueError("l2 is at least 0.")
        if not 0 <= self.noise < 1 or not 0 <= self.label_smoothing < 1 or self.top < 0:
            raise ValueError("noise and label_smoothing are shares below 1, and top is at least 0.")
        if min(self.batch_size, self.micro_batch_size, self.evaluations_per_epoch, self.patience) < 1:
            raise ValueError("batch sizes, evaluations_per_epoch and patience must be at least 1.")
