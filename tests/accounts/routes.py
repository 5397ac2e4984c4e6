"""Every route of the site, and a world in which each id of a route exists twice: once near a person and once far away.

Near: the campaign that the cast works in, with everything in it. Far: a campaign, run, lease and so on of strangers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from accounts import invitations
from accounts.models import User
from accounts.tokens import create_token
from labeling.models import Campaign, Completion, Delivery, Import, Item, Ranking, Slot, Webhook
from tests.conftest import make_member, make_user
from training.models import ModelArtifact, TrainingRun

# Routes of other people's code (a folder of URLs or a package), which cannot carry our policy, and why each may stand.
THIRD_PARTY = {
    "allauth.": "sign-in: open by nature, or behind allauth's own login_required",
    "admin/": "the admin site asks config.admin.Site.has_permission before every view",
    "drf_spectacular.": "the schema of the API, for the signed-in (SERVE_PERMISSIONS)",
}
ROLES = ("anonymous", "outsider", "annotator", "reviewer", "manager", "researcher", "lead", "admin")


@dataclass(frozen=True)
class Route:
    name: str
    path: str
    callback: Any
    arguments: tuple[str, ...]

    @property
    def view(self) -> Any:
        """The DRF class, or the function."""
        return getattr(self.callback, "cls", self.callback)

    @property
    def is_api(self) -> bool:
        return hasattr(self.callback, "cls")

    @property
    def policy(self) -> str:
        return getattr(self.view, "policy", "")

    @property
    def module(self) -> str:
        inner = self.callback
        while hasattr(inner, "__wrapped__"):
            inner = inner.__wrapped__
        return str(getattr(self.view, "__module__", inner.__module__))


def all_routes() -> Iterator[Route]:
    yield from _walk(get_resolver(), "", "", ())


def _walk(resolver: URLResolver, prefix: str, space: str, arguments: tuple[str, ...]) -> Iterator[Route]:
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        names = arguments + tuple(entry.pattern.converters or entry.pattern.regex.groupindex)
        if isinstance(entry, URLResolver):
            yield from _walk(entry, path, f"{space}{entry.namespace}:" if entry.namespace else space, names)
        elif isinstance(entry, URLPattern):
            yield Route(f"{space}{entry.name or ''}", path, entry.callback, names)


def is_third_party(route: Route) -> bool:
    return any(where(route).startswith(prefix) for prefix in THIRD_PARTY)


def where(route: Route) -> str:
    return route.path if route.path.startswith("admin/") else route.module


def own_routes() -> list[Route]:
    return [route for route in all_routes() if not is_third_party(route)]


@dataclass(frozen=True)
class Corner:
    """A campaign with one of everything, and the people around it."""

    campaign: Campaign
    annotator: User
    researcher: User
    ids: dict[str, Any]


def make_corner(name: str, admin: User, version: int) -> Corner:
    campaign = Campaign.objects.create(
        name=name, protocol="pair", state="open", created_by=admin, slot_count=1, form_version=version
    )
    annotator = make_member(campaign, make_user(f"{name}-annotator"), "annotator")
    reviewer = make_member(campaign, make_user(f"{name}-reviewer"), "reviewer")
    researcher = make_user(f"{name}-researcher", "researcher")
    item = Item.objects.create(
        campaign=campaign, messages=[{"role": "user", "content": "Which?"}], content_hash=name.ljust(64, "0")
    )
    for index in range(2):
        messages = [{"role": "assistant", "content": f"Answer {index}"}]
        Completion.objects.create(item=item, index=index, messages=messages)
    lease = uuid.uuid4()
    now = timezone.now()
    Slot.objects.create(
        campaign=campaign,
        item=item,
        state="leased",
        user=annotator,
        lease=lease,
        leased_at=now,
        expires_at=now + timedelta(hours=1),
        shown_order=[0, 1],
    )
    campaign.contributions.create(user=reviewer)
    campaign.contributions.create(user=annotator, done=1, extra=1)
    given = {
        "item": item,
        "campaign": campaign,
        "user": annotator,
        "labeler": name,
        "tiers": [[0], [1]],
        "shown_order": [0, 1],
        "protocol": "pair",
        "guidelines_version": 1,
    }
    ranking = Ranking.objects.create(status="withdrawn", **given)
    run = TrainingRun.objects.create(name=name, kind="reward", state="succeeded", owner=researcher, campaign=campaign)
    model = ModelArtifact.objects.create(name=name, kind="reward", base_model="base", run=run, created_by=researcher)
    webhook = Webhook.objects.create(campaign=campaign, url="https://example.org/hook", created_by=admin)
    delivery = Delivery.objects.create(webhook=webhook, event="test", payload={}, state="failed", next_at=now)
    invitation, token = invitations.create_invitation(admin, campaign=campaign)
    ids = {
        "campaign_id": campaign.public_id,
        "import_id": Import.objects.create(campaign=campaign, user=admin, name="file.jsonl").pk,
        "sample_id": campaign.dataset_samples.create(dataset={"name": "a/b"}, user=admin).pk,
        "export_id": campaign.export_files.create(what="rankings", container="jsonl", user=admin).pk,
        "item_id": item.public_id,
        "ranking_id": ranking.public_id,
        "own_ranking_id": Ranking.objects.create(**given).public_id,
        "lease": lease,
        "lease_id": lease,
        "run_id": run.public_id,
        "model_id": model.public_id,
        "user_id": reviewer.pk,
        "version": version,
        "token_id": create_token(annotator, name="script")[0].pk,
        "invitation_id": invitation.pk,
        "token": token,
        "webhook_id": webhook.public_id,
        "delivery_id": delivery.public_id,
    }
    return Corner(campaign, annotator, researcher, ids)


@dataclass(frozen=True)
class World:
    people: dict[str, User]
    near: Corner
    far: Corner

    def urls(self, route: Route) -> list[tuple[str, bool]]:
        """Each way to fill the route's arguments: (URL, everything in it is near)."""
        places = [
            [(name, self._id(self.near, name), True), (name, self._id(self.far, name), False)]
            for name in route.arguments
        ]
        return [
            (reverse(route.name, kwargs={name: value for name, value, _ in choice}), all(near for *_, near in choice))
            for choice in product(*places)
        ]

    @staticmethod
    def _id(corner: Corner, name: str) -> Any:
        if name not in corner.ids:
            raise KeyError(f"Routes have a new argument {name!r}: give make_corner one of it, so that it is tested.")
        return corner.ids[name]


def make_world() -> World:
    admin = make_user("chief", "admin")
    near, far = make_corner("near", admin, version=1), make_corner("far", admin, version=2)
    manager = make_member(near.campaign, make_user("manager"), "manager")
    # A researcher who manages the campaign sees its runs; the one who owns the run is no member.
    lead = make_member(near.campaign, make_user("lead", "researcher"), "manager")
    people = {
        "outsider": make_user("outsider"),
        "annotator": near.annotator,
        "reviewer": User.objects.get(pk=near.ids["user_id"]),
        "manager": manager,
        "researcher": near.researcher,
        "lead": lead,
        "admin": admin,
    }
    return World(people, near, far)
