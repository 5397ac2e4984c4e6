"""How well people answer: all of them, one of them, the rules, gold items, pausing and letting go on."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import AuthenticatedRequest
from accounts.models import CampaignRole
from config.paging import page_of, wanted
from labeling.access import REPORT_ROLES, campaign_role
from labeling.models import Campaign, QualityRules
from labeling.pages.campaigns import campaign_context
from labeling.pages.forms import RulesForm
from labeling.protocols.basics import InvalidRanking, order_of_words, tiers_of_labels
from labeling.quality import gold, watch
from labeling.quality.charts import bar_chart
from labeling.quality.people import answering, people_of, person_report
from labeling.quality.rules import change_rules


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_quality(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Everybody side by side."""
    find = wanted(request.GET)
    people = answering(campaign).filter(user__username__icontains=find)
    page = page_of(people, request.GET.get("after", ""), "-done", "pk")
    context = campaign_context(request, campaign, "quality") | {
        "find": find,
        "page": page,
        "people": people_of(campaign, page.rows),
        "rules": QualityRules.objects.filter(campaign=campaign).first(),
    }
    return render(request, "labeling/campaign_quality.html", context)


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_person(request: AuthenticatedRequest, campaign: Campaign, user_id: int) -> HttpResponse:
    """One person, over time."""
    people = campaign.contributions.select_related("user", "campaign")
    report = person_report(get_object_or_404(people, user=user_id))
    days = report.days
    labels = [date_format(day.day, _("j M")) for day in days]
    charts = [
        bar_chart(_("Answers a day"), _("Answers"), labels, [day.answers for day in days]),
        bar_chart(_("Median time"), _("Seconds"), labels, [day.median_seconds or 0 for day in days], form="{:.1f} s"),
        bar_chart(
            _("How often the first one won"),
            _("Share"),
            labels,
            [day.first_share or 0 for day in days],
            form="{:.0%}",
            top=1,
        ),
    ]
    context = campaign_context(request, campaign, "quality") | {"report": report, "charts": charts if days else []}
    return render(request, "labeling/campaign_person.html", context)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def person_pause(request: AuthenticatedRequest, campaign: Campaign, user_id: int) -> HttpResponse:
    person = get_object_or_404(campaign.contributions.select_related("user", "campaign"), user=user_id)
    watch.pause(
        person, because=request.POST.get("because", "").strip()[:500] or gettext_noop("by hand"), by=request.user
    )
    messages.success(request, _("{user} is given nothing more here until you let them go on.").format(user=person.user))
    return redirect("campaign_person", campaign.public_id, user_id)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def person_resume(request: AuthenticatedRequest, campaign: Campaign, user_id: int) -> HttpResponse:
    person = get_object_or_404(campaign.contributions.select_related("user", "campaign"), user=user_id)
    watch.resume(person, by=request.user)
    messages.success(request, _("{user} can go on.").format(user=person.user))
    return redirect("campaign_person", campaign.public_id, user_id)


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_rules(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """What the campaign does about quality by itself."""
    rules = QualityRules.objects.filter(campaign=campaign).first() or QualityRules(campaign=campaign)
    form = RulesForm(request.POST or None, instance=rules)
    if request.method == "POST" and form.is_valid():
        change_rules(campaign, by=request.user, **form.cleaned_data)
        messages.success(request, _("Saved."))
        return redirect("campaign_quality", campaign.public_id)
    context = campaign_context(request, campaign, "rules") | {"form": form}
    return render(request, "labeling/campaign_rules.html", context, status=422 if form.errors else 200)


@campaign_role(CampaignRole.MANAGER)
@require_safe
def campaign_gold(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Gold items, and items that people agree about."""
    page = page_of(gold.shown(campaign), request.GET.get("after", ""), "-pk")
    context = campaign_context(request, campaign, "gold") | {
        "page": page,
        "golds": gold.golds_of(page.rows),
        "candidates": gold.candidates_of(campaign) if page.is_first else [],
    }
    return render(request, "labeling/campaign_gold.html", context)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def item_gold(request: AuthenticatedRequest, campaign: Campaign, item_id: str) -> HttpResponse:
    """Make an item gold (`order`, such as "B > A = C"), or (no order) take that back."""
    item = get_object_or_404(campaign.items.select_related("campaign"), public_id=item_id)
    order = request.POST.get("order", "").strip()
    try:
        if order:
            tiers = tiers_of_labels(order_of_words(order), range(item.completions.count()))
            gold.mark_gold(item, tiers=tiers, user=request.user, explanation=request.POST.get("explanation", ""))
            messages.success(request, _("This item is gold: it checks people from now on."))
        else:
            gold.unmark_gold(item, by=request.user)
            messages.success(request, _("This item is usual work again."))
    except InvalidRanking as problem:
        messages.error(request, str(problem))
    if request.POST.get("from") == "gold":
        return redirect("campaign_gold", campaign.public_id)
    return redirect("campaign_item", campaign.public_id, item_id)
