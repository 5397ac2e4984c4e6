"""Changing what a campaign does about quality by itself."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts.models import User
from labeling.audit import record
from labeling.models import Campaign, QualityRules
from labeling.queue.checks import reschedule


@transaction.atomic
def change_rules(campaign: Campaign, *, by: User | None = None, **changes: Any) -> QualityRules:
    """Set some of the rules; the others stay. Everybody's next check is drawn anew when that rule changes."""
    rules = QualityRules.objects.select_for_update().get_or_create(campaign=campaign)[0]
    changed = {name: value for name, value in changes.items() if getattr(rules, name) != value}
    if not changed:
        return rules
    for name, value in changed.items():
        setattr(rules, name, value)
    rules.save(update_fields=list(changed))
    if "check_every" in changed:
        reschedule(campaign, rules.check_every)
    brief: dict[str, Any] = {
        name: value if isinstance(value, (int, bool)) else str(value)[:200] for name, value in changed.items()
    }
    record(by, "campaign.rules", campaign, **brief)
    return rules
