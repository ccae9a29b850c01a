import asyncio
import time

import pytest

from tailgrad.estimators import ESTIMATORS
from tailgrad.rewards import RewardTimeoutError
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer
from tailgrad.training.record import training_record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "tae"}, "did you mean 'tea'"),
        ({"estimator": "tea", "num_generations": 4}, "tail_fraction = 2/4"),
        ({"estimator": "max_at_k"}, "needs the option k"),
        ({"estimator": "max_at_k:k=9"}, "k = 9"),
        ({"deploy_n": 0}, "deploy_n"),
        ({"estimator": "tea:tail_fraction=1.5"}, "tail_fraction"),
        ({"estimator": "tea:deploy_n=64"}, "deploy_n = 128 is another: leave it out .* and give deploy_n = 64"),
        ({"advantage_scaling": "std"}, "none, group, batch"),
        (
            {
                "save_at_steps": [1],
                "load_best_model_at_end": True,
                **dict.fromkeys(("save_strategy", "eval_strategy"), "steps"),
                **dict.fromkeys(("save_steps", "eval_steps"), 1),
            },
            "load_best_model_at_end needs the best",
        ),
        ({"save_at_steps": [1], "save_total_limit": 2}, r"save_total_limit = 2 would remove .* save_at_steps = \[1\]"),
        ({"estimator": "tea:k=4"}, "belongs to max_at_k"),
    ],
)
def test_bad_options_are_answered_when_the_config_is_made(options, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        TailGRPOConfig(**options(**{"per_device_train_batch_size": 8} | changes))


def test_the_estimator_is_written_with_its_options(options) -> None:
    assert TailGRPOConfig(**options(), estimator="grpo", deploy_n=64).estimator_options() == {}
    config = TailGRPOConfig(**options(), estimator="tea:tail_fraction=0.5,deploy_n=64", deploy_n=64)
    assert (config.estimator_name, config.estimator_options()) == ("tea", {"deploy_n": 64, "tail_fraction": 0.5})


def test_levels_without_zero_are_taken(options) -> None:
    config = TailGRPOConfig(**options(), estimator="pass_at_n:levels=1+2+5,prior=1+16")
    assert config.estimator_options() == {"deploy_n": 128, "levels": [1.0, 2.0, 5.0], "prior": [1.0, 16.0]}


@pytest.mark.parametrize(
    ("own", "scaling"),
    [
        ({}, "group"),
        ({"estimator": "tea"}, "none"),
        ({"advantage_scaling": "none"}, "none"),
        ({"estimator": "grpo"}, "none"),
    ],
)
def test_flat_tea_alone_is_scaled_by_group_unless_said(options, own, scaling) -> None:
    assert TailGRPOConfig(**options(), **own).scaling == scaling


def test_the_record_of_a_training(options) -> None:
    kwargs = {"enable_thinking": False}
    args = TailGRPOConfig(**options(), estimator="max_at_k:k=4", chat_template_kwargs=kwargs)
    record = training_record(args, {"temperature": 0.7})
    assert (record["estimator"], record["options"]) == ("max_at_k", {"k": 4})
    assert (record["generation"], record["chat_template_kwargs"]) == ({"temperature": 0.7}, kwargs)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (lambda texts: [0.0] * (len(texts) - 1), ValueError, "returned 15 values for 16 rollouts"),
        (lambda texts: ["good"] * len(texts), ValueError, "returned 'good'"),
        (lambda texts: [float("inf")] * len(texts), ValueError, "must be finite"),
        (lambda texts: 1 / 0, RuntimeError, "raised ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_bad_reward_stops_the_training_with_its_name(
    policy, prompts, options, values, error, message, is_async
) -> None:
    def my_reward(completions: list[str], **_: object) -> object:
        return values(completions)

    async def my_reward_async(completions: list[str], **_: object) -> object:
        return values(completions)

    args = TailGRPOConfig(**options(max_steps=1))
    reward = my_reward_async if is_async else my_reward
    trainer = TailGRPOTrainer(model=str(policy), reward_funcs=reward, args=args, train_dataset=prompts)
    with pytest.raises(error, match=f"my_reward.*{message}"):
        trainer.train()


@pytest.mark.parametrize("lacks", ["train_dataset", "eval_dataset"])
def test_a_column_that_a_reward_needs_is_missed_before_the_policy_is_loaded(prompts, options, lacks: str) -> None:
    def graded(completions: list[str], answer: list[str], rubric: list[str], scale: float = 1, **_: object) -> object:
        return [0.0] * len(completions)

    whole = prompts.add_column("answer", ["a"] * len(prompts)).add_column("rubric", ["b"] * len(prompts))
    data = {"train_dataset": whole, "eval_dataset": whole} | {lacks: whole.remove_columns("answer")}
    found = "needs 'answer', which is no column of the (training|evaluation) data; there is: .*rubric"
    args = TailGRPOConfig(**options(eval_strategy="steps", eval_steps=1))
    with pytest.raises(ValueError, match=f"reward 'graded' {found}"):
        TailGRPOTrainer("no/such-policy", graded, args, **data)
    made = data[lacks].with_transform(lambda rows: rows | {"answer": ["a"] * len(rows["prompt"])})
    with pytest.raises(OSError, match=r"no/such-policy|connect"):  # what a function makes may have the column
        TailGRPOTrainer("no/such-policy", graded, args, **data | {lacks: made})


def test_what_trl_passes_needs_no_column(policy, prompts, options) -> None:
    def logged(prompts, completions, completion_ids, trainer_state, log_extra, log_metric, **_: object) -> object:
        return [0.0] * len(completions)

    trainer = TailGRPOTrainer(str(policy), [logged], TailGRPOConfig(**options(max_steps=1)), prompts)
    assert trainer.train().global_step == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_reward_that_hangs_stops_the_training_with_its_name(policy, prompts, options, is_async) -> None:
    def hangs(completions: list[str], **_: object) -> list[float]:
        time.sleep(60)
        return [0.0] * len(completions)

    async def hangs_async(completions: list[str], **_: object) -> list[float]:
        await asyncio.sleep(0)
        return hangs(completions)

    args = TailGRPOConfig(**options(max_steps=1, reward_timeout=0.2))
    reward = hangs_async if is_async else hangs
    trainer = TailGRPOTrainer(model=str(policy), reward_funcs=reward, args=args, train_dataset=prompts)
    with pytest.raises(RewardTimeoutError, match=r"'hangs.*' has not scored 16 rollouts within 0\.2 seconds"):
        trainer.train()


def test_async_rewards_that_are_checked_train_as_others_do(policy, prompts, options) -> None:
    """Side by side, as in TRL: both wait for each other."""
    met = []

    async def first(completions: list[str], **_: object) -> list[float | None]:
        met.append("first")
        while "second" not in met:
            await asyncio.sleep(0.01)
        return [None] + [float(len(text)) for text in completions[1:]]

    async def second(completions: list[str], **_: object) -> list[float]:
        met.append("second")
        while "first" not in met:
            await asyncio.sleep(0.01)
        return [0.5] * len(completions)

    args = TailGRPOConfig(**options(max_steps=1))
    trainer = TailGRPOTrainer(model=str(policy), reward_funcs=[first, second], args=args, train_dataset=prompts)
    trainer.train()
    assert trainer.state.global_step == 1
    assert trainer.reward_func_names == ["first", "second"]


def test_no_option_of_an_estimator_is_one_of_the_configuration() -> None:
    """But for N: an option on the command line that belongs to an estimator can be told by its name."""
    options = {option for row in ESTIMATORS.values() for option in row.options}
    assert options & set(TailGRPOConfig.__dataclass_fields__) == {"deploy_n"}
