"""Forms of published protocols, to begin with. Their words are for those who answer; managers change what they like.

They are kept in English, and everybody reads them in their own language; what a manager wrote stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_noop as _

from labeling.protocols.basics import FLAGS
from labeling.protocols.questionnaire import PLAIN, REASONS, Form
from labeling.protocols.questions import COMPLETION, Choice, Flags, Option, Question, Rating, Rationale


@dataclass(frozen=True)
class Preset:
    """A form with the protocol that it was made for."""

    name: str
    title: str
    summary: str
    protocol: str
    form: Form
    source: str = ""


AXES = {
    "overall": _("Overall"),
    "coverage": _("Coverage"),
    "accuracy": _("Accuracy"),
    "coherence": _("Coherence"),
    "helpfulness": _("Helpfulness"),
    "correctness": _("Correctness"),
    "complexity": _("Complexity"),
    "verbosity": _("Verbosity"),
}


def _axes(low: int, high: int, words: tuple[str, ...], **axes: str) -> tuple[Question, ...]:
    return tuple(
        Rating(
            name=name,
            label=AXES[name],
            help=help,
            of=COMPLETION,
            required=True,
            low=low,
            high=high,
            words=words,
        )
        for name, help in axes.items()
    )


def _options(**labels: str) -> tuple[Option, ...]:
    return tuple(Option(name, label) for name, label in labels.items())


FLAG_OPTIONS = tuple(Option(name, label) for name, label in FLAGS.items() if name != "personal_data")
REASON = Rationale(name="rationale", label="Why?")

INSTRUCTGPT = Form(
    cannot_tell=False,
    unranked=False,
    questions=(
        *_axes(
            1,
            7,
            (_("Terrible"), _("Perfect")),
            overall=_("How good is this answer, all in all?"),
        ),
        Flags(name="flags", label=_("What applies to this answer"), of=COMPLETION, options=FLAG_OPTIONS),
    ),
    skip_reasons=(*_options(confusing=_("The task is confusing")), *REASONS),
    fewest=4,
    most=9,
)
HH = Form(
    ties=False,
    cannot_tell=False,
    strength=(
        _("Slightly better"),
        _("Better"),
        _("Much better"),
        _("Far better"),
    ),
)
LLAMA2 = Form(
    ties=False,
    cannot_tell=False,
    strength=(
        _("Negligibly better, or unsure"),
        _("Slightly better"),
        _("Better"),
        _("Significantly better"),
    ),
    questions=(
        Choice(
            name="safety",
            label=_("Safety"),
            required=True,
            options=_options(
                better_is_safe=_("The better one is safe, the other is not"),
                both_safe=_("Both are safe"),
                both_unsafe=_("Both are unsafe"),
            ),
        ),
    ),
)
STIENNON = Form(
    cannot_tell=False,
    strength=(
        _("Possibly better"),
        _("Likely better"),
        _("Very likely better"),
        _("Definitely better"),
    ),
    questions=(
        *_axes(
            1,
            7,
            (_("Terrible"), _("Perfect")),
            coverage=_("How much of what is important does it cover?"),
            accuracy=_("Does it say only what the original says?"),
            coherence=_("Can it be understood on its own?"),
            overall=_("How well does it represent the original?"),
        ),
        REASON,
    ),
)
HELPSTEER2 = Form(
    questions=(
        *_axes(
            0,
            4,
            (_("Lowest"), _("Highest")),
            helpfulness=_("How useful is it for what was asked?"),
            correctness=_("Is all of it true, and all there that was asked for?"),
            coherence=_("Is it consistent and clear?"),
            complexity=_("How much knowledge does it take to write it? 0: anybody could; 4: an expert."),
            verbosity=_("How much detail is there for what was asked? 0: terse; 4: far too much."),
        ),
        Choice(
            name="safety",
            label=_("Safety"),
            of=COMPLETION,
            required=True,
            options=_options(safe=_("Safe"), unsafe=_("Unsafe")),
        ),
        Choice(
            name="confidence",
            label=_("How sure are you?"),
            required=True,
            options=_options(low=_("Not sure"), medium=_("Rather sure"), high=_("Very sure")),
        ),
        REASON,
    ),
    skip_reasons=_options(
        personal_data=_("It contains personal data"),
        not_english=_("It is not in the language of this campaign"),
        coding=_("It needs knowledge of programming"),
        assistant_specific=_("It asks who or what the assistant is"),
        broken=_("The texts are cut off or broken"),
        other=_("Another reason"),
    ),
)
ARENA = Form(both_bad=True, cannot_tell=False)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "plain",
            _("Plain pair"),
            _("A, B, equal or can’t tell; flags and a reason if you like."),
            "pair",
            PLAIN,
        ),
        Preset(
            "ranking",
            _("Plain ranking"),
            _("Two to nine answers in order, with ties and unranked ones."),
            "ranking",
            PLAIN,
        ),
        Preset(
            "conversation",
            _("Plain conversations"),
            _("Which of two whole conversations went better?"),
            "conversation",
            PLAIN,
        ),
        Preset(
            "instructgpt",
            "InstructGPT",
            _(
                "Rate each of four to nine answers from 1 to 7, flag what is wrong with it, then rank them; ties "
                "are fine."
            ),
            "ranking",
            INSTRUCTGPT,
            "Ouyang et al. 2022",
        ),
        Preset(
            "hh",
            _("Helpful and harmless"),
            _("Eight positions from “A is far better” to “B is far better”, and no tie."),
            "pair",
            HH,
            "Bai et al. 2022",
        ),
        Preset(
            "llama2",
            "Llama 2",
            _("A forced choice in four degrees, and whether the answers are safe."),
            "pair",
            LLAMA2,
            "Touvron et al. 2023",
        ),
        Preset(
            "stiennon",
            _("Summaries"),
            _("Nine points from “A is definitely better” to B, and four ratings of each summary from 1 to 7."),
            "pair",
            STIENNON,
            "Stiennon et al. 2020",
        ),
        Preset(
            "helpsteer2",
            "HelpSteer2",
            _("Five ratings of each answer from 0 to 4, safety, and how sure one is; reasons to skip."),
            "pair",
            HELPSTEER2,
            "Wang et al. 2024",
        ),
        Preset(
            "arena",
            _("Arena"),
            _("A, B, a tie, or both bad."),
            "pair",
            ARENA,
            "Chiang et al. 2024",
        ),
    )
}
