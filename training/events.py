"""What changed in a run since an event: one form for the websocket, for polling and for the API."""

from __future__ import annotations

from typing import Any

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
        "eta_seconds": run.eta_seconds,
        "stopping": run.stop_requested and run.is_active,
    }
