"""One annotator as a process, for test_processes: `python -m tests.labeling.worker CAMPAIGN USER SEED`.

Claims and submits until nothing is left, and now and then does what people do: leaves, skips, comes back late. Prints
the lease of every answer it got an acknowledgement for. Leases are short, and a pause inside each transaction makes it
likely that `kill -9` strikes there.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import timedelta

import django

django.setup()

from django.utils import timezone  # noqa: E402

from accounts.models import User  # noqa: E402
from labeling.access import get_lease  # noqa: E402
from labeling.events import campaign_changed  # noqa: E402
from labeling.models import Campaign, Slot  # noqa: E402
from labeling.queue import annotation, assignment  # noqa: E402

chance = random.Random(sys.argv[3])
campaign = Campaign.objects.get(public_id=sys.argv[1])
user = User.objects.get(username=sys.argv[2])
assignment.MIN_LEASE = assignment.MAX_LEASE = timedelta(seconds=0.3)


def notify_slowly(campaign: Campaign) -> None:
    campaign_changed(campaign)
    time.sleep(chance.random() * 0.02)


annotation.campaign_changed = notify_slowly  # type: ignore[attr-defined]


def answer(task: assignment.Task) -> None:
    annotation.submit_and_claim(user, get_lease(user, task.lease), tiers=[[0], [1]], now=timezone.now())
    print(task.lease, flush=True)


print("ready", flush=True)
left_open: list[assignment.Task] = []
while Slot.objects.filter(campaign=campaign).exclude(state="done").exists():
    task = assignment.claim_next(user, campaign, now=timezone.now())
    if task is None:
        time.sleep(0.05)
        continue
    what = chance.random()
    if what < 0.6:
        answer(task)
    elif what < 0.7:
        assignment.release(user, get_lease(user, task.lease))
    elif what < 0.75 and user.username == "person5":  # one who skips leaves enough others for every item
        assignment.skip(user, get_lease(user, task.lease), reason="other")
    elif what < 0.9:
        left_open.append(task)
        time.sleep(chance.random() * 0.5)
    elif left_open:
        answer(left_open.pop())  # perhaps long after somebody else took the slot
