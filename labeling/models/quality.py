"""What watches over the quality of answers: rules, known answers, reviews, leaks, and changes of the overlap."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from labeling.models.answers import Ranking
from labeling.models.campaigns import Campaign
from labeling.models.items import Item

PERCENT = (MinValueValidator(0), MaxValueValidator(100))


class QualityRules(models.Model):
    """What a campaign does about quality by itself. A campaign without a row does nothing."""

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="rules", primary_key=True)
    check_every = models.PositiveSmallIntegerField(
        _("Check every so many items"),
        default=0,
        validators=[MaxValueValidator(1000)],
        help_text=_("Of so many items of a person one is a gold item or a repeat. 0: never."),
    )
    practice_items = models.PositiveSmallIntegerField(
        _("Train newcomers with so many gold items"),
        default=0,
        db_default=0,
        validators=[MaxValueValidator(100)],
        help_text=_("Those that have an explanation, which is shown after each answer. 0: no training."),
    )
    practice_accuracy = models.PositiveSmallIntegerField(
        _("Let newcomers in from this accuracy, in percent"),
        default=80,
        db_default=80,
        validators=PERCENT,
        help_text=_("Others are paused until a manager lets them go on."),
    )
    gold_accuracy = models.PositiveSmallIntegerField(
        _("Pause below this gold accuracy, in percent"),
        default=0,
        validators=PERCENT,
        help_text=_("Pauses people whose accuracy on gold items is surely below. 0: never."),
    )
    pause_suspects = models.BooleanField(
        _("Pause people whose answers look thoughtless"),
        default=False,
        help_text=_(
            "Too fast to have read, always the same side, the same reason again and again, or the reverse of "
            "what others say."
        ),
    )
    review_share = models.PositiveSmallIntegerField(
        _("Review this share of all answers, in percent"),
        default=0,
        validators=PERCENT,
        help_text=_("Drawn at random, beside flagged answers and those that others contradict."),
    )
    most_overlap = models.PositiveSmallIntegerField(
        _("Most answers per item"),
        default=0,
        validators=[MaxValueValidator(50)],
        help_text=_("Where people disagree, items get up to so many answers, and fewer where it is settled. 0: never."),
    )
    certainty = models.PositiveSmallIntegerField(
        _("An item is settled at this certainty, in percent"),
        default=95,
        validators=[MinValueValidator(51), MaxValueValidator(99)],
    )
    leak_words = models.TextField(
        _("Names that must not show"),
        blank=True,
        help_text=_("One a line, beside the names of models and providers that are known anyway."),
    )
    hold_leaks = models.BooleanField(
        _("Hold items back that give away who wrote an answer"),
        default=False,
        help_text=_("They get no slots until somebody has looked at them."),
    )
    hourly_pay = models.DecimalField(
        max_digits=8,
        decimal_places=2,
        default=0,
        validators=[MinValueValidator(0)],
        help_text=_("For an hour of work."),
    )
    currency = models.CharField(max_length=3, blank=True, help_text=_("Such as EUR."))
    most_seconds = models.PositiveIntegerField(
        _("Most seconds paid per item"),
        default=600,
        validators=[MinValueValidator(1), MaxValueValidator(86_400)],
    )
    watched = models.PositiveIntegerField(default=0, editable=False, help_text="Answers when people were looked at.")
    adapted = models.PositiveIntegerField(default=0, editable=False, help_text="Answers when overlaps were looked at.")


class Gold(models.Model):
    """The known answer to an item, which from now on only checks people."""

    item = models.OneToOneField(Item, on_delete=models.CASCADE, related_name="gold", primary_key=True)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="golds")
    tiers = models.JSONField()
    explanation = models.TextField(blank=True, help_text="Why; shown to people while they train.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)


class Review(models.Model):
    """What a reviewer said of one answer. Append-only; an answer is reviewed once."""

    class Verdict(models.TextChoices):
        ACCEPT = "accept", _("Accepted")
        RETURN = "return", _("Returned")
        REPLACE = "replace", _("Replaced")

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="reviews", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="reviews")
    ranking = models.OneToOneField(Ranking, on_delete=models.CASCADE, related_name="review")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=7, choices=Verdict)
    comment = models.TextField(blank=True)
    replacement = models.OneToOneField(Ranking, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "-id"], name="review_campaign_idx")]


class Leak(models.Model):
    """A place in a completion that may give away who wrote it."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="leaks", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="leaks")
    index = models.PositiveSmallIntegerField(help_text="Which completion.")
    what = models.CharField(max_length=80)
    excerpt = models.CharField(max_length=240)
    held = models.BooleanField(default=False, help_text="The item waits for somebody to look at it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["campaign", "id"], name="leak_campaign_idx"),
            models.Index(fields=["campaign", "-held", "id"], name="leak_held_idx"),
        ]


class OverlapChange(models.Model):
    """An item got more slots, or fewer, because of what people said about it."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="overlap_changes", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="+")
    before = models.PositiveSmallIntegerField()
    after = models.PositiveSmallIntegerField()
    certainty = models.FloatField(help_text="How likely the majority was right about the least certain two answers.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "-id"], name="overlap_campaign_idx")]
