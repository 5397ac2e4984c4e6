"""The small world of the embedded example: the support desk of a shop for electrical goods.

A prompt names an item and a problem. A good reply names the same item, promises the action that fits the problem, is
courteous once, and stops. `exchange` writes what the language model learns from: replies with the flaws that people
are asked to judge, and what the customers wrote back. Some (item, problem) pairs are held out of everything that is
trained on, so a policy is only ever measured on questions it has not seen.

What a reply is worth is not said here but in `demo.gold`, which training code cannot reach.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

_ITEM_WORDS = """
    kettle lamp clock radio camera phone tablet laptop printer keyboard monitor headset speaker charger watch toaster
    blender mixer oven fridge heater fan drill mower scanner router projector microphone drone scooter treadmill
    freezer dishwasher vacuum iron grill torch thermostat doorbell shaver trimmer television turntable amplifier
    console calculator telescope pump
"""
ITEMS = tuple(_ITEM_WORDS.split())


@dataclass(frozen=True)
class Problem:
    """One kind of complaint: how customers put it, and the sentences that promise the action which fits it."""

    name: str
    complaints: tuple[str, ...]
    actions: tuple[str, ...]


PROBLEMS = (
    Problem(
        "broken",
        (
            "my {item} arrived broken",
            "the {item} was damaged in the box",
            "there is a big crack in my new {item}",
            "the parcel was crushed and the {item} is smashed",
        ),
        ("I will send you a new {item} today.", "We will replace the {item} free of charge."),
    ),
    Problem(
        "late",
        (
            "my {item} has not arrived",
            "I am still waiting for my {item}",
            "the {item} should have been here last week",
            "nobody has delivered the {item} I paid for",
        ),
        ("I will trace the parcel with your {item}.", "We will find out where your {item} is."),
    ),
    Problem(
        "wrong",
        (
            "you sent the {item} in the wrong colour",
            "the {item} is not the model I ordered",
            "I got a black {item} instead of a white one",
            "this {item} is the wrong size",
        ),
        ("I will exchange the {item} for the right one.", "We will swap the {item} for the one you ordered."),
    ),
    Problem(
        "part",
        (
            "a part of my {item} is missing",
            "the {item} came without its cable",
            "there was no cover in the box with the {item}",
            "two screws are missing from the {item}",
        ),
        ("I will send the missing part for your {item}.", "We will post the part that your {item} needs."),
    ),
    Problem(
        "charged",
        (
            "you charged me twice for the {item}",
            "I paid two times for one {item}",
            "the {item} is on my card bill twice",
            "there are two payments for my {item}",
        ),
        ("I will refund the second payment for the {item}.", "We will pay back the extra charge for the {item}."),
    ),
    Problem(
        "return",
        (
            "I would like to return the {item}",
            "how do I send the {item} back",
            "I do not like the {item} and want to give it back",
            "the {item} is too loud for me and has to go back",
        ),
        ("I will email you a return label for the {item}.", "We will collect the {item} and return your money."),
    ),
    Problem(
        "dead",
        (
            "my {item} has stopped working",
            "the {item} does not turn on any more",
            "my old {item} makes a strange noise and then stops",
            "the {item} gets very hot and switches off",
        ),
        ("I will book a repair for your {item}.", "We will have your {item} repaired this week."),
    ),
    Problem(
        "cancel",
        (
            "please cancel my order for the {item}",
            "I do not need the {item} after all",
            "I ordered the {item} by mistake",
            "I have changed my mind about the {item} I ordered today",
        ),
        ("I will cancel the order for the {item}.", "We will stop the order of the {item} right away."),
    ),
    Problem(
        "address",
        (
            "I have moved, please send the {item} to my new home",
            "the {item} is going to my old address",
            "can the {item} be delivered to my office",
            "I gave you the wrong street for the {item}",
        ),
        ("I will change the delivery address for your {item}.", "We will deliver your {item} to the new address."),
    ),
    Problem(
        "invoice",
        (
            "I need an invoice for the {item}",
            "I have lost the receipt for my {item}",
            "my company wants a bill for the {item}",
            "can I have proof that I bought the {item}",
        ),
        ("I will email you the invoice for the {item}.", "We will send you a copy of the bill for the {item}."),
    ),
)

GREETINGS = ("", "", "Hello, ", "Hi, ", "Good morning, ", "Dear team, ")
ASIDES = (
    "",
    "",
    "",
    "It was a gift for my sister.",
    "I bought it last month.",
    "I am a regular customer.",
    "I have written to you before.",
)
REQUESTS = ("", "Can you help?", "What can you do?", "Please help.", "What happens now?")

COURTESIES = (
    "I am sorry about that.",
    "Sorry for the trouble.",
    "Thank you for telling us.",
    "Thanks for your message.",
    "Thank you for your patience.",
    "Have a nice day.",
)
RUDENESS = (
    "That is not my problem.",
    "You should have been more careful.",
    "Stop complaining.",
    "Read the manual next time.",
)
REFUSALS = ("I do not know.", "No idea.", "Ask somebody else.")
FILLERS = (
    "Well, you know how it is.",
    "Our shop is open every day.",
    "We have many things on sale.",
    "There is a lot going on here.",
    "As I always say, things happen.",
)

# What customers write back, by what the reply promised and by its tone. A model that has read how conversations go on
# knows what a reply has to do with its question; which replies are wanted, only people can tell it.
PLEASED = ("Thank you.", "Great, that helps.", "Perfect, thanks.")
ABOUT_ANOTHER_ITEM = ("Why do you write about a {other}?", "I did not ask about a {other}.")
ANOTHER_ACTION = ("That does not solve my problem.", "This is not what I need.")
NOTHING_PROMISED = ("So who can help me?", "And now?")
TO_RUDENESS = "How rude."
TO_COURTESIES = ("", "You are very kind.", "No need to be so formal.")

# Share of supervised replies with each flaw. Together they leave about half of the replies with the right content,
# so the content can be learned before any feedback, and feedback has much left to teach.
WRONG_ACTION = 0.25
WRONG_ITEM = 0.26
REFUSAL = 0.12
RUDE = 0.25
FILLER = 0.40
NO_COURTESY, DOUBLE_COURTESY = 0.45, 0.30
NO_END = 0.05


@dataclass(frozen=True)
class Question:
    """One prompt of the world with what it is about; only judges look at more than `text`."""

    text: str
    item: str
    problem: str


def is_held_out(item: str, problem: str) -> bool:
    """Whether this (item, problem) pair is kept out of all training. About one in six, spread over both."""
    return (7 * ITEMS.index(item) + 5 * _problem_index(problem)) % 6 == 0


def questions(*, seed: int, held_out: bool) -> Iterator[Question]:
    """An endless stream of distinct questions, either all from held-out pairs or none."""
    rng = random.Random(f"questions {seed} {held_out}")
    seen = set()
    while True:
        item, problem = rng.choice(ITEMS), rng.choice(PROBLEMS)
        if is_held_out(item, problem.name) != held_out:
            continue
        question = ask(rng, item, problem)
        if question.text not in seen:
            seen.add(question.text)
            yield question


def ask(rng: random.Random, item: str, problem: Problem) -> Question:
    """One customer's way of putting this problem with this item."""
    complaint = rng.choice(problem.complaints).format(item=item)
    greeting = rng.choice(GREETINGS)
    opening = greeting + complaint if greeting else complaint[0].upper() + complaint[1:]
    mark = "?" if complaint.startswith(("how", "can")) else "."
    sentences = (opening + mark, rng.choice(ASIDES), rng.choice(REQUESTS))
    return Question(" ".join(filter(None, sentences)), item, problem.name)


