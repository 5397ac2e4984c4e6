"""A reward run: `rewardmodel` trained on `data/rankings.jsonl` inside the run directory's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from rewardmodel.adapters import stored_bytes
from rewardmodel.config import TIE_AWARE
from rewardmodel.data import DataError, encode_items, group_rows, split_items
from rewardmodel.ensemble import Ensemble
from rewardmodel.ensemble_fit import EnsembleFit
from rewardmodel.evaluate import LENGTH_ONLY, score_items
from rewardmodel.fit import Fit, FitError
from rewardmodel.losses import TieTooLarge
from rewardmodel.model import RewardModel, RewardModelError
from rewardmodel.report import held_out_report
from rewardmodel.tokens import split_turns
from rewardmodel.trajectory import TrajectoryModel
from rewardmodel.turn_report import turn_examples

from . import artifacts
from .candidates import write_gains
from .config import CONVERSATIONS, TURNS, RewardConfig
from .data import read_rows
from .lora import use_fast_forward
from .memory import checkpoint_activations
from .rundir import EVALUATION
from .session import EngineError, Session
from .timing import PhaseClock


def run(session: Session) -> None:
    """Train on the rankings and write a reward artifact."""
    try:
        _run(session, cast(RewardConfig, session.config))
    except (DataError, FitError, RewardModelError, TieTooLarge) as error:
        raise EngineError(str(error)) from error


def _run(session: Session, config: RewardConfig) -> None:
    session.stage("load", "Loading the base model and the rankings.")
    fit = _prepare(session, config)
    people, evaluated = (sum(len(e.item.labels) for e in part) for part in (fit.train, fit.held_out))
    message = f"{people} rankings to learn from, {evaluated} held out, {fit.total_steps} steps."
    session.stage("train", message, total_steps=fit.total_steps)
    planned = fit.total_steps
    _, saved = session.resume()
    if saved:
        fit.load_state_dict(saved)
    clock = PhaseClock(session.device)
    for progress in fit.run():
        session.metrics(progress.step, progress.metrics | clock.lap(progress.tokens))
        session.end_step(progress.step, fit.state_dict)
    early = "Held-out loss stopped falling. " if fit.step < planned else ""
    session.stage("finish", f"{early}Normalising the scores.", total_steps=fit.step)
    metrics = fit.finish()  # of the kept evaluation: they belong to the artifact, not behind the last step's point
    if LENGTH_ONLY in metrics:
        session.metrics(fit.step, {LENGTH_ONLY: metrics[LENGTH_ONLY]})
    model: RewardModel | Ensemble = fit.model
    if isinstance(model, RewardModel) and config.pessimism:
        model = Ensemble.cautious(model, fit.train, config.pessimism)
    held_out = [e.item for e in fit.held_out]
    scores = [scores.tolist() for scores in score_items(model, fit.held_out, session.world)]
    report = held_out_report(held_out, scores, fit.reliability)
    if report and config.rewards_of == TURNS:
        report["turns"] = turn_examples(held_out, scores, cast(TrajectoryModel | Ensemble, model).turn_rewards)

    def fill(folder: Path) -> None:
        model.save(folder)
        write_gains(session, model, folder)
        artifacts.write_json(folder / EVALUATION, report)

    size = stored_bytes((model.members[0] if isinstance(model, Ensemble) else model).model, config.base)
    artifacts.write(session, "reward", "adapter" if config.lora_rank else "model", metrics, fill, size)


def _prepare(session: Session, config: RewardConfig) -> Fit | EnsembleFit:
    rows = read_rows(session.rundir, "rankings.jsonl")
    items = group_rows(rows, ties=config.loss in TIE_AWARE, edits=config.edits)
    train, held_out = split_items(items, config.eval_fraction, config.seed)
    if config.rewards_of == TURNS and not any(len(split_turns(c)) > 1 for item in items for c in item.completions):
        raise EngineError(
            f"Every completion is a single answer, so there are no turns to reward: set rewards_of to {CONVERSATIONS}."
        )
    model = (TrajectoryModel if config.rewards_of == TURNS else RewardModel).create(
        config.base,
        adapter=config.adapter,
        lora_rank=config.lora_rank,
        lora=config.lora() if config.lora_rank else None,
        max_length=config.max_length,
        seed=config.seed,
        device=session.device,
        dtype=session.dtype,
    )
    use_fast_forward(model.model)
    encoded = [encode_items(part, model.encode_together) for part in (train, held_out)]
    fit: Fit | EnsembleFit
    if config.members > 1:
        fit = EnsembleFit(
            model,
            encoded[0],
            encoded[1],
            config.fit(),
            members=config.members,
            pessimism=config.pessimism,
            world=session.world,
        )
    else:
        fit = Fit(model, encoded[0], encoded[1], config.fit(), session.world)
    if config.gradient_checkpointing:
        checkpoint_activations(model.model)  # last: each member that joins sets the whole model to evaluation
    return fit
