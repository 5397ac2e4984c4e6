"""Forms to start a run. The fields of the settings come from the engine's config classes: one place says what exists.

Everything has a default, so a form that was opened with a campaign can be sent as it is.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from labeling.models import Campaign, Ranking
from training.access import campaigns_to_train_on
from training.engine.config import KINDS
from training.models import ModelArtifact, TrainingRun
from training.process import offers_ray
from training.runs import FILLED_IN, Inputs
from training.selection import HELD_OUT, PromptOptions
from training.snapshots import SnapshotFilters
from training.wording import CHOICES, GROUPS, LABELS

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

CHOSEN_APART = (*FILLED_IN, "versus")
PREFIX = "setting_"


class RunForm(forms.Form):
    """A new run of one kind. `kind` decides which models and which settings are asked for."""

    name = forms.CharField(
        label=_("Name"), max_length=120, required=False, help_text=_("Left empty, it is named after the campaign.")
    )

    def __init__(self, *args: Any, kind: str, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind
        self.models = ModelArtifact.objects.visible_to(user)
        self._add_inputs(user)
        for field in dataclasses.fields(KINDS[kind]):
            if field.name not in CHOSEN_APART and (field.name != "executor" or offers_ray()):
                self.fields[PREFIX + field.name] = setting_field(KINDS[kind], field)
        if PREFIX + "executor" in self.fields:
            self.fields[PREFIX + "executor"].initial = settings.EXECUTOR

    @property
    def shown(self) -> list[forms.BoundField]:
        """Fields of the first glance."""
        basic = {PREFIX + f.name for f in dataclasses.fields(KINDS[self.kind]) if f.metadata["basic"]}
        return [self[name] for name in self.fields if name in basic or not name.startswith((PREFIX, "data_"))]

    @property
    def advanced(self) -> list[forms.BoundField]:
        """Fields to unfold."""
        shown = {field.name for field in self.shown}
        return [self[name] for name in self.fields if name not in shown]

    @property
    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Fields to unfold, by heading."""
        left = {field.name.removeprefix(PREFIX): field for field in self.advanced}
        found = [(str(_(title)), [left.pop(name) for name in names if name in left]) for title, names in GROUPS.items()]
        return [(title, fields) for title, fields in [*found, (str(_("More")), list(left.values()))] if fields]

    @property
    def advanced_open(self) -> bool:
        """Unfolded at once: something is wrong in there, or a link has filled something in."""
        filled = self.initial.get("data_without") or self.initial.get("data_weigh")
        return bool(filled) or any(field.errors for field in self.advanced)

    def inputs(self) -> Inputs:
        """What the run works with, after validation."""
        data = self.cleaned_data
        versus = data.get("versus", "")
        return Inputs(
            campaign=data["campaign"],
            base=data["base"],
            reward=data.get("reward"),
            more_rewards=tuple(data.get("data_more_rewards", ())),
            versus=None if versus in ("", "base") else self.models.get(public_id=versus),
            filters=SnapshotFilters(
                origin=data.get("data_origin", ""),
                without=tuple(data.get("data_without", "").replace(",", " ").split()),
                weigh=data.get("data_weigh", False),
            ),
            prompts=PromptOptions(
                limit=data.get("data_limit") or 0, eval_fraction=data.get("data_eval_fraction") or 0.0
            ),
        )

    def settings(self) -> dict[str, Any]:
        """The settings as the engine's config takes them."""
        values = {
            name.removeprefix(PREFIX): value for name, value in self.cleaned_data.items() if name.startswith(PREFIX)
        }
        if self.cleaned_data.get("versus") == "base":
            values["versus"] = "base"
        return values

    def _add_inputs(self, user: User) -> None:
        kinds = ModelArtifact.Kind
        start = self.models.filter(kind__in=(kinds.BASE, kinds.POLICY))
        self.fields["campaign"] = _choice(campaigns_to_train_on(user), CAMPAIGN_HELP[self.kind], label=_("Campaign"))
        self.fields["base"] = _choice(start, BASE_HELP[self.kind], label=BASE_LABELS[self.kind])
        if self.kind == TrainingRun.Kind.PPO:
            self._add_rewards(_("Its score is what PPO maximises."), required=True)
            self.fields["data_eval_fraction"] = forms.FloatField(
                label=_("Share of prompts held out"),
                initial=HELD_OUT,
                min_value=0,
                max_value=0.9,
                widget=forms.NumberInput(attrs={"step": "any"}),
                help_text=_("Never trained on; the samples on the run's page answer these."),
            )
        if self.kind == TrainingRun.Kind.SAMPLING:
            policies = [(one.public_id, str(one)) for one in self.models.filter(kind=kinds.POLICY)]
            self.fields["versus"] = forms.ChoiceField(
                label=_("Second model"),
                required=False,
                choices=[("", _("None")), ("base", _("The bare base model")), *policies],
                help_text=_("Answers the same prompts, so that people can compare the two models."),
            )
            self.fields["data_limit"] = forms.IntegerField(
                label=_("Most prompts"), initial=0, min_value=0, help_text=_("Drawn evenly; 0 takes all.")
            )
            self._add_rewards(_("Says which answer is best, where “Best of” is above 1."), required=False)
        if self.kind in (TrainingRun.Kind.REWARD, TrainingRun.Kind.SFT):
            self.fields["data_origin"] = forms.ChoiceField(
                label=_("Rankings"),
                required=False,
                choices=[
                    ("", _("All accepted ones")),
                    *((value, _("By origin: {name}").format(name=name)) for value, name in _origins()),
                ],
                help_text=_("Which of the campaign's rankings are frozen for this run."),
            )
            self.fields["data_without"] = forms.CharField(
                label=_("Leave out"),
                required=False,
                max_length=2000,
                help_text=_("Pseudonyms of people whose rankings are not taken, separated by spaces."),
            )
        if self.kind == TrainingRun.Kind.REWARD:
            self.fields["data_weigh"] = forms.BooleanField(
                label=_("Weigh annotators by their reliability"),
                required=False,
                help_text=_(
                    "Rankings count by the share of their annotator's answers that are no guesses, as the "
                    "campaign's report shows it. Needs answers of several people to the same items."
                ),
            )

    def _add_rewards(self, help_text: StrOrPromise, *, required: bool) -> None:
        rewards = self.models.for_ppo()
        self.fields["reward"] = _choice(rewards, help_text, label=_("Reward model"), required=required)
        self.fields["data_more_rewards"] = forms.ModelMultipleChoiceField(
            rewards,
            to_field_name="public_id",
            required=False,
            label=_("Further reward models"),
            help_text=_("Their scores are added."),
        )


