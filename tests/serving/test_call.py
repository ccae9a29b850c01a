"""Best of N as a call: which sample wins, what is missing, what is passed on."""

import asyncio
import gc
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from best_of_n_servers import ASK, Make, Scripted, length, number_of, numbered
from tailgrad.serving import FixedBudget, NoWinnerError
from tailgrad.serving.best import Group
from tailgrad.serving.policy import Draw
from tiny_policies import word_count


def test_the_sample_with_the_largest_reward_wins(make: Make) -> None:
    texts = ["aa", "aaaa", "a", "bbbb", ""]
    found = make(Scripted(lambda *_: texts), length)("one", 5)
    assert found.text == "aaaa"  # of equal ones the first
    assert [(one.text, one.reward) for one in found.candidates] == [(text, len(text)) for text in texts]
    assert (found.asked, found.scored, found.failed, found.unscored, found.reasons) == (5, 5, 0, 0, ())
    assert (found.prompt_tokens, found.completion_tokens) == (2, 4 * 2 + 1)


def test_what_fails_is_reported_and_the_best_of_the_others_is_returned(make: Make) -> None:
    texts = [None if number % 26 == 0 else f"t {number}" for number in range(128)]  # five of them
    found = make(Scripted(lambda *_: texts), number_of)("one", 128)
    assert found.text == "t 127"
    assert (found.asked, found.scored, found.failed, found.unscored) == (128, 123, 5, 0)
    assert found.reasons == ("the backend is tired",)


@pytest.mark.parametrize("missing", [math.nan, None])
def test_a_sample_without_a_reward_never_wins(make: Make, missing: float | None) -> None:
    def reward(*, completions: list[str], **_: Any) -> list[float | None]:
        return [missing if text == "best" else -5.0 if text == "worst" else missing for text in completions]

    found = make(Scripted(lambda *_: ["best", "worst", "best"]), reward)("one", 3)
    assert (found.text, found.scored, found.unscored) == ("worst", 1, 2)
    with pytest.raises(NoWinnerError, match="None or NaN"):
        make(Scripted(lambda *_: ["best", "best"]), reward)("one", 2)


def test_a_rule_decides_batch_by_batch_and_sees_only_what_is_drawn(make: Make) -> None:
    shown: list[list[float]] = []

    class UntilFive:
        def more(self, rewards: torch.Tensor) -> int:
            shown.append(rewards.tolist())
            return 0 if len(rewards) and rewards.max() >= 5 else 3

    policy = Scripted(numbered)
    found = make(policy, number_of)("one", UntilFive())
    assert (found.text, found.asked) == ("text 5", 6)
    assert shown == [[], [0, 1, 2], [0, 1, 2, 3, 4, 5]]
    assert [wish[1:] for wish in policy.wishes] == [(3, 0), (3, 3)]
    assert (found.prompt_tokens, found.completion_tokens) == (4, 18)


def test_a_rule_is_shown_what_was_lost_too_since_it_was_paid_for() -> None:
    group = Group()
    group.add(5, Draw([], []), [None, 3.0, -1.0], None)
    assert group.rewards.isnan().tolist() == [True, False, False, True, True]
    assert group.rewards[1:3].tolist() == [3.0, -1.0]
    assert FixedBudget(5).more(group.rewards) == 0


def test_an_adaptive_draw_that_fails_later_keeps_what_it_has(make: Make) -> None:
    class Always:
        def more(self, rewards: torch.Tensor) -> int:
            return 2

    found = make(Scripted(lambda _, count, first: ["a", "bb"] if first < 4 else [None] * count), length)("x", Always())
    assert (found.text, found.asked, found.failed) == ("bb", 6, 2)


def test_a_reward_that_raises_says_so_in_a_line(make: Make) -> None:
    def broken(*, completions: list[str], **_: Any) -> list[float]:
        raise KeyError("no such thing")

    with pytest.raises(NoWinnerError, match=r"broken.*no such thing"):
        make(Scripted(numbered), broken)("one", 2)


def test_a_reward_that_takes_too_long(make: Make) -> None:
    def slow(*, completions: list[str], **_: Any) -> list[float]:
        time.sleep(0.5)
        return [0.0 for _ in completions]

    with pytest.raises(NoWinnerError, match="reward_timeout") as told:
        make(Scripted(numbered), slow, reward_timeout=0.05)("one", 2)
    assert told.value.timed_out


