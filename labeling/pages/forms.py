"""Forms of the campaign pages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.language import translated
from accounts.models import CampaignRole, User
from labeling.data.formats import columns
from labeling.data.formats.columns import Columns
from labeling.data.formats.registry import FORMATS
from labeling.data.hub import Dataset
from labeling.models import Campaign, QualityRules
from labeling.protocols.basics import LABELS
from labeling.protocols.presets import PRESETS
from labeling.webhooks import events_for

MAX_GUIDELINES = 50_000
MAX_UPLOAD = 1024 * 1024 * 1024


class CampaignForm(forms.ModelForm):
    """Create or change a campaign. The protocol is fixed once there are items."""

    guidelines = forms.CharField(
        label=_("Guidelines"),
        required=False,
        max_length=MAX_GUIDELINES,
        help_text=_("Markdown. Annotators can open it beside every item."),
        widget=forms.Textarea(attrs={"rows": 12}),
    )

    class Meta:
        model = Campaign
        fields = ["name", "protocol", "overlap", "order", "edit_minutes", "guidelines"]
        widgets = {"protocol": forms.RadioSelect, "order": forms.RadioSelect}
        labels = {"name": _("Name"), "protocol": _("Protocol"), "overlap": _("Overlap"), "order": _("Order")}
        help_texts = {"overlap": _("How many people answer each item. More than one shows how far they agree.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and self.instance.items.exists():
            self.fields["protocol"].disabled = True
        self.fields["order"].required = False

    def clean_edit_minutes(self) -> int:
        minutes: int | None = self.cleaned_data["edit_minutes"]
        return self.instance.edit_minutes if minutes is None else minutes

    def clean_order(self) -> str:
        """Left as it is by whoever does not send it."""
        order: str = self.cleaned_data["order"] or self.instance.order
        return order


class NewCampaignForm(CampaignForm):
    """A campaign that begins with a preset, which says what people compare."""

    preset = forms.ChoiceField(
        label=_("What people are asked"),
        choices=[(preset.name, preset.title) for preset in PRESETS.values()],
        initial="plain",
        widget=forms.RadioSelect,
    )

    class Meta(CampaignForm.Meta):
        fields = ["name", "overlap", "order", "guidelines"]


class ReadingForm(forms.Form):
    """How rows are read."""

    form = forms.ChoiceField(
        label=_("Read it as"),
        required=False,
        choices=[
            ("", _("What each row looks like")),
            *((format.name, _(format.title)) for format in FORMATS.values()),
            (columns.NAME, _(columns.TITLE)),
        ],
    )


class ImportForm(ReadingForm):
    file = forms.FileField(
        label=_("File"),
        help_text=_("JSON, CSV or Parquet; plain, gzip or zstd."),
        widget=forms.FileInput(attrs={"accept": ".jsonl,.json,.csv,.tsv,.parquet,.gz,.zst"}),
    )

    field_order = ["file", "form"]

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MAX_UPLOAD:
            raise forms.ValidationError(
                _("This file is larger than 1 GiB. Use `manage.py import_items` on the server.")
            )
        return file


class DatasetForm(forms.Form):
    """A dataset of the Hugging Face hub, or (for admins) a folder of the server."""

    name = forms.CharField(max_length=250, label=_("Name"), help_text=_("On the hub, such as Anthropic/hh-rlhf."))
    subset = forms.CharField(label=_("Subset"), max_length=100, initial="default")
    split = forms.CharField(label=_("Split"), max_length=100, initial="train")
    limit = forms.IntegerField(
        min_value=0,
        max_value=2**31 - 1,
        initial=0,
        label=_("Most rows"),
        help_text=_("0 takes all; 100 show what comes."),
    )

    def dataset(self) -> Dataset:
        """Of a valid form."""
        return Dataset(**self.cleaned_data)


COLUMNS = {
    "prompt": _("Prompt"),
    "winner": _("Winner"),
    "answer": _("Answer"),
    "source": _("Source"),
    "score": _("Score"),
}


class ColumnsForm(forms.Form):
    """Which column of a table is what, for as many answers as the campaign compares."""

    prompt = forms.CharField(label=_("Prompt"), max_length=200, strip=False)
    winner = forms.CharField(label=_("Winner"), max_length=200, strip=False, required=False)

    def __init__(self, data: Any, names: Sequence[str] = (), most: int = 2) -> None:
        super().__init__(data, prefix="column")
        self.letters = LABELS[: max(2, min(most, len(names)))].lower()
        for kind, letter in product(("answer", "source", "score"), self.letters):
            needed = kind == "answer" and letter in "ab"
            self.fields[f"{kind}_{letter}"] = forms.CharField(max_length=200, strip=False, required=needed)
        for name, field in self.fields.items():
            kind, _underscore, letter = name.partition("_")
            label = {"aria-label": f"{COLUMNS[kind]} {letter}".strip()}
            field.widget = forms.Select(choices=[("", "–"), *((column, column) for column in names)], attrs=label)

    @property
    def answers(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Each answer's letter, and the fields that ask for its column, its source and its score."""
        kinds = ("answer", "source", "score")
        return [(letter.upper(), [self[f"{kind}_{letter}"] for kind in kinds]) for letter in self.letters]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        given = [letter for letter in self.letters if data.get(f"answer_{letter}")]
        chosen = {kind: tuple(data.get(f"{kind}_{letter}", "") for letter in given) for kind in ("source", "score")}
        try:
            self.columns = Columns(
                data.get("prompt", ""),
                tuple(data[f"answer_{letter}"] for letter in given),
                chosen["source"] if any(chosen["source"]) else (),
                data.get("winner", ""),
                chosen["score"] if any(chosen["score"]) else (),
            )
        except ValueError as error:
            raise forms.ValidationError(translated(str(error))) from None
        return data


class WebhookForm(forms.Form):
    """An address that wants to hear what happens."""

    url = forms.URLField(max_length=500, label=_("Address"), assume_scheme="https", help_text=_("Begins with https://"))
    events = forms.MultipleChoiceField(
        label=_("Events"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen stands for all."),
    )

    def __init__(self, *args: Any, campaign: Campaign | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.fields["events"]
        assert isinstance(chosen, forms.MultipleChoiceField)
        chosen.choices = list(events_for(campaign).items())


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=_("Role"), choices=CampaignRole.choices)


class MemberForm(RoleForm):
    """Add somebody who has an account."""

    username = forms.CharField(max_length=150, label=_("User name"))
    field_order = ["username", "role"]

    def clean_username(self) -> User:
        person = User.objects.filter(username=self.cleaned_data["username"], is_active=True).first()
        if person is None:
            raise forms.ValidationError(_("Nobody here has this user name. Invite them with a link instead."))
        return person


class RulesForm(forms.ModelForm):
    """What a campaign does about quality by itself."""

    GROUPS = {
        _("Practice"): ("practice_items", "practice_accuracy"),
        _("Checks"): ("check_every", "gold_accuracy", "pause_suspects"),
        _("Review"): ("review_share",),
        _("How many answers"): ("most_overlap", "certainty"),
        _("Who wrote it"): ("leak_words", "hold_leaks"),
        _("Pay"): ("hourly_pay", "currency", "most_seconds"),
    }

    class Meta:
        model = QualityRules
        exclude = ["campaign"]
        labels = {"hourly_pay": _("Hourly pay"), "currency": _("Currency")}
        widgets = {"leak_words": forms.Textarea(attrs={"rows": 4})}

    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        """The fields under their headings."""
        return [(str(title), [self[name] for name in names]) for title, names in self.GROUPS.items()]