CAMPAIGN_HELP = {
    "reward": _("Its accepted rankings are frozen and learned from."),
    "sft": _("The answers that people put first are frozen and imitated."),
    "ppo": _("Its prompts are answered during training."),
    "sampling": _("Its prompts are answered."),
}
BASE_LABELS = {"reward": _("Base model"), "sft": _("Start from"), "ppo": _("Start from"), "sampling": _("Model")}
BASE_HELP = {
    "reward": _("The reward model is an adapter on it. Take the base of the model whose answers were ranked."),
    "sft": _("A base model or a policy."),
    "ppo": _("A base model or a policy; it is also the reference that the KL penalty keeps the policy near to."),
    "sampling": _("Draws the answers."),
}


class ModelForm(forms.Form):
    """Register a base model."""

    path = forms.CharField(
        max_length=500,
        label=_("Hub name or folder"),
        help_text=_(
            "For example HuggingFaceTB/SmolLM2-135M-Instruct, or an absolute path to a folder with safetensors."
        ),
        widget=forms.TextInput(
            attrs={"aria-describedby": "id_path_help", "autocomplete": "off", "spellcheck": "false"}
        ),
    )
    name = forms.CharField(
        label=_("Name"), max_length=120, required=False, help_text=_("Left empty, it is the last part of the path.")
    )


class CampaignFromRunForm(forms.Form):
    """Turn what a sampling run drew into a campaign."""

    name = forms.CharField(label=_("Name"), max_length=120)
    protocol = forms.ChoiceField(label=_("Protocol"), choices=Campaign.Protocol.choices)
    overlap = forms.IntegerField(min_value=1, max_value=50, initial=1, label=_("People per item"))


def setting_field(config: type, field: dataclasses.Field[Any]) -> forms.Field:
    """The form field of one setting: its type, bounds, choices, default and documentation."""
    wanted = typing.get_type_hints(config)[field.name]
    meta = field.metadata
    common: dict[str, Any] = {
        "label": LABELS.get(field.name) or field.name.replace("_", " ").capitalize(),
        "help_text": meta["doc"],
        "initial": field.default,
    }
    if meta["choices"]:
        return forms.ChoiceField(
            choices=[(choice, CHOICES.get(choice, choice)) for choice in meta["choices"]], **common
        )
    if wanted is bool:
        return forms.BooleanField(required=False, **common)
    if wanted is str:
        return forms.CharField(required=False, **common)
    if wanted is int:
        return forms.IntegerField(min_value=meta["low"], max_value=meta["high"], **common)
    number = forms.NumberInput(attrs={"step": "any"})
    return forms.FloatField(min_value=meta["low"], max_value=meta["high"], widget=number, **common)


def prefilled(kind: str, user: User, query: dict[str, str]) -> dict[str, Any]:
    """Initial values of a form: what the link names, and for the rest what most likely comes next."""
    models = ModelArtifact.objects.visible_to(user)

    def named(name: str) -> ModelArtifact | None:
        given = query.get(name, "")
        return models.filter(public_id=given).first() if given.isalnum() else None

    reward, base = named("reward"), named("base")
    campaign = campaigns_to_train_on(user).filter(public_id=query.get("campaign", "").replace("\x00", "")).first()
    if kind == TrainingRun.Kind.PPO:
        reward = reward or models.for_ppo().first()
        base = base or (reward.parent if reward else None)
        campaign = campaign or (reward.snapshot.campaign if reward and reward.snapshot else None)
    base = base or models.filter(Q(kind=ModelArtifact.Kind.BASE)).first()
    initial: dict[str, Any] = {
        "campaign": campaign or campaigns_to_train_on(user).first(),
        "base": base,
        "reward": reward,
        "data_without": query.get("without", "").replace("\x00", "")[:2000],
        "data_weigh": query.get("weigh") == "on",
    }
    if kind == TrainingRun.Kind.SAMPLING and base and base.kind == ModelArtifact.Kind.POLICY:
        before = base.parent
        initial["versus"] = before.public_id if before and before.kind == ModelArtifact.Kind.POLICY else "base"
    return initial


def _choice(
    queryset: Any, help_text: StrOrPromise, label: StrOrPromise | None = None, *, required: bool = True
) -> forms.ModelChoiceField:
    empty = _("Choose …") if required else _("None")
    return forms.ModelChoiceField(
        queryset, to_field_name="public_id", empty_label=empty, help_text=help_text, label=label, required=required
    )


def _origins() -> list[tuple[str, str]]:
    return [(str(value), str(name)) for value, name in Ranking.Origin.choices]
