"""Versions of TRL with a hook, and without what the seam needs: taken, or refused before a wrong step."""

from typing import Any

import pytest
import torch
import trl
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from tailgrad.estimators import tea
from tailgrad.quickstart.task import verifier
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer


class HostWithHook(GRPOTrainer):
    """TRL as its pull request 7298 would have it: the hook is called on all advantages, before log and slice."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        output["advantages"] = self._transform_advantages(output["advantages"])
        output["hooked"] = torch.ones(len(inputs))
        return output


def test_the_hosts_own_hook_is_preferred(policy, prompts, options) -> None:
    from tailgrad.training.seam import AdvantageSeam

    class Hooked(AdvantageSeam, HostWithHook):
        def estimate_advantages(self, rewards_per_func: Tensor, num_generations: int) -> Tensor:
            calls.append(num_generations)
            return tea(rewards_per_func[:, 0].view(-1, num_generations), deploy_n=64).flatten()

        def _rewrite_log(self, advantages: Tensor) -> None:
            raise AssertionError("the host logs what its hook returned")

    calls: list[int] = []
    trainer = Hooked(
        model=str(policy),
        reward_funcs=verifier,
        args=GRPOConfig(**options(max_steps=1)),
        train_dataset=prompts,
    )
    trainer.train()
    assert calls == [8]


def test_a_host_without_the_seam_is_an_error(policy, prompts, options) -> None:
    class Bypassed(TailGRPOTrainer):
        def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> Tensor:
            return torch.rand(len(prompts), 1)

    args = TailGRPOConfig(**options(max_steps=1))
    trainer = Bypassed(model=str(policy), reward_funcs=verifier, args=args, train_dataset=prompts)
    with pytest.raises(RuntimeError, match="supported version"):
        trainer.train()


class HostWithOtherAdvantages(GRPOTrainer):
    """A host that computes the advantages of the loss itself, after all that the seam can reach."""

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        inputs = super()._prepare_inputs(generation_batch)
        inputs["advantages"] = inputs["advantages"].roll(1) + 1e-3
        return inputs


class HostThatReadsAnother(GRPOTrainer):
    """A host whose loss takes advantages from elsewhere and leaves ours where they are."""

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        return super()._compute_loss(model, {**inputs, "advantages": torch.ones(len(inputs["prompt_ids"]))})


class HostWithAnotherName(GRPOTrainer):
    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        inputs = dict(super()._prepare_inputs(generation_batch))
        inputs["token_advantages"] = inputs.pop("advantages")
        return inputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        return super()._compute_loss(model, {**inputs, "advantages": inputs["token_advantages"]})


@pytest.mark.parametrize("host", [HostWithOtherAdvantages, HostThatReadsAnother, HostWithAnotherName])
def test_a_host_whose_loss_is_not_of_our_advantages_stops_at_the_first_step(policy, prompts, options, host) -> None:
    class Ours(TailGRPOTrainer, host):
        pass

    trainer = Ours(str(policy), verifier, TailGRPOConfig(**options()), prompts)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(
        RuntimeError, match=f"loss of TRL {trl.__version__} was not computed from tailgrad's advantages"
    ):
        trainer.train()
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())
