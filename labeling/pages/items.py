"""What a campaign compares: bringing files in, looking at items and at what people answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import AuthenticatedRequest
from accounts.language import translated
from accounts.models import CampaignRole
from config.paging import page_of
from labeling.access import REPORT_ROLES, campaign_role
from labeling.campaigns import form_of
from labeling.data.formats.base import Format
from labeling.data.formats.columns import NAME as COLUMNS
from labeling.data.formats.registry import FORMATS
from labeling.data.importing import ImportFailed, import_file
from labeling.data.previewing import preview_file
from labeling.data.uploads import is_large, store_upload, waits
from labeling.display.screen import shared_turns, single_turns
from labeling.items import get_item, listed, with_counts
from labeling.models import Campaign, Gold, Item, Ranking
from labeling.pages.campaigns import campaign_context
from labeling.pages.forms import ColumnsForm, DatasetForm, ImportForm
from labeling.protocols.basics import COMPLETIONS, LABELS, in_words, labels_of_tiers
from labeling.protocols.questionnaire import PLAIN, spoken
from labeling.protocols.questions import Flags
from labeling.queue.removal import remove_item, restore_item

PAGE_SIZE = 50


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_import(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Bring a file in, or (`preview`) see what it would bring. `cut` says that only its beginning was sent for that."""
    form = ImportForm(request.POST or None, request.FILES or None)
    preview, columns = None, None
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        is_table = form.cleaned_data["form"] == COLUMNS
        names = preview_file(file, campaign).columns if is_table else []
        columns, chosen = chosen_reading(request, form.cleaned_data["form"], names, campaign)
        file.seek(0)
        if "preview" in request.POST:
            if not columns or columns.is_bound:
                preview = preview_file(file, campaign, chosen=chosen, is_cut="cut" in request.POST)
        elif columns and not columns.is_valid():
            form.add_error("form", _("Say which columns have the prompt and the answers."))
        else:
            try:
                bring = store_upload if is_large(file, file.size) else import_file
                record = bring(campaign, file, name=file.name, user=request.user, chosen=chosen)
                return redirect("campaign_import_report", campaign.public_id, record.pk)
            except ImportFailed as failure:
                form.add_error("file", translated(str(failure)))
    context = campaign_context(request, campaign, "import") | {
        "form": form,
        "columns": columns,
        "preview": preview,
        "dataset_form": DatasetForm(auto_id="id_dataset_%s"),
        "page": page_of(campaign.imports.defer("errors"), request.GET.get("after", ""), "-pk"),
    }
    return render(request, "labeling/campaign_import.html", context, status=422 if form.errors else 200)


def chosen_reading(
    request: AuthenticatedRequest, name: str, columns: Sequence[str], campaign: Campaign
) -> tuple[ColumnsForm | None, Format | None]:
    """What was chosen for all rows; for a table whose columns these are, the form that asks which is what."""
    if name != COLUMNS:
        return None, FORMATS.get(name)
    # As long as nothing is chosen, nothing is wrong either.
    given = request.POST if any(request.POST[key] for key in request.POST if key.startswith("column-")) else None
    form = ColumnsForm(given, columns, COMPLETIONS[campaign.protocol][1])
    return form, form.columns.as_format() if form.is_valid() else None


@campaign_role(CampaignRole.MANAGER)
@require_safe
def import_report(request: AuthenticatedRequest, campaign: Campaign, import_id: int) -> HttpResponse:
    record = get_object_or_404(campaign.imports, pk=import_id)
    context = campaign_context(request, campaign, "import") | {
        "record": record,
        "waits": waits(record),
        "leaky": campaign.leaks.filter(item__source_import=record).values("item").distinct().count(),
    }
    return render(request, "labeling/import_report.html", context)


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_items(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Newest last, a page at a time by key: page 1,000 costs as much as page 1. `removed`: those taken out instead."""
    after, removed = request.GET.get("after", ""), "removed" in request.GET
    items = listed(campaign, removed=removed)
    if after.isascii() and after.isdigit() and len(after) < 19:
        items = items.filter(pk__gt=int(after))
    page = list(items[: PAGE_SIZE + 1])
    more = len(page) > PAGE_SIZE
    page = page[:PAGE_SIZE]
    context = campaign_context(request, campaign, "items") | {
        "rows": with_counts(page),
        "leaky": set(campaign.leaks.filter(item__in=page).values_list("item", flat=True)),
        "after": after,
        "next": page[-1].pk if more else None,
        "removed": removed,
        "some_removed": removed or listed(campaign, removed=True).exists(),
    }
    return render(request, "labeling/campaign_items.html", context)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def item_remove(request: AuthenticatedRequest, campaign: Campaign, item_id: str) -> HttpResponse:
    """Take an item out of the campaign, or put it back."""
    item = get_item(campaign, item_id)
    if "restore" in request.POST:
        restore_item(item, by=request.user)
        messages.success(request, _("The item is back, and its answers count again."))
    else:
        remove_item(item, now=timezone.now(), by=request.user)
        messages.success(request, _("The item is out. Its answers are kept, and count again when you put it back."))
    return redirect("campaign_item", campaign.public_id, item.public_id)


@dataclass(frozen=True)
class Answer:
    """A ranking as a reviewer reads it."""

    ranking: Ranking
    who: str
    order: list[list[str]]
    unranked: list[str]
    flags: list[str]
    said: list[tuple[str, str]]

    @property
    def words(self) -> str:
        """`B > A = C`"""
        return in_words(self.order)


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_item(request: AuthenticatedRequest, campaign: Campaign, item_id: str) -> HttpResponse:
    """One item with its completions in file order, their sources, and everybody's answers."""
    item = get_item(campaign, item_id)
    shown = item_context(item)
    labels = LABELS[: len(shown["completions"])]
    gold = Gold.objects.filter(item=item).first()
    context = campaign_context(request, campaign, "items") | {
        **shown,
        "answers": [answer_of(ranking, labels) for ranking in item.rankings.all()],
        "skips": item.skips.select_related("user").order_by("pk"),
        "gold": gold,
        "gold_order": in_words(labels_of_tiers(gold.tiers, range(len(labels)))) if gold else "",
    }
    return render(request, "labeling/campaign_item.html", context)


def item_context(item: Item) -> dict[str, Any]:
    """The prompt and its completions in file order, as `_item_cards.html` shows them."""
    completions = list(item.completions.all())
    shared = shared_turns([completion.messages for completion in completions])
    endings = [completion.messages[shared:] for completion in completions]
    return {
        "item": item,
        "context_turns": [*item.messages, *completions[0].messages[:shared]],
        "completions": list(zip(LABELS, completions, endings, strict=False)),
        "single_turns": single_turns(endings),
    }


def answer_of(ranking: Ranking, labels: str) -> Answer:
    order = labels_of_tiers(ranking.tiers, range(len(labels)))
    ranked = {label for tier in order for label in tier}
    form = form_of(ranking.campaign, ranking.form_version) if ranking.flags or ranking.details else PLAIN
    flags = form.named(Flags.kind)
    flag_labels = {option.name: _(option.label) for option in flags.options} if isinstance(flags, Flags) else {}
    return Answer(
        ranking=ranking,
        who=ranking.user.username if ranking.user else ranking.labeler,
        order=order,
        unranked=[label for label in labels if label not in ranked],
        flags=[flag_labels.get(flag, flag) for flag in ranking.flags],
        said=spoken(form, ranking.details, labels),
    )
