"""Sampling: the right distribution, the right end, independent of batching and padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from tests.engine.tiny import END, make_roles, randomize
from training.engine.episodes import Episodes
from training.engine.logprobs import token_logprobs
from training.engine.models import RoleModel
from training.engine.rollout import Completion, RolloutEngine, Sampling, graphs
from training.engine.rollout.decoder import Decoder
from training.engine.rollout.fast import FastEngine, choose_engine
from training.engine.rollout.reference import CHUNK, ReferenceEngine, draw
from training.engine.rollout.slots import Slots

PROMPTS = [[2, 7, 3], [2, 9, 10, 11, 3], [2, 8, 3], [2, 12, 13, 14, 15, 16, 3], [2, 7, 3]]
ENGINES = [ReferenceEngine, FastEngine]


def make_policy() -> RoleModel:
    roles = make_roles()
    roles.add_fresh("policy", rank=4, alpha=8)
    randomize(roles, "policy", 1)
    return roles


def generate(engine: RolloutEngine, prompts: list[list[int]], seed: int = 0, **changes: float) -> list[Completion]:
    settings = {"max_new_tokens": 12, "temperature": 1.0} | changes
    sampling = Sampling(int(settings["max_new_tokens"]), settings["temperature"], (END,))
    return engine.generate(prompts, sampling, torch.Generator().manual_seed(seed))


def both_engines(roles: RoleModel, prompts: list[list[int]]) -> Iterator[tuple[Completion, Completion]]:
    fast, plain = generate(FastEngine(roles), prompts), generate(ReferenceEngine(roles), prompts)
    return zip(fast, plain, strict=True)


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, -torch.inf])
    uniforms = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    ids, logprobs = draw(logits.expand(len(uniforms), -1), uniforms)
    expected = logits.softmax(-1)
    frequencies = ids.bincount(minlength=5) / len(uniforms)
    torch.testing.assert_close(frequencies, expected, atol=0.005, rtol=0)
    assert frequencies[4] == 0
    torch.testing.assert_close(logprobs, expected.log()[ids])


@pytest.mark.parametrize("vocabulary", [CHUNK - 1, CHUNK, 3 * CHUNK + 7])
def test_draws_invert_the_distribution_function(vocabulary: int) -> None:
    """In two levels as in one: the first token whose running sum exceeds the number."""
    torch.manual_seed(0)
    logits, uniforms = 3 * torch.randn(500, vocabulary), torch.rand(500)
    sums = logits.double().softmax(-1).cumsum(-1)
    expected = (sums <= uniforms.double()[:, None]).sum(-1)
    near = (sums - uniforms.double()[:, None]).abs().amin(-1) < 1e-6  # rounding decides
    assert torch.equal(draw(logits, uniforms)[0][~near], expected[~near])
    assert near.float().mean() < 0.01


def test_the_ends_of_the_unit_interval_draw_possible_tokens() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, *[-torch.inf] * CHUNK]] * 2)
    ids, logprobs = draw(logits, torch.tensor([0.0, 1 - 2**-24]))
    assert ids.tolist() == [1, 2]
    assert torch.isfinite(logprobs).all()


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampler_and_trainer_agree_about_logprobs(make: type, temperature: float) -> None:
    roles = make_policy()
    completions = generate(make(roles), PROMPTS * 4, temperature=temperature)
    episodes = Episodes(PROMPTS * 4, completions, roles.device)
    table = torch.zeros(episodes.mask.shape)
    for micro in episodes.micro_batches(7):
        table = episodes.table(
            micro, token_logprobs(roles, micro.ids, micro.states, temperature).logprobs.detach(), table
        )
    sampler = torch.tensor([number for completion in completions for number in completion.logprobs])
    torch.testing.assert_close(table[episodes.mask], sampler, atol=1e-4, rtol=0)


@pytest.mark.parametrize("make", ENGINES)
def test_answers_end_with_the_first_end_token_or_at_the_limit(make: type) -> None:
    completions = generate(make(make_policy()), PROMPTS * 20)
    assert {completion.finished for completion in completions} == {True, False}
    for completion in completions:
        assert (END in completion.ids) == completion.finished
        assert END not in completion.ids[:-1]
        assert len(completion.ids) == len(completion.logprobs)
        assert completion.finished or len(completion.ids) == 12


@pytest.mark.parametrize("make", ENGINES)
def test_an_answer_does_not_depend_on_its_neighbours(make: type) -> None:
    """The first row's random numbers come first, so it can be drawn alone with the same ones."""
    roles = make_policy()
    for first in PROMPTS:
        alone = generate(make(roles), [first])[0]
        assert generate(make(roles), [first, *PROMPTS])[0].ids == alone.ids


@pytest.mark.parametrize("make", ENGINES)
def test_the_coldest_answers_are_those_of_transformers(make: type) -> None:
    roles = make_policy()
    for prompt, completion in zip(PROMPTS, generate(make(roles), PROMPTS, temperature=1e-4), strict=True):
        greedy = roles.model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=END, pad_token_id=0
        )
        assert completion.ids == greedy[0, len(prompt) :].tolist()


