from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tokens import create_token
from labeling.models import Campaign
from tests.conftest import client_for, make_user
from tests.training.conftest import MODEL, QUICK
from training.models import ModelArtifact, RunEvent, TrainingRun

pytestmark = pytest.mark.django_db


def post(client: Client, path: str, body: dict[str, Any] | None = None) -> Any:
    return client.post(path, body or {}, content_type="application/json")


@pytest.fixture
def client_of_researcher(researcher: User) -> Client:
    return client_for(researcher)


def test_a_run_is_made_from_a_campaign_and_a_registered_model(labeled: Campaign, researcher: User) -> None:
    _, token = create_token(researcher, name="test")
    client = Client(headers={"Authorization": f"Bearer {token}"})
    artifact = post(client, "/api/artifacts/", {"name": "Desk", "path": str(MODEL)})
    assert artifact.status_code == 201 and artifact.json()["kind"] == "base"
    again = post(client, "/api/artifacts/", {"name": "Other", "path": f"{MODEL}/"}).json()
    assert again["id"] == artifact.json()["id"]

    body = {
        "kind": "reward",
        "name": "First",
        "campaign": labeled.public_id,
        "base": again["id"],
        "settings": {"epochs": 1},
    }
    answer = post(client, "/api/runs/", body)
    assert answer.status_code == 201, answer.json()
    run = TrainingRun.objects.get(public_id=answer.json()["id"])
    assert answer.json()["state"] == "queued" and answer.json()["artifact"] is None
    assert (run.name, run.owner, run.snapshot.counts["rankings"]) == ("First", researcher, 16)
    assert run.config["base"] == str(MODEL) and run.config["epochs"] == 1.0
    assert run.rundir.verify_manifest()["files"]["rankings.jsonl"]["rows"] == 16
    assert client.get(f"/api/runs/{run.public_id}").json()["settings"]["epochs"] == 1.0
    assert [row["id"] for row in client.get("/api/runs/").json()["results"]] == [run.public_id]
    assert [row["id"] for row in client.get("/api/artifacts/").json()["results"]] == [again["id"]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "dpo"}, "kind"),
        ({"base": None}, "base"),
        ({"settings": {"epoch": 1}}, "no setting epoch"),
        ({"selection": {"without": ["ann"]}}, "no accepted rankings that fit"),
        ({"selection": {"weigh": True}}, "Nobody's reliability is known"),
        ({"selection": {"weigh": True}, "settings": {"reliability": True}}, "Choose one of the two"),
        ({"settings": {"epochs": "many"}}, "epochs must be a number"),
        ({"settings": {"epochs": 10**400}}, "epochs must be a finite number"),
        ({"settings": {"batch_size": 2**31}}, "batch_size must be at most 2147483647"),
        ({"settings": {"lora_targets": "q_proj\0"}}, "lora_targets has characters that cannot be stored"),
        ({"settings": {"lora_targets": "\ud800"}}, "lora_targets has characters that cannot be stored"),
        ({"settings": {"base": "/etc"}}, "base cannot be set by hand"),
        ({"settings": {"adapter": "/etc"}}, "adapter cannot be set by hand"),
        ({"kind": "ppo"}, "Choose the reward model"),
        ({"kind": "sampling", "settings": {"adapter_rank": 2}}, "adapter_rank cuts a policy"),
        ({"selection": {"origin": "person"}}, "no accepted rankings that fit"),
        ({"selection": {"origin": "nobody"}}, "origin"),
        ({"selection": {"eval_fraction": "nan"}}, "eval_fraction"),
        ({"selection": {"limit": -1}}, "limit"),
        ({"name": "a\0b"}, "name"),
    ],
)
def test_a_run_that_cannot_be_is_refused_with_a_sentence(
    labeled: Campaign, base: ModelArtifact, client_of_researcher: Client, change: dict[str, Any], sentence: str
) -> None:
    body: dict[str, Any] = {"kind": "reward", "campaign": labeled.public_id, "base": base.public_id} | change
    body = {key: value for key, value in body.items() if value is not None}
    answer = post(client_of_researcher, "/api/runs/", body)
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"], answer.json()
    assert not TrainingRun.objects.exists()


def test_ppo_takes_several_rewards_and_demonstrations(
    labeled: Campaign, base: ModelArtifact, client_of_researcher: Client, tmp_path: Any
) -> None:
    """Folders of further reward models follow from the models chosen, and what people put first is frozen."""
    facts = {"base_model": str(MODEL), "parent": base, "format": "adapter"}
    rewards = [
        ModelArtifact.objects.create(kind="reward", name=name, path=str(tmp_path / name), **facts) for name in "abc"
    ]
    ids = [model.public_id for model in rewards]
    body = {"kind": "ppo", "campaign": labeled.public_id, "base": base.public_id, "reward": ids[0]}
    more = {"more_rewards": ids[1:], "settings": {"ptx_coef": 1.0}}
    answer = post(client_of_researcher, "/api/runs/", body | more)
    assert answer.status_code == 201, answer.json()
    run = TrainingRun.objects.get(public_id=answer.json()["id"])
    assert run.config["more_reward_paths"].splitlines() == [model.path for model in rewards[1:]]
    assert run.data["more_rewards"] == more["more_rewards"]
    assert run.snapshot is not None
    assert run.rundir.verify_manifest()["files"].keys() == {"prompts.jsonl", "sft.jsonl"}
    refused = post(client_of_researcher, "/api/runs/", body | {"more_rewards": [base.public_id]})
    assert refused.status_code == 400 and "no reward model" in refused.json()["detail"]
    alone = {"kind": "sampling", "campaign": labeled.public_id, "base": base.public_id} | {"more_rewards": ids[1:]}
    refused = post(client_of_researcher, "/api/runs/", alone)
    assert refused.status_code == 400 and "further ones are added to" in refused.json()["detail"]
    compared = body | {"kind": "sampling", "settings": {"versus": ids[0]}}
    refused = post(client_of_researcher, "/api/runs/", compared)
    assert refused.status_code == 400 and "no language model" in refused.json()["detail"]
    hidden = post(client_of_researcher, "/api/runs/", body | {"settings": {"more_reward_paths": "/etc"}})
    assert hidden.status_code == 400 and "cannot be set by hand" in hidden.json()["detail"]


