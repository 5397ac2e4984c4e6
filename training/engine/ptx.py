"""PPO-ptx (Ouyang 2022): the loss on demonstrations, mixed into every step, keeps what the policy could."""

from __future__ import annotations

from rewardmodel.processes import ALONE, World

from .config import PpoConfig
from .data import indices_of_step, read_rows
from .models import RoleModel
from .session import EngineError, Session
from .sft import Example, encode_example, loss_gradient


class DemonstrationMix:
    """Draws `ptx_batch_size` conversations per step. `step` counts them, so that a resumed run goes on."""

    def __init__(self, roles: RoleModel, examples: list[Example], config: PpoConfig, world: World = ALONE) -> None:
        self.roles, self.examples, self.config, self.world = roles, examples, config, world
        self.step = 0
        self.loss = 0.0

    def add_gradient(self) -> None:
        """Add the gradient of `ptx_coef` times the mean loss per assistant token, for the role in use."""
        c, self.step = self.config, self.step + 1
        size = min(c.ptx_batch_size, len(self.examples))
        batch = [self.examples[i] for i in indices_of_step(len(self.examples), size, self.step, c.seed)]
        self.loss = loss_gradient(self.roles, batch, c.micro_batch_size, weight=c.ptx_coef, world=self.world)


def load_demonstrations(session: Session, roles: RoleModel, config: PpoConfig) -> DemonstrationMix:
    """Of `data/sft.jsonl`. Raises EngineError where nothing is left to learn from."""
    rows = read_rows(session.rundir, "sft.jsonl")
    length = config.max_prompt_tokens + config.max_new_tokens
    examples = [encode_example(roles, row["messages"], length) for row in rows]
    usable = [example for example in examples if example.states]
    if not usable:
        raise EngineError("No conversation in data/sft.jsonl has an answer to learn from: set ptx_coef to 0.")
    return DemonstrationMix(roles, usable, config, session.world)
