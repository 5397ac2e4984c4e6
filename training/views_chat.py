"""Set up the live chat of a campaign: the models come from here, the chats themselves are `labeling`'s."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import AuthenticatedRequest
from accounts.models import CampaignRole, User
from labeling.access import campaign_role
from labeling.chats.requests import standing
from labeling.chats.setup import NoLiveChat, set_up
from labeling.models import Campaign, LiveChat
from labeling.pages.campaigns import campaign_context
from labeling.protocols.questions import InvalidForm
from training.chats import contestants_of, models_for, participants_of
from training.models import ModelArtifact

PAGE = "training/live_chat.html"


class LiveChatForm(forms.ModelForm):
    """Who takes part, and how they answer."""

    models = forms.ModelMultipleChoiceField(
        ModelArtifact.objects.none(),
        to_field_name="public_id",
        required=False,
        label=_("Models"),
        help_text=_("Two or more. Each chat is with two of them, drawn at random, on random sides."),
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = LiveChat
        fields = ["temperature", "max_new_tokens", "max_turns", "target", "is_on"]
        labels = {"is_on": _("People can chat"), "temperature": _("Temperature")}

    def __init__(self, *args: Any, user: User, campaign: Campaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["models"]
        assert isinstance(field, forms.ModelMultipleChoiceField)
        field.queryset = models_for(user, campaign)
        self.initial["models"] = list(contestants_of(self.instance).values_list("model", flat=True))

    def settings(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in self.Meta.fields}


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
def live_chat(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    found = LiveChat.objects.filter(pk=campaign.pk).first()
    form = LiveChatForm(request.POST or None, instance=found, user=request.user, campaign=campaign)
    if request.method == "POST" and form.is_valid():
        try:
            set_up(
                Campaign.objects.get(pk=campaign.pk),
                participants_of(list(form.cleaned_data["models"])),
                by=request.user,
                **form.settings(),
            )
            messages.success(request, _("Saved. The models are loaded when somebody begins a chat."))
            return redirect("campaign_live_chat", campaign.public_id)
        except (NoLiveChat, InvalidForm) as problem:
            form.add_error(None, str(problem))
    context = campaign_context(request, campaign, "chat") | {"form": form} | _standing(campaign)
    return render(request, PAGE, context, status=422 if form.errors else 200)


@campaign_role(CampaignRole.MANAGER)
@require_safe
def live_chat_standing(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """The part that changes while people chat."""
    return render(request, f"{PAGE}#standing", {"campaign": campaign} | _standing(campaign))


def _standing(campaign: Campaign) -> dict[str, Any]:
    found = LiveChat.objects.filter(pk=campaign.pk).first()
    if found is None:
        return {"live_chat": None}
    contestants = contestants_of(found).select_related("server")
    return {
        "live_chat": found,
        "contestants": [(one, standing(one.server, now=timezone.now())) for one in contestants],
    }