def test_what_a_call_may_not_ask(make: Make) -> None:
    best_of_n = make(Scripted(numbered), length)
    with pytest.raises(ValueError, match="n is 0"):
        best_of_n("one", 0)
    with pytest.raises(ValueError, match="no 'content'"):
        best_of_n([{"role": "user"}], 2)

    def with_answer(*, completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [float(text == wanted) for text, wanted in zip(completions, answer, strict=True)]

    graded = make(Scripted(numbered), with_answer)
    with pytest.raises(ValueError, match="'answer'"):
        graded("one", 2)
    with pytest.raises(ValueError, match="completions"):
        graded("one", 2, columns={"answer": "a", "completions": "b"})
    assert graded("one", 9, columns={"answer": "text 7"}).text == "text 7"


async def forever(*_: Any) -> list[str]:
    await asyncio.sleep(60)
    return []


def test_cancelling_cancels_the_samples(make: Make) -> None:
    policy = Scripted(lambda *_: forever())

    async def leave() -> None:
        work = asyncio.ensure_future(make(policy, length).best_of_n("one", 4))
        while not policy.begun:
            await asyncio.sleep(0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(leave())
    assert (policy.begun, policy.cancelled) == (1, 1)


def test_a_call_works_within_a_loop_too(make: Make) -> None:
    async def notebook() -> str:
        return make(Scripted(numbered), number_of)("one", 3).text

    assert asyncio.run(notebook()) == "text 2"


# A policy in this process.


def test_a_policy_here_gives_the_best_of_its_own_samples(make: Make, policy: Path) -> None:
    best_of_n = make(str(policy), word_count, max_completion_length=8)
    found = best_of_n("one two", 16, seed=3)
    assert len(found.candidates) == 16 == found.scored
    words = [len(one.text.split()) for one in found.candidates]
    assert [one.reward for one in found.candidates] == words
    assert found.winner.reward == max(words) > min(words)
    assert found.prompt_tokens == 2
    assert found.completion_tokens == sum(one.num_tokens + one.finished for one in found.candidates)
    assert best_of_n("one two", 16, seed=3) == found != best_of_n("one two", 16, seed=4)


def test_what_shapes_a_response_acts(make: Make, policy: Path) -> None:
    best_of_n = make(str(policy), word_count, max_completion_length=8)
    assert {len(one.text.split()) for one in best_of_n("one", 8, max_new_tokens=2).candidates} <= {0, 1, 2}
    assert len({one.text for one in best_of_n("one", 8, top_k=1, max_new_tokens=3).candidates}) == 1
    with pytest.raises(ValueError, match="64 positions"):
        best_of_n("one", 2, max_new_tokens=64)
    with pytest.raises(ValueError, match="stop"):
        best_of_n("one", 2, stop=("two",))


def test_a_chat_goes_through_the_template_and_rewards_see_messages(make: Make, chat_policy: Path) -> None:
    seen = {}

    def look(*, prompts: list[Any], completions: list[Any], completion_ids: list[Any], **_: Any) -> list[float]:
        seen.update(prompt=prompts[0], completion=completions[0], ids=completion_ids[0])
        return [float(len(one[0]["content"])) for one in completions]

    best_of_n = make(str(chat_policy), look, max_completion_length=4)
    found = best_of_n(ASK, 4)
    assert seen["prompt"] == ASK
    assert seen["completion"][0]["role"] == "assistant"
    assert seen["ids"]
    assert found.winner.reward == max(len(one.text) for one in found.candidates)


def test_a_policy_here_stops_at_the_next_token_when_nobody_waits(make: Make, policy: Path) -> None:
    best_of_n = make(str(policy), word_count, max_completion_length=60)
    model = best_of_n._policy.model
    passes, begun = [0], threading.Event()
    own = model.forward

    def slow(*words: Any, **named: Any) -> Any:
        passes[0] += 1
        begun.set()
        time.sleep(0.02)
        return own(*words, **named)

    model.forward = slow

    complaints: list[Any] = []

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        work = asyncio.ensure_future(best_of_n.best_of_n("one", 8, eos_token_id=[11]))
        await asyncio.to_thread(begun.wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await best_of_n._policy._beside.run(lambda _: None)  # when what was begun has ended
        await asyncio.sleep(0.1)
        gc.collect()

    asyncio.run(leave())
    assert passes[0] < 20  # of 60 tokens
    assert complaints == []  # the log of a server is for requests
    del model.forward
    other = make(str(policy), word_count, max_completion_length=60)
    assert best_of_n("one", 4, seed=1) == other("one", 4, seed=1)  # nothing of it is left in the model
