"""The seam with TRL: each test runs a real trainer on a saved model."""

from typing import Any

import pytest
import torch
import trl
from torch import Tensor
from trl import GRPOTrainer

from tailgrad.estimators import ESTIMATORS, bind, dr_grpo, grpo, tea
from tailgrad.quickstart.task import verifier
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer


def sometimes_unscored(*, completions: list[str], **_: Any) -> list[float | None]:
    return [None if len(text) % 3 == 0 else len(text) / 10 for text in completions]


def weights(trainer: GRPOTrainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


class Recorder(TailGRPOTrainer):
    """Keeps what the seam saw and what the loss got."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        self.seen.append((self._gathered_rewards.clone(), output["advantages"].clone()))
        return output


@pytest.mark.parametrize("distinct", [6, 3])
def test_logits_of_prompts_are_left_out(
    policy, prompts, options, distinct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is left is read once for all rows of a prompt, with the same gradient."""
    args = TailGRPOConfig(**options(), estimator="grpo")
    trainer = TailGRPOTrainer(model=str(policy), reward_funcs=verifier, args=args, train_dataset=prompts)
    torch.manual_seed(0)
    tokens = torch.randint(3, 12, (6, 15))
    mask = torch.ones_like(tokens)
    mask[0, :4] = 0
    tokens[distinct:, :10], mask[distinct:, :10] = tokens[: 6 - distinct, :10], mask[: 6 - distinct, :10]
    mask[1, -2:] = 0
    kernel, rows = trl.trainer.utils._ChunkedLogProbFunction, []

    class Counted:
        @staticmethod
        def apply(hidden: Tensor, *others: Any) -> Any:
            rows.append(len(hidden))
            return kernel.apply(hidden, *others)

    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", Counted)
    found: list[Any] = []
    read: list[int] = []
    trainer.model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    for host in (GRPOTrainer, TailGRPOTrainer):
        trainer.model.zero_grad()
        computed = host._get_per_token_logps_and_entropies(
            trainer, trainer.model, tokens, mask, 5, compute_entropy=True
        )
        (computed[0] * torch.arange(5)).sum().backward()
        found.append((*computed[:2], *(parameter.grad.clone() for parameter in trainer.model.parameters())))
    assert rows == [6 * 14, 6 * 5 - 2]
    assert read == ([6 * 15] * 2 if distinct == 6 else [6 * 15, 3 * 9, 6 * 6])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert ours.any()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_prompt_is_read_once_for_its_rollouts(policy, prompts, options, dropout: float) -> None:
    args = TailGRPOConfig(**options(max_steps=1), estimator="grpo")
    trainer = TailGRPOTrainer(model=str(policy), reward_funcs=verifier, args=args, train_dataset=prompts)
    for part in trainer.model.modules():
        part.attention_dropout = dropout
    rows: list[int] = []
    trainer.model.register_forward_pre_hook(lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True)
    trainer.train()
    assert rows[:2] == ([2, 16] if dropout == 0 else [16, 16])


OPTIONS = {
    "prefix_tea": ":tail_fraction=0.5",
    "max_at_k": ":k=4",
    "order_grad": ":k=4,top=2",
    "pass_at_k": ":k=3",
    "rs_grpo": ":risk_beta=1",
}


def success(*, completions: list[str], **_: Any) -> list[float]:
    return [float(len(text) % 2) for text in completions]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_trains(policy, prompts, options, name: str) -> None:
    args = TailGRPOConfig(**options(), estimator=name + OPTIONS.get(name, ""), advantage_scaling="none")
    reward = success if name in ("pass_at_k", "pass_at_n", "max_rl", "f_grpo") else verifier
    trainer = Recorder(model=str(policy), reward_funcs=reward, args=args, train_dataset=prompts)
    trainer.train()
    estimate = bind(name, **args.estimator_options())
    assert all(torch.equal(advantages, estimate(rewards.view(-1, 8)).flatten()) for rewards, advantages in trainer.seen)
    assert any(bool(advantages.any()) for _, advantages in trainer.seen)


def test_another_estimator_ends_elsewhere(policy, prompts, options) -> None:
    ends = []
    for estimator in ("grpo", "tea"):
        args = TailGRPOConfig(**options(), estimator=estimator)
        trainer = TailGRPOTrainer(model=str(policy), reward_funcs=verifier, args=args, train_dataset=prompts)
        trainer.train()
        ends.append(weights(trainer))
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo"])
def test_the_loss_gets_the_estimators_advantages(policy, prompts, options, loss_type) -> None:
    own = options(loss_type=loss_type, max_steps=1, log_completions=True)
    args = TailGRPOConfig(**own, estimator="tea", deploy_n=64)
    trainer = Recorder(model=str(policy), reward_funcs=verifier, args=args, train_dataset=prompts)
    trainer.train()
    [(rewards, advantages)] = trainer.seen
    expected = tea(rewards[:, 0].view(2, 8), deploy_n=64)
    assert expected.any()
    torch.testing.assert_close(advantages, expected.flatten(), rtol=0, atol=0)
    assert list(trainer._logs["advantages"]) == advantages.tolist()


def test_weighted_rewards_and_unscored_rollouts(policy, prompts, options) -> None:
    args = TailGRPOConfig(**options(max_steps=1, reward_weights=[1.0, 0.5]), estimator="dr_grpo")
    trainer = Recorder(
        model=str(policy),
        reward_funcs=[sometimes_unscored, sometimes_unscored],
        args=args,
        train_dataset=prompts,
    )
    trainer.train()
    [(rewards, advantages)] = trainer.seen
    assert 0 < torch.isnan(rewards[:, 0]).sum() < 16
    expected = dr_grpo(1.5 * rewards[:, 0].view(2, 8)).flatten()
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-6)
    assert (advantages[torch.isnan(rewards[:, 0])] == 0).all()
    [logged] = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert logged["tail/unscored"] == pytest.approx(torch.isnan(rewards[:, 0]).double().mean().item())