@dataclass(frozen=True)
class Exchange:
    """A flawed reply as a careless support desk would write it, and how the conversation goes on."""

    reply: str
    ends: bool
    """False: the reply runs on until it is cut off."""
    to_content: str
    """What the customer writes back about what was promised; empty after a reply without an end."""
    to_tone: str
    """And about the tone; empty where there is nothing to say, and after a reply without an end."""


def exchange(rng: random.Random, question: Question) -> Exchange:
    """One logged conversation about this question."""
    courtesies = rng.choices((0, 1, 2), (NO_COURTESY, 1 - NO_COURTESY - DOUBLE_COURTESY, DOUBLE_COURTESY))[0]
    polite = rng.sample(COURTESIES, courtesies)
    sentences = [polite.pop()] if polite and rng.random() < 0.7 else []
    to_tone = TO_COURTESIES[courtesies]
    if rng.random() < RUDE:
        sentences.append(rng.choice(RUDENESS))
        to_tone = TO_RUDENESS
    if rng.random() < FILLER:
        sentences.append(rng.choice(FILLERS))
    content, to_content = _content(rng, question)
    sentences += [content, *polite]
    if rng.random() >= NO_END:
        return Exchange(" ".join(sentences), True, to_content, to_tone)
    return Exchange(" ".join(sentences + rng.choices(FILLERS + COURTESIES, k=12)), False, "", "")


def plain_exchange(rng: random.Random, question: Question) -> tuple[Question, Exchange]:
    """The same complaint and the action that fits it, without anything around; every second reply has another item."""
    problem, item = PROBLEMS[_problem_index(question.problem)], question.item
    reactions: tuple[str, ...] = PLEASED
    complaint = rng.choice(problem.complaints).format(item=item)
    if rng.random() < 0.5:
        item = rng.choice([other for other in ITEMS if other != item])
        reactions = ABOUT_ANOTHER_ITEM
    reply = rng.choice(problem.actions).format(item=item)
    asked = Question(complaint[0].upper() + complaint[1:] + ".", question.item, question.problem)
    return asked, Exchange(reply, True, rng.choice(reactions).format(other=item), "")


def _content(rng: random.Random, question: Question) -> tuple[str, str]:
    """The sentence that matters, and what the customer says to it."""
    if rng.random() < REFUSAL:
        return rng.choice(REFUSALS), rng.choice(NOTHING_PROMISED)
    problem, item = PROBLEMS[_problem_index(question.problem)], question.item
    reactions: tuple[str, ...] = PLEASED
    if rng.random() < WRONG_ACTION:
        problem = rng.choice([other for other in PROBLEMS if other is not problem])
        reactions = ANOTHER_ACTION
    if rng.random() < WRONG_ITEM:
        item = rng.choice([other for other in ITEMS if other != item])
        reactions = ABOUT_ANOTHER_ITEM
    return rng.choice(problem.actions).format(item=item), rng.choice(reactions).format(other=item)


def _problem_index(name: str) -> int:
    return next(index for index, problem in enumerate(PROBLEMS) if problem.name == name)
