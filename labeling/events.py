"""Hints to open pages: "this campaign changed". Whoever hears one reads the rows."""

from __future__ import annotations

from config.push import notify
from labeling.models import Campaign


def topic_of(campaign: Campaign) -> str:
    return f"campaign.{campaign.public_id}"


def campaign_changed(campaign: Campaign) -> None:
    """Leaves with the current transaction, or not at all."""
    notify(topic_of(campaign))
