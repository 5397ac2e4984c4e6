"""Eight processes on one queue, some killed in the middle of their work: nothing is lost and nothing doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection

from labeling.models import Campaign, Contribution, Ranking, Slot
from tests.conftest import make_user
from tests.labeling.conftest import add_items

ITEMS, OVERLAP = 60, 3
PEOPLE = ["person0", "person1", "person2", "person3", "person4", "person5", "person0", "person1"]  # two with two tabs
KILLS = 6


def start(campaign: Campaign, person: str, seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.labeling.worker", campaign.public_id, person, str(seed)],
        cwd=Path(__file__).resolve().parents[3],
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PREFLOOP_VAR": str(settings.VAR),
            "PREFLOOP_DATABASE": connection.settings_dict["NAME"],
        },
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_eight_processes_and_six_kills_lose_and_double_nothing():
    owner = make_user("owner", role="admin")
    for person in set(PEOPLE):
        make_user(person, role="admin")
    campaign = Campaign.objects.create(name="Queue", state="open", overlap=OVERLAP, created_by=owner)
    add_items(campaign, ITEMS)
    generator = random.Random(0)
    running = [start(campaign, person, seed) for seed, person in enumerate(PEOPLE)]
    everybody = list(running)
    try:
        for process in running:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for kill in range(KILLS):
            time.sleep(0.2 + generator.random() * 0.3)
            victim = generator.randrange(len(running))
            os.kill(running[victim].pid, signal.SIGKILL)
            running[victim] = start(campaign, PEOPLE[victim], 100 + kill)
            everybody.append(running[victim])
        outputs = [process.communicate(timeout=200)[0] for process in everybody]
    finally:
        for process in everybody:
            process.kill()
    assert sorted(process.returncode for process in everybody) == [-9] * KILLS + [0] * len(PEOPLE)

    acknowledged = [UUID(line) for output in outputs for line in output.split() if line != "ready"]
    rankings = Ranking.objects.filter(campaign=campaign)
    kept = set(rankings.values_list("lease", flat=True))
    assert len(set(acknowledged)) > ITEMS * OVERLAP / 2  # two tabs of one person may submit the same lease
    assert set(acknowledged) <= kept

    slots = list(Slot.objects.filter(campaign=campaign))
    assert len(slots) == ITEMS * OVERLAP
    assert {slot.state for slot in slots} == {"done"}
    assert set(Counter(slot.item_id for slot in slots).values()) == {OVERLAP}
    assert max(Counter((slot.item_id, slot.user_id) for slot in slots).values()) == 1
    accepted = rankings.accepted()
    assert max(Counter(accepted.values_list("item", "user")).values()) == 1
    in_slots = accepted.filter(late=False).values_list("slot", "item", "user")
    assert sorted(in_slots) == sorted((slot.pk, slot.item_id, slot.user_id) for slot in slots)
    counts = {given.user_id: (given.done, given.extra) for given in Contribution.objects.filter(campaign=campaign)}
    late = Counter(accepted.filter(late=True).values_list("user", flat=True))
    done = Counter(slot.user_id for slot in slots)
    assert counts == {person: (done[person], late[person]) for person in counts}
    assert sum(done.values()) == sum(filled for filled, _ in counts.values())