def test_evaluation_has_its_own_number_of_rollouts(policy, prompts, options) -> None:
    changes = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "num_generations_eval": 4,
        "per_device_eval_batch_size": 8,
    }
    args = TailGRPOConfig(**options(max_steps=1, **changes), estimator="grpo")
    trainer = Recorder(
        model=str(policy),
        reward_funcs=verifier,
        args=args,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(2)),
    )
    trainer.train()
    rewards, advantages = trainer.seen[-1]
    torch.testing.assert_close(advantages, grpo(rewards[:, 0].view(2, 4)).flatten(), rtol=0, atol=0)
    assert any("eval_tail/advantage_scale" in entry for entry in trainer.state.log_history)


def test_every_step_logs_the_tail(policy, prompts, options) -> None:
    args = TailGRPOConfig(**options(max_steps=2), deploy_n=64)
    trainer = TailGRPOTrainer(model=str(policy), reward_funcs=verifier, args=args, train_dataset=prompts)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(steps) == 2
    names = {
        "advantage_scale",
        "groups_without_signal",
        "groups_too_small",
        "unscored",
        "spread",
        "best_of_8",
        "forecast_best_of_64",
    }
    for entry in steps:
        assert {f"tail/{name}" for name in names} | {"kl", "reward"} <= entry.keys()
        assert entry["tail/forecast_best_of_64"] > entry["tail/best_of_8"] > entry["reward"]


def test_lora_adapters_train(policy, prompts, options) -> None:
    from peft import LoraConfig

    args = TailGRPOConfig(**options(max_steps=1))
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = Recorder(model=str(policy), reward_funcs=verifier, args=args, train_dataset=prompts, peft_config=adapter)
    before = weights(trainer)
    trainer.train()
    changed = {name for name, tensor in weights(trainer).items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all("lora" in name for name in changed)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_iterations": 2},
        {"per_device_train_batch_size": 8, "steps_per_generation": 4, "max_steps": 6},
        {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True},
    ],
)
def test_the_look_at_the_loss_finds_nothing_where_all_is_well(policy, prompts, options, changes) -> None:
    looked = []

    class Watched(TailGRPOTrainer):
        def _check_what_the_loss_read(self, batch: Any) -> None:
            super()._check_what_the_loss_read(batch)
            looked.append(len(batch["advantages"]))

    args = TailGRPOConfig(**options(**changes), estimator="grpo")  # with no advantage of 0
    trainer = Watched(str(policy), verifier, args, prompts, prompts.select(range(2)))
    trainer.train()
    assert looked == [args.per_device_train_batch_size]  # once
    trainer.train()
    assert len(looked) == 2


def test_zeros_prove_nothing_and_the_look_is_repeated(policy, prompts, options) -> None:
    class Flat(TailGRPOTrainer):
        def estimate_advantages(self, rewards_per_func: Tensor, num_generations: int) -> Tensor:
            return super().estimate_advantages(rewards_per_func, num_generations) * (self.state.global_step > 0)

    trainer = Flat(str(policy), verifier, TailGRPOConfig(**options(max_steps=1)), prompts)
    trainer.train()
    assert not trainer._loss_is_ours
    trainer = Flat(str(policy), verifier, TailGRPOConfig(**options(max_steps=2)), prompts)
    trainer.train()
    assert trainer._loss_is_ours
