"""Pages of runs and models. What is live on them is also right without any push: they poll."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from accounts.access import AuthenticatedRequest, researcher
from config.paging import page_of
from training.access import NUL, artifact_access, campaigns_to_train_on, may_steer, run_access, run_steering
from training.charts import charts_of, series
from training.comparisons import NoCampaign, make_campaign, source_names
from training.engine.config import KINDS
from training.evaluation import evaluation_of
from training.events import changes_since, live_state
from training.following import log_tail
from training.forms import CampaignFromRunForm, ModelForm, RunForm, prefilled
from training.lineage import lineage
from training.models import ModelArtifact, RunEvent, TrainingRun
from training.registering import NotAModel, register_model
from training.runs import RunNotPossible, create_run, resume_run, stop_run
from training.sizes import size_text

PAGE = 50


@researcher
@require_safe
def run_list(request: AuthenticatedRequest) -> HttpResponse:
    runs = TrainingRun.objects.visible_to(request.user).select_related("campaign", "owner", "artifact")
    wanted = request.GET.get("campaign", "").replace(NUL, "")
    campaign = campaigns_to_train_on(request.user).filter(public_id=wanted).first()
    if campaign is not None:
        runs = runs.filter(campaign=campaign)
    ctx = {
        "campaign": campaign,
        "page": page_of(runs, request.GET.get("after", ""), "-pk", size=PAGE),
        "campaigns": campaigns_to_train_on(request.user),
        "has_base": ModelArtifact.objects.visible_to(request.user).exists(),
    }
    return render(request, "training/run_list.html#rows" if request.htmx else "training/run_list.html", ctx)


@researcher
@require_GET
def run_list_live(request: AuthenticatedRequest) -> JsonResponse:
    """The live columns of the newest runs, for pages without a socket."""
    runs = TrainingRun.objects.visible_to(request.user)[:PAGE]
    return JsonResponse({"runs": [live_state(run) for run in runs]})


@run_access
@require_safe
def run_detail(request: AuthenticatedRequest, run: TrainingRun) -> HttpResponse:
    head = _head(request, run)
    ctx = head | {
        "evaluation": evaluation_of(head["artifact"]),
        "charts": charts_of(run),
        "samples": newest_samples(run),
        "settings": settings_table(run),
        "versus": source_names(run)["versus"] if run.config.get("versus") else "",
        "warnings": RunEvent.objects.filter(run=run, type="warning").order_by("-seq")[:20],
    }
    return render(request, "training/run_detail.html", ctx)


@run_access
@require_GET
def run_head(request: AuthenticatedRequest, run: TrainingRun) -> HttpResponse:
    """State, progress and buttons, as they are now."""
    return render(request, "training/run_detail.html#head", _head(request, run))


@run_access
@require_GET
def run_samples(request: AuthenticatedRequest, run: TrainingRun) -> HttpResponse:
    return render(request, "training/run_detail.html#samples", {"run": run, "samples": newest_samples(run)})


@run_access
@require_GET
def run_series(request: AuthenticatedRequest, run: TrainingRun) -> JsonResponse:
    """All points so far, thinned."""
    return JsonResponse(series(run))


@run_access
@require_GET
def run_live(request: AuthenticatedRequest, run: TrainingRun) -> JsonResponse:
    """What the socket would have sent after event `after`."""
    after = request.GET.get("after", "0")
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise Http404
    return JsonResponse(changes_since(run, int(after)))


@researcher
@require_http_methods(["GET", "HEAD", "POST"])
def run_new(request: AuthenticatedRequest) -> HttpResponse:
    kind = request.GET.get("kind", TrainingRun.Kind.REWARD)
    if kind not in KINDS:
        raise Http404
    initial = prefilled(kind, request.user, request.GET.dict())
    form = RunForm(request.POST or None, kind=kind, user=request.user, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            run = create_run(
                request.user,
                kind=kind,
                inputs=form.inputs(),
                name=form.cleaned_data["name"],
                settings=form.settings(),
            )
        except RunNotPossible as error:
            form.add_error(None, str(error))
        else:
            return redirect(run)
    ctx = {
        "form": form,
        "kind": TrainingRun.Kind(kind),
        "kinds": KIND_ORDER,
        "has_campaign": campaigns_to_train_on(request.user).exists(),
        "has_model": ModelArtifact.objects.visible_to(request.user).exists(),
    }
    return render(request, "training/run_new.html", ctx, status=422 if form.errors else 200)


@run_steering
@require_POST
def run_stop(request: AuthenticatedRequest, run: TrainingRun) -> HttpResponse:
    if not stop_run(run):
        messages.warning(request, _("The run was over already."))
    return redirect(run)


@run_steering
@require_POST
def run_resume(request: AuthenticatedRequest, run: TrainingRun) -> HttpResponse:
    if not resume_run(run):
        messages.warning(request, _("Only stopped and failed runs can be resumed."))
    return redirect(run)


@run_steering
@require_POST
def run_campaign(request: AuthenticatedRequest, run: TrainingRun) -> HttpResponse:
    form = CampaignFromRunForm(request.POST)
    if form.is_valid():
        try:
            campaign = make_campaign(run, request.user, **form.cleaned_data)
        except NoCampaign as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The answers are a draft campaign now. Add people, then open it."))
            return redirect("campaign_detail", campaign.public_id)
    for problems in form.errors.values():
        messages.error(request, " ".join(str(problem) for problem in problems))
    return redirect(run)


@researcher
@require_http_methods(["GET", "HEAD", "POST"])
def model_list(request: AuthenticatedRequest) -> HttpResponse:
    form = ModelForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            model = register_model(request.user, name=form.cleaned_data["name"], path=form.cleaned_data["path"])
        except NotAModel as error:
            form.add_error("path", str(error))
        else:
            messages.success(request, _("“{model}” is registered. Runs can start from it.").format(model=model))
            return redirect("model_list")
    models = ModelArtifact.objects.visible_to(request.user).exclude(kind=ModelArtifact.Kind.COMPLETIONS)
    models = models.select_related("parent", "run")
    ctx = {"page": page_of(models, request.GET.get("after", ""), "-pk", size=PAGE), "form": form}
    return render(request, "training/model_list.html", ctx, status=422 if form.errors else 200)


@artifact_access
@require_safe
def model_detail(request: AuthenticatedRequest, model: ModelArtifact) -> HttpResponse:
    steps = lineage(model)
    models = ModelArtifact.objects.visible_to(request.user)
    ctx = {
        "model": model,
        "steps": steps,
        "metrics": sorted(model.metrics.items()),
        "size": size_text(model),
        # What one was once allowed to build on, one may not be allowed to see any more.
        "visible_models": set(models.filter(pk__in=[s.model.pk for s in steps]).values_list("pk", flat=True)),
        "visible_campaigns": set(campaigns_to_train_on(request.user).values_list("pk", flat=True)),
        "children": models.filter(Q(parent=model) | Q(reward=model)),
    }
    return render(request, "training/model_detail.html", ctx)


KIND_ORDER = [TrainingRun.Kind.REWARD, TrainingRun.Kind.PPO, TrainingRun.Kind.SAMPLING, TrainingRun.Kind.SFT]


def _head(request: AuthenticatedRequest, run: TrainingRun) -> dict[str, Any]:
    artifact = getattr(run, "artifact", None)
    failed = run.state == TrainingRun.State.FAILED
    return {
        "run": run,
        "artifact": artifact,
        "steers": may_steer(request.user, run),
        "log": log_tail(run.rundir) if failed else "",
        "campaign_form": _campaign_form(run),
        "accuracy": accuracy_text(artifact.metrics) if artifact else "",
        "size": size_text(artifact),
    }


def _campaign_form(run: TrainingRun) -> CampaignFromRunForm | None:
    """For a sampling run that has succeeded and is no campaign yet."""
    fits = run.kind == TrainingRun.Kind.SAMPLING and run.state == TrainingRun.State.SUCCEEDED
    if not fits or run.made_campaign is not None:
        return None
    compares = bool(run.config.get("versus"))
    initial = {
        "name": _("Comparison: {name}").format(name=run.base or run.name)[:120],
        "protocol": "pair" if compares else "ranking",
    }
    return CampaignFromRunForm(initial=initial)


def accuracy_text(metrics: dict[str, float]) -> str:
    """Held-out accuracy with its interval, in percent; empty when it was not measured."""
    found = [metrics.get(f"eval/accuracy{end}") for end in ("", "_low", "_high")]
    if any(value is None for value in found):
        return ""
    share, low, high = (f"{100 * value:.0f}" for value in found if value is not None)
    return _("{share} % ({low} to {high} %)").format(share=share, low=low, high=high)


def newest_samples(run: TrainingRun) -> list[RunEvent]:
    """The sample events of the newest step that has some."""
    samples = RunEvent.objects.filter(run=run, type="sample")
    newest = samples.order_by("-seq").values_list("step", flat=True).first()
    return list(samples.filter(step=newest).order_by("seq")[:64]) if newest is not None else []


def settings_table(run: TrainingRun) -> list[dict[str, Any]]:
    """The resolved config with what each setting means, and whether it differs from the default."""
    return [
        {
            "name": field.name,
            "value": run.config.get(field.name, field.default),
            "doc": field.metadata["doc"],
            "changed": run.config.get(field.name, field.default) != field.default,
        }
        for field in dataclasses.fields(KINDS[run.kind])
    ]
