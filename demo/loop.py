"""The order of the demo's stages: compare, train a reward model, run PPO, compare again, judge."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

from demo import stages
from demo.client import Client, Quota
from demo.judging import Pair, quality, win, win_rate
from demo.labelers import population
from demo.stages import Json, Story
from training.engine.rundir import RunDir, read_jsonl

FRESH = 5000
"""Added to the seed for the second panel: people with other tastes and other random numbers."""


def run_loop(story: Story, researcher: Client, campaign: str, runs: Path) -> Json:
    """Everything after the first comparison is on screen. Returns the report."""
    _rank(story, researcher, campaign)
    base = stages.base_model(researcher)
    reward = _train_reward(story, researcher, campaign, base)
    policy = _train_policy(story, researcher, campaign, base, reward)
    sampling = _draw_both(story, researcher, policy)
    _judge(story, runs / sampling)
    _compare(story, researcher, sampling, researcher.get(f"/api/artifacts/{policy}")["name"])
    story.seconds["whole"] = round(time.monotonic() - story.started, 1)
    return story.report | {"seed": story.seed, "shuffled": story.shuffle, "seconds": story.seconds}


def _rank(story: Story, researcher: Client, campaign: str) -> None:
    people = population(story.seed)
    story.begin(f"{len(people)} simulated annotators sign in and rank.")
    story.report["labels"] = stages.annotate(story, researcher, campaign, people, Quota(stages.LABELS))
    story.end("labeling")
    shuffled = ", dealt at random" if story.shuffle else ""
    story.say(f"{story.report['labels']} rankings{shuffled}; the rest is left for you.")


def _train_reward(story: Story, researcher: Client, campaign: str, base: str) -> str:
    story.begin("A reward model learns from the rankings.")
    settings = stages.REWARD_SETTINGS | {"seed": story.seed}
    run = stages.start_run(
        researcher, "reward", "Reward: support replies", campaign=campaign, base=base, settings=settings
    )
    done = stages.follow(story, researcher, run, ("loss/train", "eval/accuracy"))
    metrics = done["metrics"]
    story.report["reward_accuracy"] = round(metrics["eval/accuracy"], 4)
    low, high = metrics["eval/accuracy_low"], metrics["eval/accuracy_high"]
    story.report["reward_accuracy_interval"] = [round(low, 4), round(high, 4)]
    story.end("reward")
    story.say(f"It agrees with {metrics['eval/accuracy']:.0%} of held-out preferences ({low:.0%} to {high:.0%}).")
    return str(done["artifact"])


def _train_policy(story: Story, researcher: Client, campaign: str, base: str, reward: str) -> str:
    story.begin("PPO tunes the language model against it.")
    leash = stages.kl_coefficient(story.report["reward_accuracy_interval"][0])
    settings = stages.PPO_SETTINGS | {"kl_coef": leash, "seed": story.seed}
    run = stages.start_run(
        researcher,
        "ppo",
        "PPO: support replies",
        campaign=campaign,
        base=base,
        reward=reward,
        settings=settings,
    )
    done = stages.follow(story, researcher, run, ("objective/scores", "objective/kl", "policy/entropy"))
    story.report["kl"] = round(done["metrics"]["objective/kl"], 3)
    story.end("ppo")
    return str(done["artifact"])


def _draw_both(story: Story, researcher: Client, policy: str) -> str:
    story.begin("Old and new model answer questions that neither has been trained on.")
    questions = stages.create_campaign(researcher, "Held-out questions", protocol="pair", overlap=1)
    stages.import_items(researcher, questions, "held-out.jsonl", stages.held_out_replies(story.seed))
    run = stages.start_run(
        researcher,
        "sampling",
        "Policy and base on held-out questions",
        campaign=questions,
        base=policy,
        settings=stages.SAMPLING_SETTINGS | {"versus": "base", "seed": story.seed},
    )
    stages.follow(story, researcher, run, ())
    story.end("sampling")
    return run


def _judge(story: Story, folder: Path) -> None:
    """Gold utility and correctness before and after, for the report only."""
    replies: dict[str, list[Pair]] = {"policy": [], "versus": []}
    for row in read_jsonl(RunDir(folder).artifact / "completions.jsonl"):
        for completion in row["completions"]:
            pair = row["messages"][-1]["content"], completion["messages"][-1]["content"]
            replies[completion["source"]].append(pair)
    before, after = quality(replies["versus"]), quality(replies["policy"])
    story.report |= {
        "gold_before": round(before.gold, 3),
        "gold_after": round(after.gold, 3),
        "correct_before": round(before.correct, 4),
        "correct_after": round(after.correct, 4),
    }
    story.say(f"Right item and action: {before.correct:.0%} before, {after.correct:.0%} after.")
    for (prompt, old), (_, new) in itertools.islice(zip(replies["versus"], replies["policy"], strict=True), 3):
        story.say(f"  {prompt}\n{'':13}before: {old}\n{'':13}after:  {new}")


def _compare(story: Story, researcher: Client, sampling: str, policy_name: str) -> None:
    judges = population(story.seed + FRESH, prefix="judge")
    story.begin(f"{len(judges)} other annotators compare the replies of both, blind.")
    campaign = stages.campaign_from(researcher, sampling, "Old or new model?", overlap=stages.JUDGES_PER_PAIR)
    stages.add_members(researcher, campaign, ["annotator"])
    researcher.post(f"/api/campaigns/{campaign}/state", {"state": "open"})
    stages.annotate(story, researcher, campaign, judges, Quota(stages.COMPARISONS))
    wins: dict[str, list[float]] = {}
    for row in researcher.lines(f"/api/campaigns/{campaign}/export", what="rankings"):
        policy = [completion["source"] for completion in row["completions"]].index(policy_name)
        wins.setdefault(row["item"], []).append(win(row["tiers"], policy, 1 - policy))
    rate = win_rate(wins)
    assert rate.value is not None and rate.low is not None and rate.high is not None
    story.report |= {
        "win_rate": round(rate.value, 4),
        "win_rate_interval": [round(rate.low, 4), round(rate.high, 4)],
        "comparisons": sum(map(len, wins.values())),
    }
    story.end("judging")
    story.say(f"The new model wins {rate.value:.1%} of comparisons ({rate.low:.1%} to {rate.high:.1%}).")


def write_report(path: Path, report: Json) -> None:
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
