"""What the gradients are taken with respect to: chosen, refused, recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from small_gradients import PROMPTS, RESPONSES, Flat, by_autograd, small_model
from tailgrad.fidelity import gradient_store, parameters
from tailgrad.fidelity.count_sketch import gradient_sketches
from tailgrad.fidelity.gradient_config import complete, described
from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.fidelity.lora import fresh_adapter, lora_sketches
from tailgrad.fidelity.parameters import parameter_names
from tailgrad.models.skeleton import skeleton
from tailgrad.rollouts import SampleConfig, read_rollouts, sample
from tiny_policies import save_policy


def config_of(folder: Path, **changes: Any) -> GradientConfig:
    return GradientConfig(**{"table": "t", "model_name_or_path": str(folder), "out": "o"} | changes)


def test_the_last_blocks_are_a_part_of_all() -> None:
    model = small_model("tied llama")
    names = parameter_names(model, "last:1")
    assert names == [name for name, _ in model.named_parameters() if name.startswith("model.layers.1.")]
    assert len(names) == 9  # four of attention, three of the MLP, two norms
    assert parameter_names(model, "last:2") == [
        name for name, _ in model.named_parameters() if name.startswith("model.layers.")
    ]
    model.set_attn_implementation("eager")
    own = dict(model.named_parameters())
    found, _ = gradient_sketches(model, Flat({name: own[name] for name in names}), PROMPTS, RESPONSES, names=names)
    for pair, row in zip(zip(PROMPTS, RESPONSES, strict=True), found, strict=True):
        every = torch.from_numpy(by_autograd(model, *pair, 1.0)[0]).split([value.numel() for value in own.values()])
        expected = torch.cat([part for name, part in zip(own, every, strict=True) if name in names]).numpy()
        np.testing.assert_allclose(row, expected, atol=2e-5 * np.abs(expected).max())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_blocks_that_are_not_there_or_not_their_own_are_refused() -> None:
    model = small_model("llama")
    with pytest.raises(ValueError, match="'last:3', and the model has 2 blocks; take last:2 or less"):
        parameter_names(model, "last:3")
    model.model.layers[1].mlp = model.model.layers[0].mlp
    with pytest.raises(ValueError, match=r"shares model\.layers.1.mlp\.down_proj\.weight with an earlier one"):
        parameter_names(model, "last:1")
    assert len(parameter_names(model, "all")) == 21 - 3
    model.model.layers = torch.nn.ModuleList([*model.model.layers, *model.model.layers])
    with pytest.raises(ValueError, match="has no list of its 2 blocks"):
        parameter_names(model, "last:1")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_skeleton_is_the_policy_without_its_weights(tmp_path: Path, architecture: str) -> None:
    folder = save_policy(tmp_path / "policy", architecture=architecture)
    ours = {name: value.shape for name, value in skeleton(str(folder)).named_parameters()}
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert ours == {name: value.shape for name, value in model.named_parameters()}
    assert all(value.device.type == "meta" for value in skeleton(str(folder)).parameters())


def test_large_policies_take_lora_unless_told(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = sum(value.numel() for value in LlamaForCausalLM.from_pretrained(policy).parameters())
    for large, expected in ((count, "all"), (count - 1, "lora")):
        monkeypatch.setattr(parameters, "LARGE", large)
        found = complete(config_of(policy))
        assert found.parameters == expected
        assert complete(config_of(policy, parameters="all")).parameters == "all"
        assert complete(config_of(policy, lora_r=8)).parameters == "lora"
    assert (found.lora_r, found.lora_target_modules) == (16, ("q_proj", "v_proj"))
    assert "more than 20 million" in described(complete(config_of(policy)), config_of(policy))
    assert "million" not in described(found, config_of(policy, lora_r=8))
    assert complete(found) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": "last"}, "parameters is 'last'; it must be lora, all, or last:N"),
        ({"parameters": "last:0"}, "parameters is 'last:0'"),
        ({"parameters": "last:2", "lora_r": 8}, "lora_r is given, and parameters is 'last:2'"),
        ({"parameters": "all", "lora_target_modules": ("q_proj",)}, "lora_target_modules is given"),
        ({"lora_r": 0}, "lora_r is 0; it must be at least 1"),
        ({"dtype": "float16"}, "dtype is 'float16'; it must be one of float32, bfloat16"),
        ({"parameters": "last:2"}, "the model has 1 blocks"),
        ({"parameters": "lora", "lora_target_modules": ("query",)}, "'query', which matches no linear layer"),
    ],
)
def test_what_cannot_be_is_refused_before_the_weights_are_read(
    policy: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        complete(config_of(policy, **changes))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_table_is_differentiated_by_lora(pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """In low precision too the policy is known again, and the gradients are nearly the same."""
    monkeypatch.setattr(gradient_store, "_SHARD", 5)
    config = GradientConfig(**pool, parameters="lora", lora_r=2, seed=4, dtype=dtype)
    found = sketch_gradients(config)
    table = read_rollouts(pool["table"])
    model, tokenizer = gradient_store.load_policy(pool["model_name_or_path"])
    adapter = fresh_adapter(model.requires_grad_(False), ["q_proj", "v_proj"], r=2, seed=4)
    prompts = [gradient_store.tokenize_prompts(tokenizer, table.prompts)[3]] * table.n
    responses = [ids.tolist() for ids in table.token_ids[3]]
    sketch = adapter.sketch(dim=64, seed=4)
    expected, _ = lora_sketches(model, sketch, prompts, responses, adapter=adapter, temperature=0.7)
    off = np.linalg.norm(found[3] - expected) / np.linalg.norm(expected)
    assert off < 1e-5 if dtype == "float32" else 1e-4 < off < 0.03
    record = json.loads((pool["out"] / "gradients.json").read_text())
    assert record["lora_target_modules"] == ["q_proj", "v_proj"]
    assert (record["parameters"], record["dtype"], record["lora_r"], record["seed"]) == ("lora", dtype, 2, 4)


def test_bfloat16_goes_with_all_parameters(pool: dict[str, Any]) -> None:
    exact = sketch_gradients(GradientConfig(**pool))
    rough = sketch_gradients(GradientConfig(**pool | {"out": pool["out"].with_name("rough")}, dtype="bfloat16"))
    for a, b in zip(exact, rough, strict=True):
        assert 1e-4 < np.linalg.norm(a - b) / np.linalg.norm(a) < 0.03


def test_another_policy_is_seen_in_bfloat16(pool: dict[str, Any], tmp_path: Path) -> None:
    other = save_policy(tmp_path / "other", seed=1, pad_token="[PAD]")
    with pytest.raises(ValueError, match="is not the policy that sampled"):
        sketch_gradients(GradientConfig(**pool | {"model_name_or_path": str(other)}, dtype="bfloat16"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": "all"}, "another parameters: 'lora' there, 'all' now"),
        ({"lora_r": 4}, "another lora_r: 2 there, 4 now"),
        ({"lora_target_modules": ("q_proj",)}, "another lora_target_modules"),
        ({"dtype": "bfloat16"}, "another dtype: 'float32' there, 'bfloat16' now"),
    ],
)
def test_other_parameters_are_not_mixed(pool: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    asked = {"lora_r": 2} if "parameters" not in changes else {}
    sketch_gradients(GradientConfig(**pool, parameters="lora", lora_r=2))
    with pytest.raises(ValueError, match=message):
        sketch_gradients(GradientConfig(**pool | asked | changes))


def test_a_folder_of_an_earlier_version_is_gone_on_with(pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record does not know that there was a choice: it was all parameters in float32."""
    whole = [array.copy() for array in sketch_gradients(GradientConfig(**pool))]
    record = pool["out"] / "gradients.json"
    settings = json.loads(record.read_text())
    record.write_text(json.dumps({name: settings[name] for name in settings if name not in ("parameters", "dtype")}))
    (pool["out"] / "prompt-00003-000000.npy").unlink()
    again = sketch_gradients(GradientConfig(**pool))
    for prompt in range(5):
        np.testing.assert_array_equal(again[prompt], whole[prompt])
    with pytest.raises(ValueError, match="another parameters: 'all' there, 'last:1' now"):
        sketch_gradients(GradientConfig(**pool, parameters="last:1"))


