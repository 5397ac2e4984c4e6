"""Live overview of a campaign, for managers and reviewers; and of one's own chat. Hints, the pages fetch the rest."""

from __future__ import annotations

from typing import Any

from accounts.models import User
from config.consumers import TopicConsumer
from labeling.access import LABELING_ROLES, REPORT_ROLES, get_campaign
from labeling.chats import sessions
from labeling.events import topic_of
from labeling.queue.progress import progress


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


class ChatConsumer(TopicConsumer):
    """Sends `{"type": "chat"}` when something was written in the person's chat."""

    policy = "campaign:" + ",".join(LABELING_ROLES)
    interval = 0.2

    def authorize(self, user: User) -> str:
        return sessions.topic_of(get_campaign(user, self.route["campaign_id"], *LABELING_ROLES), user)

    def changes(self, user: User) -> list[dict[str, Any]]:
        return [{"type": "chat"}]