@pytest.mark.parametrize("make", ENGINES)
def test_the_role_in_use_speaks(make: type) -> None:
    roles = make_policy()
    policy = generate(make(roles), PROMPTS)
    roles.use("base")
    base = generate(make(roles), PROMPTS)
    assert [c.ids for c in base] == [c.ids for c in generate(make(make_roles()), PROMPTS)]
    assert [c.ids for c in base] != [c.ids for c in policy]
    roles.use("policy")
    assert [c.ids for c in generate(make(roles), PROMPTS)] == [c.ids for c in policy]


def test_the_fast_engine_gives_the_answers_of_the_plain_one() -> None:
    roles = make_policy()
    assert isinstance(choose_engine(roles), FastEngine)
    for fast, plain in both_engines(roles, PROMPTS * 30):
        assert fast.ids == plain.ids
        torch.testing.assert_close(fast.logprobs, plain.logprobs, atol=1e-4, rtol=0)


def test_models_of_other_shapes_take_the_plain_engine() -> None:
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=23, n_embd=16, n_layer=1, n_head=2))
    roles = RoleModel(gpt, None)
    assert isinstance(choose_engine(roles), ReferenceEngine)
    assert len(generate(choose_engine(roles), PROMPTS)) == len(PROMPTS)


def test_biases_and_tied_heads_are_read_too() -> None:
    """Qwen2 has biases on q, k and v and here ties its head to the embedding."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 23, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True}
    roles = RoleModel(Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, initializer_range=0.3)), None)
    with torch.no_grad():
        for name, parameter in roles.model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    assert isinstance(choose_engine(roles), FastEngine)
    for fast, plain in both_engines(roles, PROMPTS):
        assert fast.ids == plain.ids


# Slots


@pytest.mark.parametrize("slots", [1, 2, 5, 64])
def test_answers_that_wait_for_a_slot_are_the_same(slots: int) -> None:
    roles = make_policy()
    alone = generate(ReferenceEngine(roles), PROMPTS * 8)
    for shared, plain in zip(generate(FastEngine(roles, slots), PROMPTS * 8), alone, strict=True):
        assert shared.ids == plain.ids
        torch.testing.assert_close(shared.logprobs, plain.logprobs, atol=1e-4, rtol=0)


def test_a_prompt_is_read_once_for_all_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    original = Decoder._read

    def watch(self: Decoder, ids: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        read.extend(tuple(row) for row in ids.tolist())
        return original(self, ids, *rest)

    monkeypatch.setattr(Decoder, "_read", watch)
    generate(FastEngine(make_policy()), PROMPTS * 6)
    assert len(read) == len(set(read)) == len(set(map(tuple, PROMPTS)))


def test_slots_are_refilled_and_given_up() -> None:
    slots = Slots([[0] * n for n in (3, 5, 4, 2)], length=10, most=2, exact=True)
    assert slots.admit() == [(0, 1), (1, 2)]  # the longest first
    assert (slots.width, slots.steps_left) == (6, 9)
    slots.step()
    slots.note([True, False])
    assert slots.width == 7
    assert slots.admit() == [(1, 0)]
    slots.step()
    slots.note([False, True])
    assert slots.width == 3 + 1 + 1
    assert slots.shrink() == []  # somebody waits
    assert slots.admit() == [(0, 3)]
    slots.note([False, True])
    assert slots.shrink() == [1]
    assert slots.live == 1
    slots.note([False])
    assert not slots.open


def test_slots_of_graphs_shrink_by_halves() -> None:
    slots = Slots([[0]] * 8, length=10, most=8, exact=False)
    slots.admit()
    slots.note([True] * 5 + [False] * 3)
    assert slots.shrink() == []
    slots.note([True, True, False, False, True, False, False, False])
    assert slots.shrink() == [0, 1, 4, 2]
    assert slots.live == 4
    slots.note([False] * 4)
    assert slots.shrink() == []
    assert not slots.open


def test_what_a_graph_recorded_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, with a recorder that checks addresses in the place of CUDA's."""
    engine = FastEngine(roles := make_policy(), slots=4)
    replays = 0

    def addresses() -> list[int]:
        decoder = engine._decoder
        assert decoder is not None
        weights = [tensor for layer in decoder.layers for pair in layer for tensor in pair if tensor is not None]
        state = [value for value in vars(decoder).values() if isinstance(value, torch.Tensor)]
        return [tensor.data_ptr() for tensor in [*weights, *state]]

    def record(work: Callable[[], None]) -> Callable[[], None]:
        recorded = addresses()

        def replay() -> None:
            nonlocal replays
            replays += 1
            assert addresses() == recorded
            work()

        return replay

    engine._graphs = True
    monkeypatch.setattr(graphs, "_Recorder", lambda: record)
    for seed in range(3):
        randomize(roles, "policy", seed)  # an optimizer step between the batches
        for fast, plain in zip(
            generate(engine, PROMPTS * 4), generate(ReferenceEngine(roles), PROMPTS * 4), strict=True
        ):
            assert fast.ids == plain.ids
    assert replays > 20
    longer = [[2, *[7] * 300, 3]] * 2  # than the buffers
    assert [c.ids for c in generate(engine, longer)] == [c.ids for c in generate(ReferenceEngine(roles), longer)]


def test_steps_go_on_where_recording_is_not_possible() -> None:
    done: list[tuple[int, int]] = []

    def refuse(work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    run = graphs.Graphs(lambda live, width: done.append((live, width)), refuse)
    for _ in range(3):
        run(4, 128)
    assert done == [(4, 128)] * 3
