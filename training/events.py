"""What changed in a run since an event: one form for the websocket, for polling and for the API."""

from __future__ import annotations

from typing import Any

from django.utils.text import capfirst
from django.utils.translation import gettext as _

from accounts.language import figures
from training.models import RunEvent, TrainingRun

MOST = 1000
"""Events in one answer; whoever gets as many asks again."""


def events_after(run: TrainingRun, seq: int, limit: int = MOST) -> list[dict[str, Any]]:
    """Events of a run after `seq`, in order, at most `limit`."""
    rows = RunEvent.objects.filter(run=run, seq__gt=seq).order_by("seq")[:limit]
    return [event_json(row) for row in rows]


def event_json(row: RunEvent) -> dict[str, Any]:
    payload: dict[str, Any] = row.payload
    return payload | {"seq": row.seq, "time": row.time.isoformat(), "step": row.step, "type": row.type}


def changes_since(run: TrainingRun, seq: int) -> dict[str, Any]:
    """Events after `seq` and the run as it is now. `more` says that there are further events."""
    events = events_after(run, seq)
    return {
        "run": live_state(run),
        "events": events,
        "last": events[-1]["seq"] if events else seq,
        "more": len(events) == MOST,
    }


def live_state(run: TrainingRun) -> dict[str, Any]:
    """The columns that change while a run goes on."""
    return {
        "id": run.public_id,
        "state": run.state,
        "label": run.get_state_display(),
        "active": run.is_active,
        "stage": run.stage,
        "step": run.step,
        "total_steps": run.total_steps,
        "stopping": run.stop_requested and run.is_active,
        "line": progress_line(run),
    }


def progress_line(run: TrainingRun) -> str:
    """Where a run stands, in one line for people."""
    steps = (
        _("step {step} of {total_steps}").format(step=run.step, total_steps=run.total_steps) if run.total_steps else ""
    )
    if run.state == TrainingRun.State.QUEUED:
        return _("Waits for a worker, {steps} done").format(steps=steps) if run.step else _("Waits for a worker")
    if run.state == TrainingRun.State.STARTING:
        return _("The engine starts, {steps} done").format(steps=steps) if run.step else _("The engine starts")
    if run.state != TrainingRun.State.RUNNING:
        ended = _("Ended at {steps}").format(steps=steps) if steps else _("Ended before the first step")
        return (
            _("{ended}, {time} after it started").format(ended=ended, time=_took(run))
            if run.started_at and run.finished_at
            else ended
        )
    parts = [part for part in (steps, run.stage) if part]
    if run.stop_requested:
        parts.append(_("stops after this step"))
    elif run.eta_seconds is not None and run.step < run.total_steps:
        parts.append(_("{time} left").format(time=_duration(run.eta_seconds)))
    return capfirst(", ".join(parts)) if parts else _("Running")


def _took(run: TrainingRun) -> str:
    assert run.started_at and run.finished_at
    minutes, seconds = divmod(round((run.finished_at - run.started_at).total_seconds()), 60)
    if minutes == 0:
        return f"{seconds} s"
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return _("about {time}").format(time=f"{max(round(seconds), 1)} s")
    if seconds < 90 * 60:
        return _("about {time}").format(time=f"{round(seconds / 60)} min")
    return _("about {time}").format(time=figures(f"{seconds / 3600:.1f} h"))
