"""Reads that read as English. Start from the person: `Campaign.objects.visible_to(user)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

from accounts.models import CampaignRole, User

if TYPE_CHECKING:
    from labeling.models import Campaign, Ranking  # noqa: F401


COUNTED = ("normal", "adjudicated")  # kinds of answers that tell about completions; those to checks tell about people


class CampaignQuerySet(models.QuerySet["Campaign"]):
    def visible_to(self, user: User) -> CampaignQuerySet:
        """Campaigns this person may know of: all for an admin, else those with a membership."""
        return self.with_role(user, *CampaignRole)

    def with_role(self, user: User, *roles: CampaignRole, even_deleted: bool = False) -> CampaignQuerySet:
        """Campaigns in which this person holds one of `roles` (an admin holds every role)."""
        if not user.is_active:
            return self.none()
        there = self if even_deleted else self.filter(deleted_at=None)
        return there if user.is_site_admin else there.filter(memberships__user=user, memberships__role__in=roles)


class RankingQuerySet(models.QuerySet["Ranking"]):
    def accepted(self) -> RankingQuerySet:
        """Answers that count; those to checks are not among them."""
        return self.filter(status="accepted", kind__in=COUNTED)

    def given(self) -> RankingQuerySet:
        """What stands of what people were asked, checks too; what reviewers decided instead is not among it."""
        return self.filter(status="accepted").exclude(kind="adjudicated")

    def ranked(self) -> RankingQuerySet:
        """Accepted answers that rank something: those who cannot tell do not."""
        return self.accepted().filter(cannot_tell=False)
