"""People: users with a site role, invitations that expire, API tokens of which only a hash is kept."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class SiteRole(models.TextChoices):
    ADMIN = "admin", _("Admin")
    RESEARCHER = "researcher", _("Researcher")
    ANNOTATOR = "annotator", _("Annotator")


class CampaignRole(models.TextChoices):
    MANAGER = "manager", _("Manager")
    REVIEWER = "reviewer", _("Reviewer")
    ANNOTATOR = "annotator", _("Annotator")


class User(AbstractUser):
    role = models.CharField(max_length=12, choices=SiteRole, default=SiteRole.ANNOTATOR)
    preferences = models.JSONField(default=dict, db_default={}, blank=True, editable=False)

    class Meta:
        constraints = [
            # People sign in with either, in any case; neither may be ambiguous.
            models.UniqueConstraint(
                Lower("username"), name="username_is_unique", violation_error_message=_("This user name is taken.")
            ),
            models.UniqueConstraint(
                Lower("email"),
                condition=~Q(email=""),
                name="email_is_unique",
                violation_error_message=_("An account with this address exists."),
            ),
        ]

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Permissions are the site role; the admin site asks here."""
        return self.is_site_admin

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_site_admin

    @property
    def is_site_admin(self) -> bool:
        return self.is_active and (self.role == SiteRole.ADMIN or self.is_superuser)

    @property
    def is_researcher(self) -> bool:
        """May start runs and create campaigns. Admins may do whatever researchers may."""
        return self.is_site_admin or (self.is_active and self.role == SiteRole.RESEARCHER)


class Invitation(models.Model):
    """A link that makes one account (or one membership). The token itself is shown once; its SHA-256 is stored."""

    digest = models.CharField(max_length=64, unique=True)
    email = models.EmailField(blank=True)
    role = models.CharField(max_length=12, choices=SiteRole, default=SiteRole.ANNOTATOR)
    campaign = models.ForeignKey("labeling.Campaign", null=True, blank=True, on_delete=models.CASCADE)
    campaign_role = models.CharField(max_length=12, choices=CampaignRole, default=CampaignRole.ANNOTATOR)
    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="invitations_sent")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    @property
    def is_usable(self) -> bool:
        return self.accepted_at is None and self.revoked_at is None and self.expires_at > timezone.now()


class Scope(models.TextChoices):
    """What a token may do of what its person may; each includes those before it."""

    READ = "read", _("Read: see what you may see, change nothing")
    LABEL = "label", _("Label: take items and answer them")
    MANAGE = "manage", _("Manage: campaigns, items, members, runs and models")
    ADMIN = "admin", _("Admin: people of the whole site, too")


class ApiToken(models.Model):
    """A named bearer token. The token itself is shown once; its SHA-256 is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12, help_text="First characters, to tell tokens apart.")
    scope = models.CharField(max_length=6, choices=Scope)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "name"], condition=Q(revoked_at=None), name="api_token_name_is_unique"
            )
        ]

    @property
    def is_usable(self) -> bool:
        return self.revoked_at is None and self.expires_at > timezone.now()

    def covers(self, scope: Scope) -> bool:
        order = list(Scope)
        return order.index(scope) <= order.index(Scope(self.scope))
