"""Forms of published protocols, to begin with. Their words are for those who answer; managers change what they like."""

from __future__ import annotations

from dataclasses import dataclass

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


def _axes(low: int, high: int, words: tuple[str, ...], **axes: str) -> tuple[Question, ...]:
    return tuple(
        Rating(
            name=name,
            label=name.capitalize(),
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
        *_axes(1, 7, ("Terrible", "Perfect"), overall="How good is this answer, all in all?"),
        Flags(name="flags", label="What applies to this answer", of=COMPLETION, options=FLAG_OPTIONS),
    ),
    skip_reasons=(*_options(confusing="The task is confusing"), *REASONS),
)
HH = Form(ties=False, cannot_tell=False, strength=("Slightly better", "Better", "Much better", "Far better"))
LLAMA2 = Form(
    ties=False,
    cannot_tell=False,
    strength=("Negligibly better, or unsure", "Slightly better", "Better", "Significantly better"),
    questions=(
        Choice(
            name="safety",
            label="Safety",
            required=True,
            options=_options(
                better_is_safe="The better one is safe, the other is not",
                both_safe="Both are safe",
                both_unsafe="Both are unsafe",
            ),
        ),
    ),
)
STIENNON = Form(
    cannot_tell=False,
    strength=("Possibly better", "Likely better", "Very likely better", "Definitely better"),
    questions=(
        *_axes(
            1,
            7,
            ("Terrible", "Perfect"),
            coverage="How much of what is important does it cover?",
            accuracy="Does it say only what the original says?",
            coherence="Can it be understood on its own?",
            overall="How well does it represent the original?",
        ),
        REASON,
    ),
)
HELPSTEER2 = Form(
    questions=(
        *_axes(
            0,
            4,
            ("Lowest", "Highest"),
            helpfulness="How useful is it for what was asked?",
            correctness="Is all of it true, and all there that was asked for?",
            coherence="Is it consistent and clear?",
            complexity="How much knowledge does it take to write it? 0: anybody could; 4: an expert.",
            verbosity="How much detail is there for what was asked? 0: terse; 4: far too much.",
        ),
        Choice(
            name="safety", label="Safety", of=COMPLETION, required=True, options=_options(safe="Safe", unsafe="Unsafe")
        ),
        Choice(
            name="confidence",
            label="How sure are you?",
            required=True,
            options=_options(low="Not sure", medium="Rather sure", high="Very sure"),
        ),
        REASON,
    ),
    skip_reasons=_options(
        personal_data="It contains personal data",
        not_english="It is not in the language of this campaign",
        coding="It needs knowledge of programming",
        assistant_specific="It asks who or what the assistant is",
        broken="The texts are cut off or broken",
        other="Another reason",
    ),
)
ARENA = Form(both_bad=True, cannot_tell=False)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("plain", "Plain pair", "A, B, equal or can’t tell; flags and a reason if you like.", "pair", PLAIN),
        Preset(
            "ranking", "Plain ranking", "Two to nine answers in order, with ties and unranked ones.", "ranking", PLAIN
        ),
        Preset(
            "conversation",
            "Plain conversations",
            "Which of two whole conversations went better?",
            "conversation",
            PLAIN,
        ),
        Preset(
            "instructgpt",
            "InstructGPT",
            "Rate each of four to nine answers from 1 to 7, flag what is wrong with it, then rank them; ties are fine.",
            "ranking",
            INSTRUCTGPT,
            "Ouyang et al. 2022",
        ),
        Preset(
            "hh",
            "Helpful and harmless",
            "Eight positions from “A is far better” to “B is far better”, and no tie.",
            "pair",
            HH,
            "Bai et al. 2022",
        ),
        Preset(
            "llama2",
            "Llama 2",
            "A forced choice in four degrees, and whether the answers are safe.",
            "pair",
            LLAMA2,
            "Touvron et al. 2023",
        ),
        Preset(
            "stiennon",
            "Summaries",
            "Nine points from “A is definitely better” to B, and four ratings of each summary from 1 to 7.",
            "pair",
            STIENNON,
            "Stiennon et al. 2020",
        ),
        Preset(
            "helpsteer2",
            "HelpSteer2",
            "Five ratings of each answer from 0 to 4, safety, and how sure one is; reasons to skip.",
            "pair",
            HELPSTEER2,
            "Wang et al. 2024",
        ),
        Preset("arena", "Arena", "A, B, a tie, or both bad.", "pair", ARENA, "Chiang et al. 2024"),
    )
}
