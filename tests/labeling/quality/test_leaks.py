"""What gives away who wrote an answer is found before anybody compares it."""

from __future__ import annotations

from accounts.models import User
from labeling.data.importing import import_rows
from labeling.models import Campaign, Leak
from labeling.protocols.basics import Message
from labeling.quality.leaks import find_leaks, release, scan_again
from labeling.quality.rules import change_rules
from labeling.queue.assignment import claim_next
from tests.conftest import client_for
from tests.labeling.conftest import NOW


def said(text: str, role: str = "assistant") -> list[Message]:
    return [{"role": role, "content": text}]


def whats(*texts: str, prompt: str = "Hello?", sources: tuple[str, ...] = (), own: tuple[str, ...] = ()) -> list[str]:
    found = find_leaks(said(prompt, "user"), [said(text) for text in texts], sources or ("",) * len(texts), own)
    return [one.what for one in found]


def test_names_and_models_that_say_what_they_are_are_found() -> None:
    assert whats("I am ChatGPT, nice to meet you.") == ["ChatGPT"]
    assert whats("As an AI language model, I cannot.") == ["As an AI language model"]
    assert whats("I was trained by Acme.") == ["I was trained by Acme"]
    assert whats("Our bot-9000 says hi", "Fine.", sources=("bot-9000", "bot-9000")) == ["bot-9000"]
    assert whats("Ask Pippa.", own=("pippa",)) == ["pippa"]


def test_what_gives_nothing_away_is_left_alone() -> None:
    assert whats("ChatGPT is made by OpenAI.", prompt="Who makes ChatGPT? OpenAI?") == []
    assert whats("A clawed animal, not a Claudean one.", "The bards sang.") == []  # parts of words
    assert whats("He was trained by his father. A language model is a program.") == []
    conversation = [*said("Are you ChatGPT?", "user"), *said("I am here to help.")]
    assert find_leaks(said("Hi", "user"), [conversation], [""]) == []


def rows() -> list[dict[str, object]]:
    return [
        {"prompt": "One?", "completions": ["I am Claude, and I help.", "Yes."]},
        {"prompt": "Two?", "completions": ["No.", "Yes, says Pippa."]},
    ]


def test_an_import_looks_and_holds_back_where_it_is_wanted(campaign: Campaign, anna: User, manager: User) -> None:
    change_rules(campaign, hold_leaks=True)
    import_rows(campaign, rows(), name="file")
    campaign.refresh_from_db()
    leak = Leak.objects.get()
    assert (leak.what, leak.index, leak.held, campaign.slot_count) == ("Claude", 0, True, 1)
    first = claim_next(anna, campaign, now=NOW)
    assert first is not None and first.item != leak.item.public_id
    client, path = client_for(manager), f"/campaigns/{campaign.public_id}/leaks/"
    text = client.get(path).text
    assert "I am Claude" in text and "Held back" in text
    client.post(f"{path}{leak.item.public_id}/release")
    campaign.refresh_from_db()
    assert campaign.slot_count == 2
    release(leak.item, by=manager)  # again changes nothing
    assert campaign.audit.filter(verb="items.release").count() == 1


def test_without_rules_items_go_live_and_are_listed(campaign: Campaign, manager: User) -> None:
    import_rows(campaign, rows(), name="file")
    campaign.refresh_from_db()
    assert campaign.slot_count == 2 and not Leak.objects.get().held
    client = client_for(manager)
    text = client.get(f"/campaigns/{campaign.public_id}/items/").text
    assert text.count("may show who wrote it") == 1
    report = campaign.imports.get()
    assert "1 item" in client.get(f"/campaigns/{campaign.public_id}/imports/{report.pk}/").text


def test_names_added_later_are_looked_for_again(campaign: Campaign, manager: User) -> None:
    import_rows(campaign, rows(), name="file")
    change_rules(campaign, leak_words="Pippa\n")
    assert scan_again(campaign, by=manager) == 1
    assert sorted(Leak.objects.values_list("what", flat=True)) == ["Claude", "Pippa"]
    change_rules(campaign, hold_leaks=True)
    assert scan_again(campaign, by=manager) == 0  # both were looked at
    assert not Leak.objects.filter(held=True).exists()
    client_for(manager).post(f"/campaigns/{campaign.public_id}/leaks/scan")
    assert Leak.objects.count() == 2