def test_models_that_are_none_are_refused(client_of_researcher: Client, tmp_path: Any) -> None:
    for path, sentence in (
        ("/nowhere", "no model in this folder"),
        ("../up", "hub name"),
        ("a b", "hub name"),
        (str(tmp_path), "config.json is missing"),
    ):
        answer = post(client_of_researcher, "/api/artifacts/", {"path": path})
        assert answer.status_code == 400 and sentence in answer.json()["detail"]
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    answer = post(client_of_researcher, "/api/artifacts/", {"path": str(tmp_path)})
    assert "can run code when loaded" in answer.json()["detail"]
    assert post(client_of_researcher, "/api/artifacts/", {"path": "org/name-1.5"}).json()["name"] == "name-1.5"


def test_others_find_nothing(make_run: Any, annotator: User, manager: User, base: ModelArtifact) -> None:
    run = make_run()
    colleague = make_user("colleague", "researcher")
    for user in (annotator, manager, colleague):
        client = client_for(user)
        for path in ("", "/events"):
            assert client.get(f"/api/runs/{run.public_id}{path}").status_code == 404
        for path in ("stop", "resume", "campaign"):
            assert post(client, f"/api/runs/{run.public_id}/{path}").status_code == 404
    assert client_for(colleague).get("/api/runs/").json()["results"] == []
    body = {"kind": "reward", "campaign": run.campaign.public_id, "base": base.public_id}
    assert post(client_for(colleague), "/api/runs/", body).status_code == 404
    assert client_for(annotator).get("/api/artifacts/").status_code == 404
    assert Client().get("/api/runs/").status_code == 401
    assert client_for(colleague).get("/api/runs/%00").status_code == 404


def test_reviewing_researchers_look_but_do_not_steer(make_run: Any, labeled: Campaign) -> None:
    run = make_run()
    reviewer = make_user("reviewing", "researcher")
    labeled.memberships.create(user=reviewer, role="reviewer")
    client = client_for(reviewer)
    assert client.get(f"/api/runs/{run.public_id}").status_code == 200
    assert post(client, f"/api/runs/{run.public_id}/stop").status_code == 403
    run.refresh_from_db()
    assert run.state == "queued"


def test_stop_and_resume_find_the_state_they_need(make_run: Any, client_of_researcher: Client) -> None:
    run, client = make_run(), client_of_researcher
    assert "only stopped and failed" in post(client, f"/api/runs/{run.public_id}/resume").json()["detail"]
    assert post(client, f"/api/runs/{run.public_id}/stop").json()["state"] == "stopped"
    conflict = post(client, f"/api/runs/{run.public_id}/stop")
    assert conflict.status_code == 409 and "nothing to stop" in conflict.json()["detail"]
    assert post(client, f"/api/runs/{run.public_id}/resume").json()["state"] == "queued"


def test_events_come_in_order_after_a_number(make_run: Any, client_of_researcher: Client) -> None:
    run = make_run()
    for seq in (1, 2, 3):
        payload = {"metrics": {"loss/train": 1 / seq}}
        RunEvent.objects.create(run=run, seq=seq, type="metrics", step=seq, time=run.created_at, payload=payload)
    path = f"/api/runs/{run.public_id}/events"
    answer = client_of_researcher.get(path, {"after": 1}).json()
    assert [event["seq"] for event in answer["results"]] == [2, 3]
    assert answer["results"][0]["metrics"] == {"loss/train": 0.5}
    assert (answer["last"], answer["more"]) == (3, False)
    assert client_of_researcher.get(path, {"after": 3}).json() == {"results": [], "last": 3, "more": False}
    assert client_of_researcher.get(path, {"after": "-1"}).status_code == 400


def test_a_policy_may_be_compared_with_another_on_the_same_base_only(
    make_run: Any, labeled: Campaign, base: ModelArtifact, client_of_researcher: Client
) -> None:
    def adapter(name: str, base_model: str) -> ModelArtifact:
        return ModelArtifact.objects.create(
            kind="policy", name=name, base_model=base_model, path=f"/artifacts/{name}", format="adapter"
        )

    old, new, other = adapter("old", str(MODEL)), adapter("new", str(MODEL)), adapter("other", "org/other")
    body: dict[str, Any] = {"kind": "sampling", "campaign": labeled.public_id, "base": new.public_id}

    def start(versus: str) -> Any:
        return post(client_of_researcher, "/api/runs/", body | {"settings": QUICK["sampling"] | {"versus": versus}})

    run = TrainingRun.objects.get(public_id=start(old.public_id).json()["id"])
    assert (run.config["adapter"], run.config["versus"]) == ("/artifacts/new", "/artifacts/old")
    assert run.data["versus"] == old.public_id
    assert start("base").json()["settings"]["versus"] == "base"
    assert start(base.public_id).json()["settings"]["versus"] == "base"
    assert "another base model" in start(other.public_id).json()["detail"]
    assert "two different models" in start(new.public_id).json()["detail"]
    assert start("/etc").status_code == 404
