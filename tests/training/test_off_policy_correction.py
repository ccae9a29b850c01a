"""Advantages at the policy now, before each further step on the same rollouts; each test runs a real trainer."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tailgrad.estimators import bind
from tailgrad.quickstart.task import verifier
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer


class Watching(TailGRPOTrainer):
    """Keeps what the loss was computed from, and the log-probabilities of the policy at that time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.passes: list[dict[str, Tensor]] = []
        self.rewards: list[Tensor] = []
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self.rewards.append(self._gathered_rewards[:, 0].clone())
        return output

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        if self.model.training:
            kept = {name: inputs[name].clone() for name in ("place", "advantages") if name in inputs}
            self.passes.append(kept | {"now": log_probabilities(self.model, inputs)})
        return super().compute_loss(model, inputs, *args, **kwargs)


def log_probabilities(model: Any, batch: dict[str, Any]) -> Tensor:
    """log pi of each response, summed over its tokens, from the model's logits."""
    tokens = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        logits = model(input_ids=tokens, attention_mask=attention).logits
    each = logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None])[:, -batch["completion_ids"].shape[1] :, 0]
    return (each * batch["completion_mask"]).sum(dim=1)


def trained(policy: Any, prompts: Any, args: TailGRPOConfig, **kwargs: Any) -> Watching:
    trainer = Watching(str(policy), verifier, args, prompts, **kwargs)
    trainer.train()
    return trainer


def in_order(passes: list[dict[str, Tensor]], name: str) -> Tensor:
    """What the passes over one batch of rollouts had, in the order in which the rollouts were drawn."""
    places = torch.cat([kept["place"] for kept in passes])
    assert sorted(places.tolist()) == list(range(16))
    return torch.cat([kept[name] for kept in passes])[places.argsort()]


@pytest.mark.parametrize(
    ("name", "own"),
    [("max_at_k:k=4", {}), ("tea", {"deploy_n": 64}), ("flat_tea", {"advantage_scaling": "none"})],
)
def test_a_further_iteration_has_the_advantages_of_the_policy_then(policy, prompts, options, name, own) -> None:
    args = TailGRPOConfig(**options(num_iterations=3, max_steps=6), estimator=name, **own, off_policy_correction=True)
    trainer = trained(policy, prompts, args)
    estimate = bind(args.estimator_name, **args.estimator_options())
    assert (len(trainer.rewards), len(trainer.passes)) == (2, 6)
    for batch, rewards in enumerate(trainer.rewards):
        first, *further = trainer.passes[3 * batch : 3 * batch + 3]
        drawn_at = in_order([first], "now")
        assert torch.equal(in_order([first], "advantages"), estimate(rewards.view(2, 8)).flatten())
        for kept in further:
            ratios = (in_order([kept], "now") - drawn_at).exp().view(2, 8)
            assert ratios.std() > 0.01
            expected = estimate(rewards.view(2, 8), ratios).flatten()
            torch.testing.assert_close(in_order([kept], "advantages"), expected, rtol=1e-3, atol=1e-4)
            assert not torch.allclose(expected, estimate(rewards.view(2, 8)).flatten(), rtol=1e-2, atol=1e-3)


def test_each_step_on_a_part_of_the_rollouts_has_the_advantages_of_its_policy(policy, prompts, options) -> None:
    """Four steps take four rollouts each, of groups that lie across them; an evaluation comes between."""
    changes = {"per_device_train_batch_size": 4, "steps_per_generation": 4, "max_steps": 4, "eval_strategy": "steps"}
    changes |= {"eval_steps": 2, "per_device_eval_batch_size": 8, "advantage_scaling": "batch"}
    args = TailGRPOConfig(**options(**changes), estimator="max_at_k:k=4", off_policy_correction=True)
    trainer = trained(policy, prompts, args, eval_dataset=prompts.select(range(1)))
    [rewards] = trainer.rewards
    assert len(trainer.passes) == 4
    plain = bind("max_at_k", k=4)(rewards.view(2, 8)).flatten()
    scaled = plain / plain.square().mean().sqrt()
    away = [(kept["advantages"] - scaled[kept["place"]]).abs().max().item() for kept in trainer.passes]
    assert away[0] < 1e-6 < 1e-3 < min(away[1:])


def test_all_backward_passes_of_a_step_have_the_advantages_of_its_policy(policy, prompts, options) -> None:
    """Two passes of eight rollouts make a step; without a backward pass between, they share the advantages."""
    changes = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "num_iterations": 2}
    args = TailGRPOConfig(**options(**changes), estimator="max_at_k:k=4", off_policy_correction=True)
    trainer = trained(policy, prompts, args)
    [rewards], passes = trainer.rewards, trainer.passes
    assert len(passes) == 4
    estimate = bind("max_at_k", k=4)
    assert torch.equal(in_order(passes[:2], "advantages"), estimate(rewards.view(2, 8)).flatten())
    ratios = (in_order(passes[2:], "now") - in_order(passes[:2], "now")).exp().view(2, 8)
    assert ratios.std() > 0.01
    expected = estimate(rewards.view(2, 8), ratios).flatten()
    torch.testing.assert_close(in_order(passes[2:], "advantages"), expected, rtol=1e-3, atol=1e-4)


