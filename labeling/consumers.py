"""Live overview of a campaign: a hint for every change, to managers and reviewers."""

from __future__ import annotations

from typing import Any

from accounts.models import User
from config.consumers import TopicConsumer
from labeling.access import REPORT_ROLES, get_campaign
from labeling.assignment import progress
from labeling.events import topic_of


class CampaignConsumer(TopicConsumer):
    """Sends `{"type": "progress", "state", "done", "total"}`; the page fetches what it wants to show."""

    policy = "campaign:" + ",".join(REPORT_ROLES)
    interval = 0.5

    def authorize(self, user: User) -> str:
        self.campaign = get_campaign(user, self.route["campaign_id"], *REPORT_ROLES)
        return topic_of(self.campaign)

    def changes(self, user: User) -> list[dict[str, Any]]:
        now = progress(user, self.campaign)
        return [{"type": "progress", "state": self.campaign.state, "done": now.done, "total": now.total}]
