"""Live chats: which policies a campaign lets people talk with, what was said, and what is waiting for an answer.

Requests are rows: a reply that waits is found by whichever worker serves its model, and one whose worker died waits
again. Written by `labeling/chats`: `setup.py`, `sessions.py` (people) and `requests.py` (workers).
"""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from accounts.ids import new_public_id
from labeling.models.answers import Ranking
from labeling.models.campaigns import Campaign


class LiveChat(models.Model):
    """How a campaign's annotators chat with two of its contestants, side by side."""

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="live_chat", primary_key=True)
    is_on = models.BooleanField(default=True)
    temperature = models.FloatField(
        default=1.0,
        validators=[MinValueValidator(0.01), MaxValueValidator(5)],
        help_text=_("1 draws as the model was trained; lower repeats what is most likely."),
    )
    max_new_tokens = models.PositiveIntegerField(
        _("longest answer"),
        default=256,
        validators=[MinValueValidator(1), MaxValueValidator(4096)],
        help_text=_("In tokens. Longer answers are cut off there."),
    )
    max_turns = models.PositiveSmallIntegerField(
        _("most turns"),
        default=6,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text=_("How many messages one chat can have."),
    )
    target = models.PositiveIntegerField(
        _("votes wanted"),
        default=100,
        validators=[MinValueValidator(1)],
        help_text=_("No new chats once there are so many."),
    )
    votes = models.PositiveIntegerField(default=0, editable=False)

    @property
    def is_complete(self) -> bool:
        return self.votes >= self.target


class ChatServer(models.Model):
    """Something that answers in the name of models: one process with a base model in memory, run by one worker.

    `key` says to the worker which base. Nobody serves while the heartbeat is old.
    """

    class State(models.TextChoices):
        OFF = "off", _("Off")
        LOADING = "loading", _("Loading")
        READY = "ready", _("Ready")
        FAILED = "failed", _("Failed")

    key = models.CharField(max_length=500, unique=True)
    state = models.CharField(max_length=7, choices=State, default=State.OFF)
    failure = models.TextField(blank=True, help_text="Why it cannot serve; for researchers.")
    worker = models.CharField(max_length=120, blank=True)
    heartbeat_at = models.DateTimeField(null=True)
    wanted_at = models.DateTimeField(null=True, help_text="When somebody began a chat that needs it.")


class Contestant(models.Model):
    """A model that takes part in a campaign's chats. Its name becomes the source of its completions."""

    live_chat = models.ForeignKey(LiveChat, on_delete=models.CASCADE, related_name="contestants")
    server = models.ForeignKey(ChatServer, on_delete=models.PROTECT, related_name="contestants")
    model = models.CharField(max_length=12, help_text="Public id of what the worker shall answer with.")
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True, help_text="Takes part in new chats.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["live_chat", "model"], name="one_contestant_per_model")]


class Chat(models.Model):
    """One person's chat with two contestants. A is on the left; who that is was drawn, and is told to nobody."""

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    live_chat = models.ForeignKey(LiveChat, on_delete=models.CASCADE, related_name="chats")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="chats")
    a = models.ForeignKey(Contestant, on_delete=models.PROTECT, related_name="+")
    b = models.ForeignKey(Contestant, on_delete=models.PROTECT, related_name="+")
    ended_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(help_text="When the person last did something in it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["live_chat", "user"], condition=Q(ended_at=None), name="one_open_chat_per_person"
            ),
            models.CheckConstraint(condition=~Q(a=F("b")), name="two_different_contestants"),
        ]


class ChatTurn(models.Model):
    """What the person said; both contestants answer it. `vote` is the ranking given when this was the last turn."""

    chat = models.ForeignKey(Chat, on_delete=models.CASCADE, related_name="turns")
    index = models.PositiveSmallIntegerField()
    message = models.TextField()
    vote = models.OneToOneField(Ranking, null=True, on_delete=models.SET_NULL, related_name="chat_turn")
    said_at = models.DateTimeField()

    class Meta:
        ordering = ["chat_id", "index"]
        constraints = [models.UniqueConstraint(fields=["chat", "index"], name="one_turn_per_index")]


class ChatReply(models.Model):
    """One contestant's answer to a turn, from the moment that it is wanted."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        WRITING = "writing", "Writing"
        DONE = "done", "Done"
        FAILED = "failed", _("Failed")

    turn = models.ForeignKey(ChatTurn, on_delete=models.CASCADE, related_name="replies")
    contestant = models.ForeignKey(Contestant, on_delete=models.PROTECT, related_name="replies")
    side = models.CharField(max_length=1, choices=[("A", "A"), ("B", "B")])
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    text = models.TextField(blank=True, help_text="What was written so far.")
    is_cut = models.BooleanField(default=False, help_text="It came to the longest answer allowed.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often a process began to write it.")
    worker = models.CharField(max_length=120, blank=True, help_text="Who writes it.")

    class Meta:
        ordering = ["turn_id", "side"]
        constraints = [models.UniqueConstraint(fields=["turn", "side"], name="one_reply_per_side")]
        indexes = [
            models.Index(
                fields=["contestant"], condition=Q(state__in=("waiting", "writing")), name="reply_unanswered_idx"
            )
        ]