def corrected(policy: Any, prompts: Any, options: Any, log_ratios: Tensor, **own: Any) -> tuple[Tensor, Tensor]:
    """Advantages of two groups at these log-ratios, and of the same rewards without."""
    args = TailGRPOConfig(**options(num_iterations=2), off_policy_correction=True, **own)
    rewards = torch.randn(16, 1, generator=torch.Generator().manual_seed(0))
    trainer = TailGRPOTrainer(str(policy), verifier, args, prompts)
    at_ratios = trainer.estimate_advantages(rewards, 8, log_ratios)
    return at_ratios.view(2, 8), trainer.estimate_advantages(rewards, 8).view(2, 8)


def test_ratios_far_from_one_neither_overflow_nor_vanish(policy, prompts, options) -> None:
    log_ratios = torch.full((16,), -1000.0)
    log_ratios[0] = 1000.0
    advantages, plain = corrected(policy, prompts, options, log_ratios, estimator="flat_tea")
    assert advantages.isfinite().all()
    torch.testing.assert_close(advantages[1], plain[1], msg="ratios that are all equal change no advantage")


@pytest.mark.parametrize("scaling", ["none", "group", "batch"])
def test_the_scale_is_that_of_the_rollouts_when_drawn(policy, prompts, options, scaling) -> None:
    """So a response whose ratio is large does not silence the other groups of the batch."""
    log_ratios = torch.zeros(16)
    log_ratios[3] = 10.0
    own = {"estimator": "max_at_k:k=4", "advantage_scaling": scaling}
    advantages, plain = corrected(policy, prompts, options, log_ratios, **own)
    torch.testing.assert_close(advantages[1], plain[1])
    rewards = torch.randn(16, generator=torch.Generator().manual_seed(0)).view(2, 8)
    raw = bind("max_at_k", k=4)(rewards)
    by_ratios = bind("max_at_k", k=4)(rewards, log_ratios.view(2, 8).exp())
    torch.testing.assert_close(advantages / plain, by_ratios / raw)


def test_log_ratios_of_bfloat16_are_summed_in_double(policy, prompts, options, monkeypatch) -> None:
    """1 + 1/256 is 1 in bfloat16."""
    args = TailGRPOConfig(**options(num_iterations=2), estimator="flat_tea", off_policy_correction=True)
    trainer = TailGRPOTrainer(str(policy), verifier, args, prompts)
    then = torch.full((2, 257), -1.0, dtype=torch.bfloat16)
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_, **__: (then + 1 / 256, None, None), raising=True
    )
    ones = torch.ones(2, 257, dtype=torch.int64)
    batch = {f"{part}_{kind}": ones for part in ("prompt", "completion") for kind in ("ids", "mask")}
    assert trainer._log_ratios(batch | {"old_per_token_logps": then}).tolist() == [257 / 256] * 2


def test_a_forward_pass_without_gradient_is_not_checkpointed(policy, prompts, options) -> None:
    class Looking(Watching):
        def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            checkpointed = any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
            looked.append((torch.is_grad_enabled(), checkpointed))
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)

    looked: list[tuple[bool, bool]] = []
    own = options(num_iterations=2, gradient_checkpointing=True)
    args = TailGRPOConfig(**own, estimator="flat_tea", off_policy_correction=True)
    Looking(str(policy), verifier, args, prompts).train()
    assert looked.count((True, True)) == 2, "the losses"
    assert set(looked) == {(True, True), (False, False)}


@pytest.mark.parametrize("layers", [True, False])
def test_dropout_is_refused(policy, prompts, options, layers) -> None:
    """In layers, or a rate that the attention applies by itself."""
    model = AutoModelForCausalLM.from_pretrained(policy)
    if layers:
        model.add_module("noise", torch.nn.Dropout(0.05))
    else:
        next(model.children()).attention_dropout = 0.05
    args = TailGRPOConfig(**options(num_iterations=2), estimator="flat_tea", off_policy_correction=True)
    with pytest.raises(ValueError, match=r"dropout \(0.05\) makes noise: set --disable_dropout true, --lora_dropout 0"):
        TailGRPOTrainer(model, verifier, args, prompts)


def test_without_it_the_advantages_stay(policy, prompts, options) -> None:
    args = TailGRPOConfig(**options(num_iterations=2, max_steps=2), estimator="max_at_k:k=4")
    first, second = trained(policy, prompts, args).passes
    assert torch.equal(first["advantages"], second["advantages"])
    assert "place" not in first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "grpo"}, r"no form for estimator = 'grpo'; choose one of .*tea.*, max_at_k"),
        ({"estimator": "tea:tail=exponential"}, "has no form for ratios of an older policy"),
        ({"num_iterations": 1}, "nothing to correct: rollouts serve 1 backward passes, a step takes 1"),
        ({"gradient_accumulation_steps": 4}, "nothing to correct: rollouts serve 4 backward passes, a step takes 4"),
        ({"mask_truncated_completions": True}, "no ratio of a response that mask_truncated_completions leaves out"),
    ],
)
def test_what_cannot_be_corrected_is_refused(options, changes, message) -> None:
    given = {"estimator": "max_at_k:k=4", "num_iterations": 2}
    if "gradient_accumulation_steps" in changes:
        changes |= {"steps_per_generation": 2}
    with pytest.raises(ValueError, match=message):
        TailGRPOConfig(**options(), off_policy_correction=True, **given | changes)
