"""What shapes a response: training and sampling generate with one and the same settings, whoever sets them."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GenerationMixin
from trl import GRPOConfig

from tailgrad.quickstart.task import build_prompts
from tailgrad.rollouts import SampleConfig, read_rollouts, sample
from tailgrad.rollouts.generation import BEAMS, KNOWN, OFF, REFUSED, TRAINING_DEFAULTS, TRAINING_RECORD
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer
from tailgrad.training.record import generation_of

INERT = """
    max_length use_mtp use_cache cache_implementation cache_config max_cache_len renormalize_logits output_attentions
    output_hidden_states output_scores output_logits pad_token_id bos_token_id decoder_start_token_id is_assistant
    num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold prompt_lookup_num_tokens
    max_matching_ngram_size assistant_early_exit assistant_lookbehind target_lookbehind assistant_ensemble_weight
    speculation_type compile_config disable_compile continuous_batching_config low_memory penalty_alpha
    prefill_chunk_size transformers_version
"""
"""Settings that leave the distribution of sampled responses as it is, beside a `max_new_tokens`."""

TECHNICAL = {"max_length", "transformers_version", "_from_model_config", "bos_token_id", "output_attentions"} | {
    "output_hidden_states"
}
"""What `generate` fills in without meaning, and the begin token, which no prompt needs."""


class Spy:
    """Keeps the settings that reach the sampling loop of transformers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[dict[str, Any]] = []
        prepare = GenerationMixin._prepare_generation_config

        def keeps(model: Any, *args: Any, **kwargs: Any) -> Any:
            prepared = prepare(model, *args, **kwargs)
            self.seen.append({k: v for k, v in prepared[0].to_dict().items() if k not in TECHNICAL})
            return prepared

        monkeypatch.setattr(GenerationMixin, "_prepare_generation_config", keeps)
        for module in ("training.cautions", "rollouts.sampling"):  # which generates a little before
            monkeypatch.setattr(f"tailgrad.{module}.check_batches", lambda *_, **__: None)


def with_settings(policy: Path, folder: Path, **settings: Any) -> Path:
    """A copy of the policy whose own generation config has these settings."""
    shutil.copytree(policy, folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def trained(policy: Path, options: Any, reward: Any = None, peft_config: Any = None, **changes: Any) -> None:
    """One step of training."""
    rows = Dataset.from_list([{"prompt": row["prompt"], "answer": "x"} for row in build_prompts("train")[:8]])
    args = TailGRPOConfig(**options(max_steps=1, **changes))
    given = {"reward_funcs": reward or length, "args": args, "train_dataset": rows, "peft_config": peft_config}
    trainer = TailGRPOTrainer(model=str(policy), **given)
    trainer.train()
    trainer.save_model()


def length(*, completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def sampled(model: str | Path, tmp_path: Path, **changes: Any) -> Any:
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in build_prompts("train")[:4]))
    given = {"n": 8, "out": tmp_path / f"{len(list(tmp_path.glob('*.parquet')))}.parquet"} | changes
    return read_rollouts(
        sample(SampleConfig(model_name_or_path=str(model), dataset_name=str(data), reward_funcs=length, **given))
    )


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"temperature": 0.7, "top_p": 0.9, "top_k": 7, "min_p": 0.05, "repetition_penalty": 1.2}),
    ({"temperature": 0.3, "top_p": 0.5, "top_k": 3, "repetition_penalty": 3.0}, {}),
    ({"min_p": 0.2, "no_repeat_ngram_size": 2, "min_new_tokens": 3}, {}),
    ({"typical_p": 0.8, "epsilon_cutoff": 0.02, "eta_cutoff": 0.01, "min_length": 2}, {"min_p": 0.1}),
    ({"suppress_tokens": [7, 8], "begin_suppress_tokens": [9], "bad_words_ids": [[10], [11, 12]]}, {}),
    ({"exponential_decay_length_penalty": (2, 1.5), "encoder_repetition_penalty": 1.3}, {}),
    ({"forced_eos_token_id": 2}, {}),
    ({"sequence_bias": [[[7], -5.0]], "encoder_no_repeat_ngram_size": 2, "remove_invalid_values": True}, {}),
    ({"num_beams": 2, "length_penalty": 0.7, "early_stopping": True}, {}),
    ({"max_length": 400, "use_cache": True}, {}),
    ({"guidance_scale": 1.5}, {}),
    ({"min_p": 0.2}, {"generation_kwargs": {"min_p": 0.1, "typical_p": 0.9, "top_k": 5, "temperature": 0.8}}),
    ({}, {"generation_kwargs": {"eos_token_id": 9}}),
    ({}, {"top_k": None}),
    ({"watermarking_config": {"bias": 1.5}}, {"max_completion_length": 4}),
    ({"do_sample": False}, {"generation_kwargs": {"do_sample": False}}),
]


