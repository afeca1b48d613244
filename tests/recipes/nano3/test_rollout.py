import pytest
import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from tiny_model import VOCAB_SIZE, draw_tokens, lively_model, logits_of
from torch import Tensor

from nemotron.recipes.nano3.rollout import Rollout, generate, token_log_probs

NO_END = VOCAB_SIZE  # no token has this id
PAD = 1
PROMPTS = [draw_tokens(length, seed=length).tolist() for length in (3, 9, 1, 6)]

pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture(scope="module")
def model() -> MambaModel:
    return lively_model()


def roll(
    model: MambaModel,
    prompts: list[list[int]],
    *,
    max_new_tokens: int = 5,
    end_id: int = NO_END,
    seed: int | None = None,
) -> Rollout:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return generate(model, prompts, max_new_tokens=max_new_tokens, end_id=end_id, pad_id=PAD, generator=generator)


def step_by_step(model: MambaModel, prompt: list[int], number: int) -> list[int]:
    """The likeliest tokens, each by a full forward over all before it."""
    tokens = list(prompt)
    for _ in range(number):
        tokens.append(int(logits_of(model, tokens)[-1].argmax()))
    return tokens[len(prompt) :]


def scores(model: MambaModel, tokens: Tensor) -> Tensor:
    return token_log_probs(model, tokens).detach()


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_without_a_generator_the_likeliest_tokens_are_taken(model: MambaModel, prompt: list[int]) -> None:
    assert roll(model, [prompt]).answers == [step_by_step(model, prompt, 5)]


def test_prompts_of_different_lengths_are_answered_as_one_by_one(model: MambaModel) -> None:
    assert roll(model, PROMPTS).answers == [roll(model, [prompt]).answers[0] for prompt in PROMPTS]


@pytest.mark.parametrize("seed", [None, 1], ids=["likeliest", "sampled"])
def test_log_probs_are_the_models_own(model: MambaModel, seed: int | None) -> None:
    rollout = roll(model, PROMPTS, seed=seed)
    wanted = scores(model, rollout.tokens) * rollout.mask
    torch.testing.assert_close(rollout.log_probs, wanted, rtol=0, atol=1e-5)


def test_log_probs_of_a_padded_batch_equal_those_of_each_row_alone(model: MambaModel) -> None:
    rollout = roll(model, PROMPTS)
    width = len(PROMPTS[0]) + 5
    alone = scores(model, rollout.tokens[:1, :width])
    torch.testing.assert_close(rollout.log_probs[0, : width - 1], alone[0] * rollout.mask[0, : width - 1])


@pytest.mark.parametrize("row", range(len(PROMPTS)))
def test_a_row_is_prompt_answer_and_padding_and_its_mask_is_on_the_answer(model: MambaModel, row: int) -> None:
    rollout = roll(model, PROMPTS, seed=1)
    length = len(PROMPTS[row]) + 5
    assert rollout.tokens[row, :length].tolist() == PROMPTS[row] + rollout.answers[row]
    assert rollout.tokens[row, length:].tolist() == [PAD] * (rollout.tokens.shape[1] - length)
    assert rollout.mask[row].nonzero().flatten().tolist() == list(range(len(PROMPTS[row]) - 1, length - 1))


def test_an_answer_ends_with_the_end_token_while_others_go_on(model: MambaModel) -> None:
    free = roll(model, PROMPTS).answers
    end_id = free[0][2]
    rollout = roll(model, PROMPTS, end_id=end_id)
    assert rollout.answers[0] == free[0][: free[0].index(end_id) + 1]
    assert rollout.answers[1:] == [answer[: answer.index(end_id) + 1 if end_id in answer else 5] for answer in free[1:]]


def test_nothing_is_made_beyond_the_last_end(model: MambaModel) -> None:
    end_id = roll(model, [PROMPTS[0]]).answers[0][0]
    rollout = roll(model, [PROMPTS[0]], end_id=end_id)
    assert rollout.tokens[0].tolist() == [*PROMPTS[0], end_id]
    assert (rollout.log_probs.shape, rollout.mask.shape) == ((1, 3), (1, 3))


def test_the_end_token_counts(model: MambaModel) -> None:
    end_id = roll(model, [PROMPTS[0]]).answers[0][0]
    assert roll(model, [PROMPTS[0]], end_id=end_id).mask.tolist() == [[0.0, 0.0, 1.0]]


def test_a_generator_with_the_same_seed_repeats(model: MambaModel) -> None:
    one, two, other = (roll(model, PROMPTS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.log_probs, two.log_probs)
    assert one.answers != other.answers


def test_samples_are_as_frequent_as_they_are_probable(model: MambaModel) -> None:
    answers = [answer[0] for answer in roll(model, [PROMPTS[0]] * 2000, max_new_tokens=1, seed=1).answers]
    frequencies = torch.bincount(torch.tensor(answers), minlength=VOCAB_SIZE) / len(answers)
    probabilities = logits_of(model, PROMPTS[0])[-1].softmax(-1)
    assert (frequencies - probabilities).abs().max() < 0.03
    assert frequencies.argmax() == probabilities.argmax()


def test_answers_carry_no_gradient(model: MambaModel) -> None:
    rollout = roll(model, PROMPTS, seed=1)
    assert not rollout.log_probs.requires_grad
