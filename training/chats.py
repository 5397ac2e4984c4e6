"""Which of the registered models can take part in a campaign's live chat, and as what."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import QuerySet

from accounts.models import User
from labeling.chats.setup import Participant
from labeling.models import Campaign, Contestant, LiveChat
from training.models import ModelArtifact
from training.runs import weights_of

TALKING = (ModelArtifact.Kind.BASE, ModelArtifact.Kind.POLICY)


def contestants_of(live_chat: LiveChat) -> QuerySet[Contestant]:
    """Who takes part in new chats."""
    return Contestant.objects.filter(live_chat=live_chat.pk, is_active=True).order_by("pk")


def models_for(user: User, campaign: Campaign) -> QuerySet[ModelArtifact]:
    """Models that this person may see, and those that somebody has chosen for this campaign already."""
    models = ModelArtifact.objects.filter(kind__in=TALKING)
    chosen = Contestant.objects.filter(live_chat=campaign.pk, is_active=True).values("model")
    return models.visible_to(user) | models.filter(public_id__in=chosen)


def participants_of(models: Sequence[ModelArtifact]) -> list[Participant]:
    """The models under names that tell them apart."""
    names = [model.name for model in models]
    return [
        Participant(
            model=model.public_id,
            name=model.name if names.count(model.name) == 1 else f"{model.name} ({model.public_id})",
            server=weights_of(model)["base"],
        )
        for model in models
    ]