@pytest.mark.parametrize(("own", "changes"), CASES)
def test_the_same_settings_reach_the_loop_in_training_and_sampling(
    policy: Path, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Any, changes: Any
) -> None:
    start = with_settings(policy, tmp_path / "start", **own)
    spy = Spy(monkeypatch)
    trained(start, options, **changes)
    in_training = spy.seen[-1]
    table = sampled(tmp_path / "out", tmp_path)
    for settings in (in_training, spy.seen[-1]):
        ids = settings["eos_token_id"]
        settings["eos_token_id"] = ids if isinstance(ids, list) else [ids]
    assert spy.seen[-1] == in_training
    record = json.loads((tmp_path / "out" / TRAINING_RECORD).read_text())
    assert table.metadata["sampling"] == {"n": 8, **record["generation"]}
    assert table.metadata["trained_with"] == record["generation"]


@pytest.mark.parametrize("own", [own for own, changes in CASES if not changes and own])
def test_a_starting_policy_is_sampled_as_training_with_the_defaults_would(
    policy: Path, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Any
) -> None:
    start = with_settings(policy, tmp_path / "start", **own)
    spy = Spy(monkeypatch)
    trained(start, options)
    sampled(start, tmp_path, max_completion_length=6)
    assert spy.seen[-1] == spy.seen[0]


def test_every_setting_of_transformers_is_known_or_has_no_effect() -> None:
    theirs = {name for name in GenerationConfig().to_dict() if not name.startswith("_")}
    assert theirs - KNOWN - set(INERT.split()) == set()
    assert not KNOWN & set(INERT.split())
    assert not (OFF.keys() & BEAMS.keys()) | (OFF.keys() & REFUSED.keys())


def test_the_defaults_are_those_of_trl() -> None:
    theirs = GRPOConfig.__dataclass_fields__
    names = {name: name for name in TRAINING_DEFAULTS} | {"max_new_tokens": "max_completion_length"}
    expected = {name: theirs[other].default for name, other in names.items() if name != "do_sample"}
    assert expected | {"do_sample": True} == TRAINING_DEFAULTS
    assert theirs["min_p"].default is None


def test_tokens_that_a_generation_config_forbids_come_neither_in_training_nor_in_sampling(
    policy: Path, options: Any, tmp_path: Path
) -> None:
    forbidden, end = list(range(3, 20)), AutoTokenizer.from_pretrained(policy).eos_token_id
    start = with_settings(policy, tmp_path / "start", suppress_tokens=forbidden, min_new_tokens=4)
    seen: list[list[int]] = []

    def keeps(*, completion_ids: list[list[int]], **_: Any) -> list[float]:
        seen.extend(completion_ids)
        return [0.0] * len(completion_ids)

    trained(start, options, reward=keeps)
    in_training = list(seen)
    assert len(in_training) == 16
    for model in (tmp_path / "out", start):
        table = sampled(model, tmp_path, max_completion_length=6)
        responses = [ids.tolist() for ids in table.token_ids.ravel()]
        for ids in [*in_training, *responses]:
            assert len(ids) > 4
            assert not {*ids} & {*forbidden}
            assert end not in ids[:4]
        assert np.isfinite(table.logprobs).all()


def test_a_checkpoint_and_an_adapter_are_sampled_as_they_were_trained(
    policy: Path, options: Any, tmp_path: Path
) -> None:
    start = with_settings(policy, tmp_path / "start", typical_p=0.5)
    peft = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    trained(start, options, peft_config=peft, temperature=0.7, save_strategy="steps", save_steps=1)
    for model in ("out", "out/checkpoint-1"):
        assert (tmp_path / model / "adapter_config.json").exists()
        sampling = sampled(tmp_path / model, tmp_path).metadata["sampling"]
        expected = {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 6, "typical_p": 0.5}
        assert sampling == {"n": 8, **expected}


def test_what_differs_from_the_training_is_said(policy: Path, options: Any, tmp_path: Path) -> None:
    trained(with_settings(policy, tmp_path / "start", typical_p=0.5), options, temperature=0.7)
    words = r"temperature 0\.7 \(now 1\.0\), typical_p 0\.5 \(now off\), min_p off \(now 0\.1\)"
    with pytest.warns(UserWarning, match=words):
        table = sampled(tmp_path / "out", tmp_path, temperature=1.0, generation_kwargs={"typical_p": 1.0, "min_p": 0.1})
    assert table.metadata["sampling"]["min_p"] == 0.1
    assert "typical_p" not in table.metadata["sampling"]
    assert table.metadata["trained_with"]["typical_p"] == 0.5