@pytest.mark.parametrize("asked", ["lora", "last:1", "all"])
def test_the_bar_moves_with_every_batch(
    pool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("TAILGRAD_EVENTS", str(tmp_path / "events"))
    config = GradientConfig(**pool, parameters=asked, batch_size=5)
    sketch_gradients(config)
    (pool["out"] / "prompt-00003-000000.npy").unlink()
    sketch_gradients(config)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    steps = [sum(of) for of in ((5, 5, 2),) * 5]
    assert {event["total"] for event in events} == {60} == {sum(steps)}
    done = [event["done"] for event in events]
    assert done[:5] == [0, 5, 10, 12, 17]
    assert done[-4:] == [48, 53, 58, 60]


def test_chats_go_with_lora(chat_policy: Path, tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": text}] for text in ("one two", "three")]
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps({"prompt": chat}) + "\n" for chat in chats))

    def length(*, completions: list[Any], **columns: Any) -> list[float]:
        return [float(len(completion[0]["content"])) for completion in completions]

    given = {"model_name_or_path": str(chat_policy), "dataset_name": str(data), "reward_funcs": length}
    table = sample(SampleConfig(**given, out=tmp_path / "t.parquet", n=4, max_completion_length=8, temperature=0.6))
    config = GradientConfig(table, str(chat_policy), tmp_path / "gradients", dim=16, parameters="lora")
    assert sketch_gradients(config)[1].shape == (4, 16)  # log-probabilities agree, or it would be refused
