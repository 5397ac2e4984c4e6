"""Invitations: a link that expires, works once, and makes an account or a campaign membership.

The link holds a random token; only its SHA-256 is stored. Whether the sender may invite is checked when the link is
made and again when it is used, so a link dies with its sender's rights.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import CampaignRole, Invitation, SiteRole, User
from accounts.tokens import digest_of
from labeling.audit import record
from labeling.models import Campaign, Membership


class InvitationRefused(Exception):
    """The sender may not invite to this."""


class InvitationUnusable(Exception):
    """Unknown, used, revoked, expired, or its sender lost the right to invite. The cases are not told apart."""


class CannotJoin(Exception):
    """The invitation is fine, this person cannot use it; the message says why."""


def may_invite(sender: User, *, role: str, campaign: Campaign | None) -> bool:
    """Admins invite anybody to anything; managers invite annotators to the campaigns they manage."""
    if sender.is_site_admin:
        return True
    if campaign is None or role != SiteRole.ANNOTATOR:
        return False
    return Campaign.objects.with_role(sender, CampaignRole.MANAGER).filter(pk=campaign.pk).exists()


def create_invitation(
    sender: User,
    *,
    role: str = SiteRole.ANNOTATOR,
    campaign: Campaign | None = None,
    campaign_role: str = CampaignRole.ANNOTATOR,
    email: str = "",
    days: int = 7,
    now: datetime | None = None,
) -> tuple[Invitation, str]:
    """A new invitation and its token, which cannot be shown again."""
    if not may_invite(sender, role=role, campaign=campaign):
        raise InvitationRefused(_("You may not invite people to this."))
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        digest=digest_of(token),
        email=email,
        role=role,
        campaign=campaign,
        campaign_role=campaign_role,
        created_by=sender,
        expires_at=(now or timezone.now()) + timedelta(days=days),
    )
    record(sender, "invitation.create", email, campaign=campaign, role=campaign_role if campaign else role)
    return invitation, token


def find_usable(token: str, *, lock: bool = False) -> Invitation:
    """The invitation behind a token. With `lock`, its row stays locked until the transaction ends."""
    rows = Invitation.objects.select_related("campaign", "created_by")
    if lock:
        rows = rows.select_for_update(of=("self",))
    invitation = rows.filter(digest=digest_of(token)).first()
    if invitation is None or not invitation.is_usable:
        raise InvitationUnusable
    if not may_invite(invitation.created_by, role=invitation.role, campaign=invitation.campaign):
        raise InvitationUnusable
    return invitation


@transaction.atomic
def accept_as_new_person(token: str, *, username: str, email: str, password: str) -> User:
    """Make the account, with its membership where the invitation names a campaign."""
    invitation = find_usable(token, lock=True)
    try:
        with transaction.atomic():
            user = User.objects.create_user(username, email, password, role=invitation.role)
    except IntegrityError:
        # The form looked before; somebody else took the name or the address in between.
        raise CannotJoin(_("This user name or email address has just been taken.")) from None
    _use(invitation, user)
    return user


@transaction.atomic
def accept_as(user: User, token: str) -> Invitation:
    """Give somebody who has an account the membership. Their site role stays as it is."""
    invitation = find_usable(token, lock=True)
    if invitation.campaign is None:
        raise CannotJoin(_("You have an account already; this invitation is for somebody new."))
    _use(invitation, user)
    return invitation


def _use(invitation: Invitation, user: User) -> None:
    if invitation.campaign is not None:
        _membership, created = Membership.objects.get_or_create(
            campaign=invitation.campaign, user=user, defaults={"role": invitation.campaign_role}
        )
        if not created:
            raise CannotJoin(_("You are a member of this campaign already."))
    invitation.accepted_by, invitation.accepted_at = user, timezone.now()
    invitation.save(update_fields=["accepted_by", "accepted_at"])


def open_ones() -> QuerySet[Invitation]:
    """Invitations that can still be used, newest first."""
    usable = Invitation.objects.filter(accepted_at=None, revoked_at=None, expires_at__gt=timezone.now())
    return usable.select_related("campaign", "created_by").order_by("-pk")


def revocable_by(user: User) -> QuerySet[Invitation]:
    """All for an admin, else those to campaigns this person manages."""
    if user.is_site_admin:
        return Invitation.objects.all()
    return Invitation.objects.filter(campaign__in=Campaign.objects.with_role(user, CampaignRole.MANAGER))


@transaction.atomic
def revoke(invitation: Invitation, *, by: User | None = None) -> None:
    """Make an open invitation unusable; one that was used or revoked stays as it is."""
    open_one = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None)
    if open_one.update(revoked_at=timezone.now()):
        record(by, "invitation.revoke", invitation.email, campaign=invitation.campaign)