@pytest.mark.parametrize(("name", "value"), [("num_return_sequences", 2), ("stop_strings", ["x"])])
def test_what_no_rollout_can_be_sampled_with_is_refused(
    policy: Path, options: Any, tmp_path: Path, name: str, value: Any
) -> None:
    start = with_settings(policy, tmp_path / "start", do_sample=True, **{name: value})
    for call in (lambda: trained(start, options), lambda: sampled(start, tmp_path)):
        with pytest.raises(ValueError, match=f"generation setting {name} is"):
            call()


def test_a_setting_that_shapes_nothing_cannot_be_asked_for(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'presence_penalty' is unknown or shapes no response"):
        sampled(policy, tmp_path, generation_kwargs={"presence_penalty": 1.0})


def test_the_record_of_a_training_with_vllm_has_its_own_settings_and_not_the_models(
    policy: Path, options: Any, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(with_settings(policy, tmp_path / "start", typical_p=0.5))
    kwargs = {"presence_penalty": 1.0, "min_tokens": 2, "frequency_penalty": 0.0, "seed": 3}
    args = TailGRPOConfig(**options(top_k=-1, repetition_penalty=1.1, generation_kwargs=kwargs))
    args.use_vllm = True
    generation = generation_of(SimpleNamespace(args=args, model=model))
    always = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 6}
    expected = always | {"repetition_penalty": 1.1, "min_new_tokens": 2, "presence_penalty": 1.0}
    assert generation == expected
    record = tmp_path / "start" / TRAINING_RECORD
    record.write_text(json.dumps({"generation": generation}))
    with pytest.warns(UserWarning, match=r"presence_penalty 1\.0 \(now off\)"):
        table = sampled(tmp_path / "start", tmp_path)
    assert table.metadata["sampling"] == {"n": 8, **{k: v for k, v in expected.items() if k != "presence_penalty"}}


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_a_broken_record_is_named(policy: Path, tmp_path: Path, text: str) -> None:
    start = with_settings(policy, tmp_path / "start")
    (start / TRAINING_RECORD).write_text(text)
    with pytest.raises(ValueError, match=r"tailgrad_training\.json' is no record of a training"):
        sampled(start, tmp_path)


@pytest.mark.parametrize(("rate", "said"), [(0.2, True), (0.0, False)])
def test_dropout_that_acts_on_the_responses_is_said(
    policy: Path, options: Any, caplog: pytest.LogCaptureFixture, rate: float, said: bool
) -> None:
    peft = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", lora_dropout=rate)
    args = TailGRPOConfig(**options(max_steps=1))
    rows = Dataset.from_list([{"prompt": "one"}] * 8)
    with caplog.at_level("WARNING", logger="tailgrad.training.record"):
        TailGRPOTrainer(model=str(policy), reward_funcs=length, args=args, train_dataset=rows, peft_config=peft)
    assert ("generated with dropout (0.2)" in caplog.text) is said


@pytest.mark.parametrize("own", [{"min_p": 0.2}, {"length_penalty": 0.7}, {"typical_p": 0.9, "early_stopping": True}])
def test_a_policy_whose_generation_config_does_nothing_as_it_stands_is_saved(
    policy: Path, options: Any, tmp_path: Path, own: dict[str, Any]
) -> None:
    """TRL changes the pad token, and transformers then refuses to save the rest: at the first checkpoint."""
    start = with_settings(policy, tmp_path / "start", pad_token_id=5, **own)
    trained(start, options, save_strategy="steps", save_steps=1)
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert saved["do_sample"] is True
    assert {name: saved.get(name) for name in own} == {
        name: None if name in BEAMS else value for name, value in own.items()
    }
    sampling = sampled(tmp_path / "out", tmp_path).metadata["sampling"]
    assert {name: sampling.get(name) for name in own} == {
        name: None if name in BEAMS else value for name, value in own.items()
    }


def test_special_tokens_that_transformers_aligns_at_the_start_are_no_reason_not_to_save(
    policy: Path, options: Any, tmp_path: Path
) -> None:
    trained(with_settings(policy, tmp_path / "start", eos_token_id=9, min_p=0.2), options)
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (saved["min_p"], saved["do_sample"]) == (0.2, True)
    assert saved["eos_token_id"] != 9


def test_a_generation_config_that_could_not_be_saved_is_refused_at_the_start(
    policy: Path, options: Any, tmp_path: Path
) -> None:
    start = with_settings(policy, tmp_path / "start", pad_token_id=5, output_scores=True)
    with pytest.raises(ValueError, match=r"generation_config\.json could not be saved after .*output_scores"):
        trained(start, options)
