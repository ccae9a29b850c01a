"""What a training says of options that act otherwise than one might think."""

import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, RwkvConfig, RwkvForCausalLM

from tailgrad.training import TailGRPOConfig, TailGRPOTrainer
from tailgrad.training.cautions import inert_options, masked_after_advantages, rounded_by_merging


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale_rewards": "none"}, "scale_rewards='none' no longer acts"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "normalize_then_sum' no longer acts"),
        (
            {"mask_truncated_completions": True, "estimator": "tea:tail_fraction=0.5"},
            "out of the loss after estimator=",
        ),
    ],
)
def test_what_acts_otherwise_than_in_trl_is_said_once(policy, prompts, options, caplog, changes, words) -> None:
    def reward(completions: list[str], **_: object) -> list[float]:
        return [float(len(text)) for text in completions]

    with caplog.at_level(logging.WARNING, logger="tailgrad.training.trainer"):
        args = TailGRPOConfig(**options(**changes))
        TailGRPOTrainer(model=str(policy), reward_funcs=reward, args=args, train_dataset=prompts)
    assert sum(words in record.getMessage() for record in caplog.records) == 1


def test_only_what_acts_otherwise_is_spoken_of(options) -> None:
    assert inert_options(TailGRPOConfig(**options())) is None
    assert (
        masked_after_advantages(TailGRPOConfig(**options(), mask_truncated_completions=True, estimator="grpo")) is None
    )


@pytest.mark.parametrize(("dtype", "drifts"), [(torch.bfloat16, True), (torch.float16, True), (torch.float32, False)])
def test_an_adapter_that_is_merged_for_vllm_needs_weights_in_32_bits(policy, options, dtype, drifts) -> None:
    """The weights drift: merging and taking out again as TRL does is not the identity in 16 bits."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(policy, dtype=dtype), LoraConfig(r=4))
    for name, one in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.02)
    frozen = [(one, one.detach().clone()) for one in model.parameters() if not one.requires_grad]
    for _ in range(20):
        model.merge_adapter()
        model.unmerge_adapter()
    moved = max(((now - before).float().norm() / before.float().norm()).item() for now, before in frozen)
    assert (moved > 1e-4) == drifts
    args = TailGRPOConfig(**options())
    args.use_vllm = True  # not in the call, which looks for vLLM
    said = rounded_by_merging(args, model)
    assert (said is not None) == drifts
    args.bf16, args.deepspeed_plugin = True, object()
    assert "train without DeepSpeed" in str(rounded_by_merging(args, model)), "it rounds weights of 32 bits too"
    args.bf16, args.deepspeed_plugin = False, None
    assert rounded_by_merging(TailGRPOConfig(**options()), model) is None
    assert rounded_by_merging(args, model.get_base_model()) is None


def test_a_policy_that_mixes_the_rows_of_a_batch_is_not_trained(policy, prompts, options, tmp_path, caplog) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2}
    model = RwkvForCausalLM(RwkvConfig(vocab_size=len(tokenizer), **sizes))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(tmp_path / "rwkv")
    tokenizer.save_pretrained(tmp_path / "rwkv")
    with pytest.raises(ValueError, match=r"\(rwkv\) gives .* Train another policy"):
        TailGRPOTrainer(
            model=str(tmp_path / "rwkv"),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=TailGRPOConfig(**options()),
            train_dataset=prompts,
        )


def test_a_check_that_cannot_be_made_does_not_stop_a_training(policy, prompts, options, monkeypatch) -> None:
    def broken(*args: object, **how: object) -> None:
        raise RuntimeError("FlashAttention only supports 16 bits")

    monkeypatch.setattr("tailgrad.training.cautions.check_batches", broken)
    args = TailGRPOConfig(**options())
    trainer = TailGRPOTrainer(
        model=str(policy),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=prompts,
    )
    assert not trainer.model.training  # as it was loaded


def test_the_check_computes_as_the_training_does(policy, prompts, options, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "tailgrad.training.cautions.check_batches",
        lambda model, *_, **__: seen.append(torch.is_autocast_enabled("cpu")),
    )
    args = TailGRPOConfig(**options(bf16=True))
    TailGRPOTrainer(
        model=str(policy),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=prompts,
    )
    assert seen == [True]
