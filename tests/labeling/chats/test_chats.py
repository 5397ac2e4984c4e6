"""Live chats without models: what people may do, what is kept of it, and that nobody learns who answers."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.campaigns import change_state, update_campaign
from labeling.chats import requests as chat_requests
from labeling.chats.requests import MAX_ATTEMPTS, take_replies, take_server, wanted_servers, write
from labeling.chats.sessions import LIFE, MAX_MESSAGE, PER_MINUTE, ChatRefused, TooFast, ask_again, end_chat, say, vote
from labeling.chats.setup import NoLiveChat, Participant, set_up
from labeling.data.exporting import export_lines
from labeling.models import AuditEntry, Campaign, Chat, ChatReply, ChatServer, ChatTurn, LiveChat, Ranking, Slot
from labeling.queue.annotation import undo_last
from tests.conftest import client_for
from tests.labeling.chats.rooms import NAMES, NOW, SETTINGS, answer, begin, make_live_chat, talk
from tests.labeling.conftest import submit

pytestmark = pytest.mark.django_db


@pytest.fixture
def chat(campaign: Campaign, annotator: User) -> Chat:
    make_live_chat(campaign)
    return begin(annotator, campaign)


# --- Votes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))  # both orders of the contestants on the screen
@pytest.mark.parametrize(
    ("choice", "winner", "details"), [("A", "a", {}), ("B", "b", {}), ("tie", "", {}), ("bad", "", {"both_bad": True})]
)
def test_a_vote_is_an_ordinary_answer_with_sources(
    campaign: Campaign, annotator: User, seed: int, choice: str, winner: str, details: dict[str, bool]
) -> None:
    make_live_chat(campaign)
    chat = begin(annotator, campaign, seed=seed)
    talk(chat, 2)
    vote(chat, choice, rationale="Because.", active_ms=1500, now=NOW)
    [row] = [json.loads(line) for line in export_lines(campaign, "rankings")]
    assert row["messages"] == [{"role": "user", "content": "Question 0?"}]
    names = {chat.a.name: "A", chat.b.name: "B"}
    for completion in row["completions"]:
        letter = names[completion["source"]]
        assert [message["content"] for message in completion["messages"]] == [
            f"{letter} says 0",
            "Question 1?",
            f"{letter} says 1",
        ]
    sources = [completion["source"] for completion in row["completions"]]
    assert [sources[index] for index in row["shown_order"]] == [chat.a.name, chat.b.name]
    if winner:
        assert [sources[index] for [index] in row["tiers"]][0] == getattr(chat, winner).name
    else:
        assert row["tiers"] == [[0, 1]]
    ranking = Ranking.objects.get()
    assert (ranking.user, ranking.rationale, ranking.active_ms, ranking.details) == (
        annotator,
        "Because.",
        1500,
        details,
    )
    assert (ranking.late, ranking.slot.state) == (False, "done")
    assert row["meta"] == {"live_chat": chat.public_id, "turns": 2}
    campaign.refresh_from_db()
    assert (campaign.slot_count, LiveChat.objects.get().votes) == (1, 1)
    assert campaign.contributions.get(user=annotator).done == 1


def test_sides_are_drawn(campaign: Campaign, annotator: User) -> None:
    make_live_chat(campaign)
    assert {begin(annotator, campaign, seed=seed).a.name for seed in range(20)} == set(NAMES)


def test_after_a_vote_the_chat_goes_on_and_is_judged_again(chat: Chat) -> None:
    talk(chat)
    first = vote(chat, "A", now=NOW)
    assert vote(chat, "A", now=NOW) == first
    with pytest.raises(ChatRefused, match="judged this already"):
        vote(chat, "B", now=NOW)
    talk(chat)
    second = vote(chat, "B", now=NOW)
    assert first.item != second.item
    assert list(ChatTurn.objects.values_list("vote", flat=True)) == [first.pk, second.pk]


def test_a_vote_is_taken_back_and_given_again_on_the_labeling_screen(
    chat: Chat, campaign: Campaign, annotator: User
) -> None:
    talk(chat)
    first = vote(chat, "A", now=NOW)
    task = undo_last(annotator, campaign, now=NOW)
    assert task is not None and task.item == first.item.public_id
    assert [one.messages[0]["content"] for one in task.completions] == ["A says 0", "B says 0"]
    submit(annotator, task, tiers=first.tiers[::-1])
    assert [json.loads(line)["tiers"] for line in export_lines(campaign, "rankings")] == [first.tiers[::-1]]


def test_with_an_overlap_others_judge_the_same_conversations(chat: Chat, campaign: Campaign) -> None:
    update_campaign(campaign, overlap=3)
    talk(chat)
    vote(chat, "A", now=NOW)
    assert sorted(Slot.objects.values_list("state", flat=True)) == ["done", "open", "open"]


def test_the_same_said_in_two_chats_is_two_items(chat: Chat, campaign: Campaign, annotator: User) -> None:
    talk(chat)
    vote(chat, "A", now=NOW)
    again = begin(annotator, campaign, seed=1)
    talk(again)
    vote(again, "A", now=NOW)
    assert campaign.items.count() == 2


def test_there_is_no_vote_before_both_have_answered_differently(chat: Chat) -> None:
    with pytest.raises(ChatRefused, match="Say something first"):
        vote(chat, "A", now=NOW)
    turn = say(chat, "Hello?", turn=0, now=NOW)
    with pytest.raises(ChatRefused, match="Wait until both"):
        vote(chat, "A", now=NOW)
    answer(turn, "The same.", "The same.")
    with pytest.raises(ChatRefused, match="exactly the same"):
        vote(chat, "A", now=NOW)
    answer(turn)
    with pytest.raises(ChatRefused, match="Choose A, B"):
        vote(chat, "C", now=NOW)
    assert not Ranking.objects.exists() and not chat.live_chat.campaign.items.exists()


# --- Limits -------------------------------------------------------------------------------------------------------


def test_messages_have_limits(chat: Chat) -> None:
    for text, reason in (("  \x00", "Write a message"), ("x" * (MAX_MESSAGE + 1), "at most")):
        with pytest.raises(ChatRefused, match=reason):
            say(chat, text, turn=0, now=NOW)
    turn = say(chat, "Hel\x00lo\ud800", turn=0, now=NOW)
    assert turn.message == "Hello"
    assert say(chat, "Sent twice", turn=0, now=NOW) == turn
    with pytest.raises(ChatRefused, match="Wait until both"):
        say(chat, "And?", turn=1, now=NOW)
    answer(turn)
    talk(chat, 2)
    with pytest.raises(ChatRefused, match="at most 3 turns"):
        say(chat, "And?", turn=3, now=NOW)


def test_nobody_writes_faster_than_people_do(chat: Chat, campaign: Campaign, annotator: User) -> None:
    now = timezone.now()
    for _ in range(PER_MINUTE // 3):
        talk(begin(annotator, campaign, now=now), 3, now=now)
    last = begin(annotator, campaign, now=now)
    with pytest.raises(TooFast):
        say(last, "Hello?", turn=0, now=now)
    assert say(last, "Hello?", turn=0, now=now + timedelta(minutes=1)).index == 0


def test_an_abandoned_chat_ends_and_gives_room_to_another(chat: Chat, campaign: Campaign, annotator: User) -> None:
    later = NOW + LIFE + timedelta(seconds=1)
    with pytest.raises(ChatRefused, match="has ended"):
        say(chat, "Still there?", turn=0, now=later)
    begin(annotator, campaign, now=later)
    assert Chat.objects.filter(user=annotator, ended_at=None).count() == 1


def test_a_chat_that_was_ended_takes_nothing_more(chat: Chat) -> None:
    talk(chat)
    end_chat(chat, now=NOW)
    for step in (lambda: say(chat, "Hello?", turn=1, now=NOW), lambda: vote(chat, "A", now=NOW)):
        with pytest.raises(ChatRefused, match="has ended"):
            step()


def test_no_chat_begins_where_none_is_wanted(chat: Chat, campaign: Campaign, annotator: User) -> None:
    for change, reason in (
        ({"is_on": False}, "no live chat"),
        ({"is_on": True, "votes": SETTINGS["target"]}, "all the votes"),
    ):
        LiveChat.objects.update(**change)
        with pytest.raises(ChatRefused, match=reason):
            begin(annotator, campaign)
    LiveChat.objects.update(votes=0)
    campaign.contributions.update(paused_at=NOW)
    with pytest.raises(ChatRefused, match="Your work here is paused"):
        begin(annotator, campaign)
    change_state(campaign, "paused")
    campaign.refresh_from_db()
    with pytest.raises(ChatRefused, match="not open"):
        begin(annotator, campaign)
    with pytest.raises(ChatRefused, match="paused"):
        say(chat, "Hello?", turn=0, now=NOW)


# --- Setting up ---------------------------------------------------------------------------------------------------


def test_setting_up_refuses_what_cannot_work(campaign: Campaign) -> None:
    one, two = Participant("model1", "One", "base"), Participant("model2", "Two", "base")
    with pytest.raises(NoLiveChat, match="whole conversations"):
        set_up(campaign, [one, two])
    Campaign.objects.update(protocol="conversation")
    campaign.refresh_from_db()
    for participants, reason in (
        ([one, one], "at least two"),
        ([one, Participant("model3", "One", "x")], "called “One”"),
    ):
        with pytest.raises(NoLiveChat, match=reason):
            set_up(campaign, participants)
    Campaign.objects.update(form={"strength": ["a little", "much"]})
    campaign.refresh_from_db()
    with pytest.raises(NoLiveChat, match="degrees of strength"):
        set_up(campaign, [one, two])


def test_a_campaign_with_nothing_but_a_live_chat_can_be_opened(campaign: Campaign) -> None:
    Campaign.objects.update(state="draft")
    make_live_chat(campaign)
    assert change_state(campaign, "open").state == "open"
    assert AuditEntry.objects.get(verb="campaign.chat").facts["models"] == list(NAMES)


def test_who_leaves_the_live_chat_stays_known_to_old_chats(chat: Chat, campaign: Campaign, annotator: User) -> None:
    set_up(campaign, [Participant("model2", NAMES[1], "base"), Participant("model3", "New", "other")], **SETTINGS)
    talk(chat)
    assert vote(chat, "A", now=NOW).item.completions.filter(source=NAMES[0]).exists()
    assert {begin(annotator, campaign, seed=seed).a.name for seed in range(20)} == {NAMES[1], "New"}


# --- Workers ------------------------------------------------------------------------------------------------------


def serve(worker: str = "w1") -> ChatServer:
    [server] = wanted_servers(now=NOW)
    assert take_server(server, worker, now=NOW)
    server.refresh_from_db()
    return server


def test_a_worker_takes_each_reply_once_with_what_was_said_on_its_side(chat: Chat) -> None:
    talk(chat)
    say(chat, "And then?", turn=1, now=NOW)
    server = serve()
    assert wanted_servers(now=NOW) == []
    first, second = take_replies(server, "w1", 9, now=NOW)
    assert take_replies(server, "w1", 9, now=NOW) == []
    assert [message["content"] for message in first.messages] == ["Question 0?", "A says 0", "And then?"]
    assert [message["content"] for message in second.messages] == ["Question 0?", "B says 0", "And then?"]
    assert (first.model, second.model) == (chat.a.model, chat.b.model)
    write(first, "w1", "So fa\x00r")
    write(second, "somebody else", "not mine")
    assert list(ChatReply.objects.filter(turn__index=1).values_list("text", "state")) == [
        ("So far", "writing"),
        ("", "writing"),
    ]


def test_a_dead_workers_replies_are_written_by_the_next(chat: Chat) -> None:
    say(chat, "Hello?", turn=0, now=NOW)
    server = serve()
    lost = take_replies(server, "w1", 9, now=NOW)
    later = NOW + chat_requests.SILENCE + timedelta(seconds=1)
    assert [one.pk for one in wanted_servers(now=later)] == [server.pk]
    assert take_server(server, "w2", now=later) and not take_server(server, "w3", now=later)
    assert not chat_requests.beat(server, "w1", ready=True, now=later)
    write(lost[0], "w1", "from the grave", state="done")
    again = take_replies(server, "w2", 9, now=later)
    assert [one.id for one in again] == [one.id for one in lost]
    assert not ChatReply.objects.exclude(text="").exists()


def test_what_crashes_every_time_fails_and_can_be_asked_again(chat: Chat) -> None:
    say(chat, "Hello?", turn=0, now=NOW)
    server = serve()
    for _ in range(MAX_ATTEMPTS):
        assert len(take_replies(server, "w1", 9, now=NOW)) == 2
        chat_requests.put_back(server)
    assert take_replies(server, "w1", 9, now=NOW) == []
    assert set(ChatReply.objects.values_list("state", flat=True)) == {"failed"}
    with pytest.raises(ChatRefused, match="did not answer"):
        vote(chat, "A", now=NOW)
    ask_again(chat, now=NOW)
    assert len(take_replies(server, "w1", 9, now=NOW)) == 2


def test_nobody_answers_chats_that_nobody_reads(chat: Chat) -> None:
    say(chat, "Hello?", turn=0, now=NOW)
    server = serve()
    assert take_replies(server, "w1", 9, now=NOW + LIFE) == []
    end_chat(chat, now=NOW)
    assert take_replies(server, "w1", 9, now=NOW) == []


# --- Blindness and pages ------------------------------------------------------------------------------------------


def test_no_page_and_no_address_tells_who_answers(campaign: Campaign, annotator: User) -> None:
    make_live_chat(campaign, models=("modelone", "modeltwo"), server="/secret/base")
    client = client_for(annotator)
    url = f"/campaigns/{campaign.public_id}/chat/"
    seen = [client.get(url), client.post(f"{url}begin", follow=True)]
    chat = Chat.objects.get()
    same = {"chat": chat.public_id}
    seen.append(client.post(f"{url}say", same | {"turn": 0, "message": "Who are you?"}, follow=True))
    ChatReply.objects.filter(side="A").update(state="failed")
    ChatServer.objects.update(state="failed", failure="The adapter /secret/base of Kind aunt does not fit.")
    seen += [client.get(url), client.get(f"{url}live"), client.post(f"{url}vote", same | {"choice": "A"})]
    answer(ChatTurn.objects.get(), "**Hello**, I am a model.")
    seen += [client.get(url), client.post(f"{url}vote", same | {"choice": "A"}, follow=True), client.get(url)]
    seen += [client.get(f"/api/campaigns/{campaign.public_id}"), client.get(f"/campaigns/{campaign.public_id}/")]
    assert b"<strong>Hello</strong>, I am a model." in seen[-3].content
    assert Ranking.objects.exists()
    seen.append(client.get("/api/me/data"))
    own = [json.loads(line) for line in seen[-1].content.splitlines()]
    assert any(line["what"] == "chat turn" and line["message"] == "Who are you?" for line in own)
    [kept] = [line for line in own if line["what"] == "chat"]
    assert not {"a", "b", "a_id", "b_id"} & kept.keys()
    for response in seen:
        assert response.status_code in (200, 409)
        for secret in (*NAMES, "modelone", "modeltwo", "/secret"):
            assert secret.encode() not in response.content, (response.request["PATH_INFO"], secret)


def test_what_models_write_is_sanitized(chat: Chat, annotator: User, campaign: Campaign) -> None:
    Chat.objects.update(used_at=timezone.now())
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)> [x](javascript:alert(1))"
    answer(say(chat, attack, turn=0, now=NOW), attack, attack)
    Chat.objects.update(used_at=timezone.now())
    content = client_for(annotator).get(f"/campaigns/{campaign.public_id}/chat/").content.decode()
    assert content.count("&lt;script&gt;alert(1)") == 3
    assert "<script>alert" not in content and "<img src=x" not in content and 'href="javascript' not in content


def test_people_have_chats_of_their_own(chat: Chat, campaign: Campaign, reviewer: User) -> None:
    Chat.objects.update(used_at=timezone.now())
    talk(chat)
    Chat.objects.update(used_at=timezone.now())
    client = client_for(reviewer)
    url = f"/campaigns/{campaign.public_id}/chat/"
    assert b"Question 0?" not in client.get(url).content
    refused = client.post(f"{url}vote", {"chat": chat.public_id, "choice": "A"})
    assert refused.status_code == 409 and not Ranking.objects.exists()


def test_a_page_whose_chat_was_ended_elsewhere_is_loaded_anew(chat: Chat, annotator: User, campaign: Campaign) -> None:
    end_chat(chat, now=NOW)
    answer = client_for(annotator).get(f"/campaigns/{campaign.public_id}/chat/live", headers={"HX-Request": "true"})
    assert answer.headers["HX-Refresh"] == "true"


def test_a_refused_message_is_still_in_the_box(chat: Chat, annotator: User, campaign: Campaign) -> None:
    Chat.objects.update(used_at=timezone.now())
    client = client_for(annotator)
    client.post(f"/campaigns/{campaign.public_id}/chat/say", {"chat": chat.public_id, "turn": 0, "message": "Hello?"})
    data = {"chat": chat.public_id, "turn": 1, "message": "Too <early>"}
    refused = client.post(f"/campaigns/{campaign.public_id}/chat/say", data)
    assert refused.status_code == 409
    assert b"Wait until both have answered." in refused.content and b"Too &lt;early&gt;</textarea>" in refused.content
