"""TRL's own loop and process of rollouts, with tailgrad's advantages; vLLM is a stub."""

import math
import multiprocessing
import queue
import random
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import PartialState
from async_rewards import words
from datasets import Dataset
from trl.chat_template_utils import qwen3_chat_template
from trl.experimental.async_grpo import async_rollout_worker
from trl.experimental.async_grpo.async_rollout_worker import (
    AsyncRolloutWorker,
    RolloutGroup,
    RolloutSample,
    TrainingSequence,
)

from local_servers import running
from tailgrad.estimators import bind, parse_estimator
from tailgrad.integrations import GroupEstimator
from tailgrad.integrations.trl_async import TailRolloutLoop, use
from tiny_policies import save_policy

TEA = "tea:tail_fraction=0.5"
REWARDS = [3.0, 1.0, None, 7.0, 5.0, 2.0, 2.0, 9.0]


@pytest.fixture(scope="module", autouse=True)
def accelerate_state() -> None:
    """TRL's log needs it; in a training the trainer makes it."""
    PartialState()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = save_policy(tmp_path_factory.mktemp("policy"), chat_template=qwen3_chat_template)
    return AutoTokenizer.from_pretrained(folder)


def test_rounding_of_float32_is_no_signal(tokenizer: Any) -> None:
    """0.3 + 0.4 of a reward model in float32, beside 0.7: flat TEA scales each group, and would make it one."""

    def rounded(completions: list[Any], **columns: Any) -> list[float]:
        return [float(np.float32(0.7))] * 7 + [float(np.float32(0.3) + np.float32(0.4))]

    assert {sample.advantage for sample in score(tokenizer, "flat_tea", [rounded], [1] * 8)} == {0.0}


def options(tokenizer: Any, **others: Any) -> dict[str, Any]:
    """What TRL's trainer gives its worker."""
    prompt = [{"role": "user", "content": "one two"}]
    given = {"model_name": "m", "dataset": Dataset.from_list([{"prompt": prompt}] * 4), "reward_funcs": [words]}
    return given | {"processing_class": tokenizer, "eos_token_ids": [2], "num_generations": 8, **others}


def score(tokenizer: Any, estimator: str, reward_funcs: list[Any], rows: list[int]) -> list[RolloutSample]:
    """What TRL's loop makes of a group whose rollouts have so many rows."""
    context = multiprocessing.get_context("spawn")
    shared = {"model_version_value": context.Value("i", 0), "heartbeat_value": context.Value("d", 0.0)}
    queues = {name: queue.Queue() for name in ("rollout_buffer", "exception_info_queue", "metrics_queue")}
    given = options(tokenizer, reward_funcs=reward_funcs, failed_event=context.Event(), **shared, **queues)
    made = TailRolloutLoop(estimator=GroupEstimator.read(estimator, deploy_n=64), **given)
    try:
        return made._loop.run_until_complete(made._score_group(group(rows)))
    finally:
        made._loop.close()


def group(rows: list[int]) -> RolloutGroup:
    """A group whose rollouts have so many rows to train on."""
    one = TrainingSequence([5, 6, 2], [0, 1, 1], [0.0, -1.0, -1.0], "id")
    count = len(rows)
    return RolloutGroup(
        prompts=[[{"role": "user", "content": "one"}]] * count,
        reward_kwargs={},
        completions=[[{"role": "assistant", "content": str(i)}] for i in range(count)],
        completions_ids=[[6, 2]] * count,
        completions_sequences=[[one] * number for number in rows],
        tool_call_counts=[0] * count,
        tool_failure_counts=[0] * count,
        model_version=0,
        group_id=0,
        env_rewards=[None] * count,
        rollout_rewards=[None] * count,
    )


@pytest.mark.parametrize("estimator", [TEA, "flat_tea", "max_at_k:k=2", "rloo", "grpo"])
@pytest.mark.parametrize("rows", [[1] * 8, [2, 1, 1, 3, 1, 0, 1, 1]])
def test_each_row_gets_the_advantage_of_its_rollout(tokenizer: Any, estimator: str, rows: list[int]) -> None:
    def given(completions: list[Any], **columns: Any) -> list[float | None]:
        return [REWARDS[int(one[0]["content"])] for one in completions]

    async def more(completions: list[Any], **columns: Any) -> list[float]:
        return [0.25] * len(completions)

    # A rollout that one of the functions scored has the sum of those; one without a row is left out of its group.
    for functions, shift in (([given], math.nan), ([given, more], 0.25)):
        samples = score(tokenizer, estimator, functions, rows)
        values = [shift if one is None else one + (0 if math.isnan(shift) else shift) for one in REWARDS]
        trained = [i for i in range(8) if rows[i]]
        scored = [i for i in trained if not math.isnan(values[i])]
        rewards = torch.tensor([[values[i] for i in scored]], dtype=torch.float64)
        name, settings = parse_estimator(estimator)
        advantages = bind(name, **settings, **({"deploy_n": 64} if name.endswith("tea") else {}))(rewards)
        expected = np.zeros(8)
        expected[scored] = advantages[0].numpy() * len(trained) / len(scored)  # the mean is over all that are trained
        if name == "flat_tea":  # the others have no scale of their own
            expected /= np.sqrt(np.square(expected[trained]).mean())
        np.testing.assert_allclose([one.advantage for one in samples], np.repeat(expected, rows), rtol=1e-6)


def test_the_process_of_rollouts_gives_teas_advantages(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_rollout_worker, "is_vllm_available", lambda: True)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def answer(_: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        draw = random.Random(body["seed"])
        ids = [draw.randint(5, 11) for _ in range(draw.randint(1, 9))] + [2]
        choice = {"token_ids": ids, "logprobs": {"token_logprobs": [-2.0] * len(ids)}}
        return 200, {"choices": [choice]}, {"Content-Type": "application/json"}

    with running(answer) as server:
        worker = AsyncRolloutWorker(**options(tokenizer, vllm_server_url=server.url, max_inflight_tasks=16))
        use(trainer_with(worker), TEA, deploy_n=64)
        worker.start()
        try:
            groups = defaultdict(list)
            for _ in range(24):
                sample = worker.rollout_buffer.get(timeout=60)
                groups[sample.group_id].append((sample.metrics["reward"], sample.advantage))
            worker.check_health(60)
            with pytest.raises(RuntimeError, match="has been started"):
                use(trainer_with(worker), TEA)
        finally:
            worker.stop()
    assert len(groups) == 3
    tea = bind("tea", tail_fraction=0.5, deploy_n=64)
    for pairs in groups.values():
        rewards, advantages = torch.tensor(pairs, dtype=torch.float64).T
        torch.testing.assert_close(advantages, tea(rewards[None])[0])


def trainer_with(worker: Any, num_generations: int = 8) -> Any:
    return SimpleNamespace(args=SimpleNamespace(num_generations=num_generations), rollout_worker=worker)


def test_what_cannot_be_is_refused_before_the_training() -> None:
    with pytest.raises(ValueError, match="needs 3 rollouts per prompt, and num_generations is 2: draw more"):
        use(trainer_with(None, num_generations=2), TEA)
    with pytest.raises(ValueError, match="scores prompt by prompt"):
        use(trainer_with(None), TEA, advantage_scaling="batch")
    with pytest.raises(ValueError, match="unknown"):
        use(trainer_with(None), "teaa")
    with pytest.raises(TypeError, match="scores by SimpleNamespace; this works with TRL's own"):
        use(trainer_with(SimpleNamespace()), TEA)
    use(trainer_with(None), TEA)  # a process that has no worker
