"""A TRL script that changes the name of the trainer: same arguments, same defaults, same moment of failure."""

import inspect
from typing import Any

import pytest
from trl import GRPOConfig, GRPOTrainer

from tailgrad.quickstart.task import verifier
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer


def test_the_signature_is_the_hosts() -> None:
    ours, theirs = (
        inspect.signature(trainer.__init__).parameters.values() for trainer in (TailGRPOTrainer, GRPOTrainer)
    )
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def test_every_option_of_the_hosts_configuration_has_its_default() -> None:
    ours, theirs = (config.__dataclass_fields__ for config in (TailGRPOConfig, GRPOConfig))
    batches = {"per_device_train_batch_size", "per_device_eval_batch_size"}  # 8 too, where it fits
    assert list(ours)[: len(theirs)] == list(theirs)
    for name in set(theirs) - batches:
        assert (ours[name].default, ours[name].default_factory) == (theirs[name].default, theirs[name].default_factory)


def test_arguments_by_position_and_trls_own_configuration(policy, prompts, options, caplog) -> None:
    args = GRPOConfig(**options(max_steps=1))
    kept = args.to_dict()
    trainer = TailGRPOTrainer(str(policy), verifier, args, prompts)
    assert "estimator='flat_tea', deploy_n=128" in caplog.text
    assert trainer.args.scaling == "group"
    assert isinstance(trainer.args, TailGRPOConfig)
    assert {name: trainer.args.to_dict()[name] for name in kept} == kept
    trainer.train()
    assert trainer.state.log_history[0]["tail/advantage_scale"] > 0


def test_a_script_by_position_trains_as_by_name(policy, prompts, options) -> None:
    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    args = TailGRPOConfig(**options(max_steps=1))
    one = TailGRPOTrainer(str(policy), [reward], args, prompts)
    one.train()
    other = TailGRPOTrainer(train_dataset=prompts, args=args, reward_funcs=reward, model=str(policy))
    other.train()
    logged = [trainer.state.log_history[0]["reward"] for trainer in (one, other)]
    assert logged[0] == logged[1]


def test_without_a_configuration_it_is_the_default_one(policy, prompts, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "tailgrad.training.config.TailGRPOConfig",
        lambda folder: TailGRPOConfig(folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none"),
    )
    trainer = TailGRPOTrainer(str(policy), verifier, None, prompts)
    assert trainer.args.output_dir == f"{policy.name}-TailGRPO"
    assert (trainer.args.estimator, trainer.args.num_generations, trainer.args.per_device_train_batch_size) == (
        "flat_tea",
        8,
        8,
    )


@pytest.mark.parametrize("missing", ["reward_funcs", "train_dataset"])
def test_what_the_host_misses_is_missed_in_its_words(policy, prompts, options, missing) -> None:
    given = {"model": str(policy), "reward_funcs": verifier, "train_dataset": prompts}
    raised = []
    for trainer, config in ((GRPOTrainer, GRPOConfig), (TailGRPOTrainer, TailGRPOConfig)):
        with pytest.raises(ValueError, match=r"required|No reward source") as error:
            trainer(args=config(**options()), **given | {missing: None})
        raised.append(str(error.value))
    assert raised[0] == raised[1]


def test_what_is_no_configuration_is_refused(policy, prompts) -> None:
    from transformers import TrainingArguments

    with pytest.raises(TypeError, match="TailGRPOConfig"):
        TailGRPOTrainer(str(policy), verifier, TrainingArguments("out", use_cpu=True, report_to="none"), prompts)


@pytest.mark.parametrize(
    ("drawn", "own"),
    [(1, {}), (4, {"estimator": "tea"}), (2, {"estimator": "max_at_k:k=4"}), (2, {"estimator": "prefix_tea"})],
)
def test_an_evaluation_may_draw_fewer_than_the_estimator_needs(policy, prompts, options, caplog, drawn, own) -> None:
    changes = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": drawn, "num_generations": 16}
    args = TailGRPOConfig(**options(max_steps=1, **changes), **own)
    trainer = TailGRPOTrainer(str(policy), verifier, args, prompts, prompts.select(range(3)))
    assert f"num_generations_eval = {drawn} is below the" in caplog.text
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_reward"] > 0
    assert metrics["eval_tail/groups_too_small"] == 1
    assert metrics["eval_tail/advantage_scale"] == 0


def test_fewer_prompts_than_a_batch_takes_are_refused_before_the_model_is_loaded(prompts, options) -> None:
    args = TailGRPOConfig(**options(per_device_train_batch_size=64))
    with pytest.raises(ValueError, match="4 prompts, fewer than the 8"):
        TailGRPOTrainer("/no/such/model", verifier, args, prompts.select(range(4)))


def test_a_stream_with_too_few_prompts_is_not_called_trained(policy, prompts, options) -> None:
    args = TailGRPOConfig(**options(per_device_train_batch_size=64))
    trainer = TailGRPOTrainer(str(policy), verifier, args, prompts.select(range(4)).to_iterable_dataset())
    with pytest.raises(RuntimeError, match="without a step"):
        trainer.train()


def test_untouched_save_steps_are_no_reason_to_refuse(policy, prompts, options) -> None:
    args = TailGRPOConfig(**options(num_iterations=3, max_steps=3, save_strategy="steps"))
    assert args.save_steps == 500
    TailGRPOTrainer(str(policy), verifier, args, prompts)
    with pytest.raises(ValueError, match="--save_steps 501"):
        TailGRPOTrainer(
            str(policy),
            verifier,
            TailGRPOConfig(**options(num_iterations=3, max_steps=600, save_strategy="steps")),
            prompts,
        )
