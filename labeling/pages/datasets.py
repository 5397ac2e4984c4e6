"""Bringing in a dataset by its name: at once, or after a look at its first rows."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import AuthenticatedRequest
from accounts.language import translated
from accounts.models import CampaignRole
from labeling.access import campaign_role
from labeling.data.hub import Dataset, store_dataset
from labeling.data.importing import ImportFailed
from labeling.data.samples import order_sample, preview_sample
from labeling.models import Campaign
from labeling.pages.campaigns import campaign_context
from labeling.pages.forms import DatasetForm, ReadingForm
from labeling.pages.items import chosen_reading


@campaign_role(CampaignRole.MANAGER)
@require_POST
def campaign_import_dataset(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Ask a worker to import a dataset, or (`preview`) to fetch its first rows."""
    form = DatasetForm(request.POST)
    problems = [str(problem) for found in form.errors.values() for problem in found]
    if form.is_valid():
        try:
            if "preview" in request.POST:
                sample = order_sample(campaign, form.dataset(), user=request.user)
                return redirect("campaign_dataset_sample", campaign.public_id, sample.pk)
            record = store_dataset(campaign, form.dataset(), user=request.user)
            return redirect("campaign_import_report", campaign.public_id, record.pk)
        except ImportFailed as failure:
            problems = [translated(str(failure))]
    messages.error(request, " ".join(problems))
    return redirect("campaign_import", campaign.public_id)


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
def dataset_sample(request: AuthenticatedRequest, campaign: Campaign, sample_id: int) -> HttpResponse:
    """The first rows of a dataset, and what they bring when read as chosen; then import it like that."""
    sample = get_object_or_404(campaign.dataset_samples.select_related("campaign"), pk=sample_id)
    dataset = Dataset(**sample.dataset)
    form = ReadingForm(request.POST or None)
    preview, columns = preview_sample(sample), None
    if request.method == "POST" and form.is_valid() and preview:
        columns, chosen = chosen_reading(request, form.cleaned_data["form"], preview.columns, campaign)
        preview = preview_sample(sample, chosen=chosen) if columns is None or columns.is_bound else None
        if columns and not chosen and "preview" not in request.POST:
            form.add_error("form", _("Say which columns have the prompt and the answers."))
        elif "preview" not in request.POST:
            try:
                record = store_dataset(campaign, dataset, user=request.user, chosen=chosen)
                return redirect("campaign_import_report", campaign.public_id, record.pk)
            except ImportFailed as failure:
                form.add_error(None, translated(str(failure)))
    context = campaign_context(request, campaign, "import") | {
        "sample": sample,
        "dataset": dataset,
        "form": form,
        "columns": columns,
        "preview": preview,
        "waits": sample.rows is None and not sample.failure,
    }
    return render(request, "labeling/dataset_sample.html", context, status=422 if form.errors else 200)
