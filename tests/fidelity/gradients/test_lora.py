"""Gradients with respect to a fresh LoRA adapter against PEFT's own adapter and the chain rule."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from small_gradients import PROMPTS, RESPONSES, SIZES, Flat, by_autograd, small_model
from tailgrad.fidelity import lora
from tailgrad.fidelity.count_sketch import gradient_sketches
from tailgrad.fidelity.lora import FreshAdapter, default_targets, fresh_adapter, lora_sketches, target_layers

TARGETS = {
    "llama": (["q_proj", "v_proj"], ["down_proj"], "all-linear", r".*\.1\.self_attn\.[qk]_proj"),
    "tied llama": (["q_proj", "v_proj"],),
    "qwen3": (["o_proj", "gate_proj"],),
    "gpt2": (["c_attn"], "all-linear"),
}


def make(name: str) -> Any:
    return small_model(name).requires_grad_(False)


def listed(targets: Sequence[str] | str) -> list[str]:
    return [targets] if isinstance(targets, str) else list(targets)


def found(model: Any, adapter: FreshAdapter, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    shapes = {name: torch.empty(adapter.outputs[name], len(a)) for name, a in adapter.a.items()}
    return lora_sketches(model, Flat(shapes), PROMPTS, RESPONSES, adapter=adapter, **options)


def by_peft(model: Any, targets: Sequence[str] | str, adapter: FreshAdapter, temperature: float) -> np.ndarray:
    """One response after the other through PEFT's adapter, its B differentiated by autograd."""
    config = LoraConfig(r=4, lora_alpha=32, lora_dropout=0.0, target_modules=targets, fan_in_fan_out=False)
    with pytest.warns() if type(model) is GPT2LMHeadModel else pytest.MonkeyPatch.context():
        adapted = get_peft_model(model, config)
    weights = dict(adapted.named_parameters())
    assert {name for name in weights if "lora_A" in name} == {
        f"base_model.model.{name}.lora_A.default.weight" for name in adapter.a
    }
    for name, a in adapter.a.items():
        weights[f"base_model.model.{name}.lora_A.default.weight"].data.copy_(a)
    b = [weights[f"base_model.model.{name}.lora_B.default.weight"] for name in adapter.a]
    pairs = zip(PROMPTS, RESPONSES, strict=True)
    rows = [by_autograd(adapted, *pair, temperature, b)[0] for pair in pairs]
    adapted.unload()
    return np.stack(rows)


@pytest.mark.parametrize(("name", "targets"), [(name, one) for name, several in TARGETS.items() for one in several])
@pytest.mark.parametrize(("temperature", "batch_size"), [(1.0, 8), (0.5, 3), (1.0, 1)])
def test_equal_to_pefts_adapter(name: str, targets: Any, temperature: float, batch_size: int) -> None:
    """Responses of different lengths, in one batch or alone: no response's gradient depends on its batch."""
    model = make(name)
    adapter = fresh_adapter(model, listed(targets), r=4, seed=3)
    gradients, logprobs = found(model, adapter, temperature=temperature, batch_size=batch_size)
    expected = by_peft(model, targets, adapter, temperature)
    sizes = np.abs(expected).max(axis=1, keepdims=True)
    assert np.median(sizes) > 0.01
    assert (np.abs(gradients - expected) <= 1e-5 * sizes + 1e-8).all()
    plain = make(name)
    exact = lora.batch_logprobs(plain, PROMPTS, RESPONSES, temperature)
    np.testing.assert_allclose(logprobs, exact.numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "tied llama", "qwen3"])
def test_equal_to_the_gradients_of_all_parameters_by_the_chain_rule(name: str) -> None:
    """dL/dB = alpha / r * dL/dW A^T."""
    model = make(name)
    adapter = fresh_adapter(model, ["v_proj", "up_proj"], r=3)
    gradients, _ = found(model, adapter)
    model.set_attn_implementation("eager")
    own = dict(model.named_parameters())
    of_weights, _ = gradient_sketches(model, Flat(own), PROMPTS, RESPONSES)
    parts = dict(
        zip(own, torch.from_numpy(of_weights).split([value.numel() for value in own.values()], 1), strict=True)
    )
    expected = [
        32 / 3 * parts[f"{layer}.weight"].view(-1, *own[f"{layer}.weight"].shape) @ a.T
        for layer, a in adapter.a.items()
    ]
    expected = torch.cat([part.flatten(1) for part in expected], 1).numpy()
    np.testing.assert_allclose(gradients, expected, atol=1e-5 * np.abs(expected).max())


def test_a_layer_that_is_used_twice_adds_twice() -> None:
    model, apart = make("llama"), make("llama")
    for one in (model, apart):
        for old, new in zip(one.model.layers[1].parameters(), one.model.layers[0].parameters(), strict=True):
            old.data.copy_(new.data)
    model.model.layers[1].mlp = model.model.layers[0].mlp
    shared = fresh_adapter(model, ["down_proj"])
    assert [*shared.a] == ["model.layers.0.mlp.down_proj"]
    a = shared.a["model.layers.0.mlp.down_proj"]
    each = FreshAdapter(
        {f"model.layers.{i}.mlp.down_proj": a for i in range(2)},
        {f"model.layers.{i}.mlp.down_proj": 16 for i in range(2)},
        shared.scale,
    )
    first, second = np.split(found(apart, each)[0], 2, axis=1)
    gradients, _ = found(model, shared)
    np.testing.assert_allclose(gradients, first + second, atol=1e-5 * np.abs(gradients).max())


def test_memory_and_precision_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    adapter, counts = fresh_adapter(model, ["q_proj", "v_proj"]), []
    expected, _ = found(model, adapter)
    monkeypatch.setattr(lora, "_BUDGET", 1)
    alone, _ = found(model, adapter, moved=counts.append)
    assert counts == [1] * 8
    np.testing.assert_allclose(alone, expected, atol=1e-5 * np.abs(expected).max())
    rough, _ = found(model.bfloat16(), adapter)
    assert rough.dtype == np.float32
    assert 1e-5 < np.linalg.norm(rough - expected) / np.linalg.norm(expected) < 0.03


def test_a_is_drawn_as_by_peft() -> None:
    model = make("llama")
    adapter = fresh_adapter(model, ["down_proj"], r=256, seed=5)
    assert adapter.scale == 32 / 256
    a = torch.cat([*adapter.a.values()])
    assert a.shape == (512, 24)
    assert a.abs().max() <= 24**-0.5
    assert a.std() == pytest.approx((3 * 24) ** -0.5, rel=0.02)
    adapted = get_peft_model(model, LoraConfig(r=256, target_modules=["down_proj"]))
    theirs = torch.cat([value.detach() for name, value in adapted.named_parameters() if "lora_A" in name])
    assert float(theirs.abs().max()) == pytest.approx(float(a.abs().max()), rel=0.01)
    again = fresh_adapter(make("llama"), ["down_proj"], r=256, seed=5)
    other = fresh_adapter(make("llama"), ["down_proj"], r=256, seed=6)
    for name in adapter.a:
        assert torch.equal(adapter.a[name], again.a[name])
        assert not torch.equal(adapter.a[name], other.a[name])


def test_targets_are_those_of_peft() -> None:
    assert default_targets(make("llama")) == ("q_proj", "v_proj")
    assert default_targets(make("gpt2")) == ("c_attn",)
    model = make("llama")
    assert target_layers(model, ["layers.1.self_attn.q_proj"]) == ["model.layers.1.self_attn.q_proj"]
    adapted = get_peft_model(make("llama"), LoraConfig(target_modules=["q_proj"])).base_model.model
    assert target_layers(adapted, ["all-linear"]) == target_layers(model, ["all-linear"])  # not what is in an adapter


@pytest.mark.parametrize("target", ["query", "embed_tokens", "lm_head", "self_attn", "q_pro"])
def test_a_target_that_is_no_linear_layer_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=f"'{target}'.* It has q_proj, k_proj, v_proj, o_proj, gate_proj"):
        target_layers(make("tied llama"), ["q_proj", target])


def test_a_broken_expression_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'q_proj\[', which is no regular expression: unterminated"):
        target_layers(make("llama"), ["q_proj["])


def test_a_type_without_default_targets_is_refused() -> None:
    model = make("llama")
    model.config.model_type = "strange"
    with pytest.raises(ValueError, match=r"'strange'\. Name them: --lora_target_modules all-linear, or some of q_proj"):
        default_targets(model)


def test_experts_adapt_only_what_sees_the_responses() -> None:
    """The attention of a mixture is a layer like any other; what sees tokens without their response is refused."""
    torch.manual_seed(0)
    mixture = MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)).eval()
    mixture.requires_grad_(False)
    adapter = fresh_adapter(mixture, ["q_proj", "v_proj"], r=4)
    gradients, _ = found(mixture, adapter)
    expected = by_peft(mixture, ["q_proj", "v_proj"], adapter, 1.0)
    np.testing.assert_allclose(gradients, expected, atol=1e-5 * np.abs(expected).max())
    model = make("llama")
    layer = model.model.layers[0].mlp
    plain = layer.forward
    layer.forward = lambda x: plain(x.flatten(0, 1)).view(x.shape)
    with pytest.raises(ValueError, match=r"'model.layers.0.mlp.up_proj', which sees \[72\] rows"):
        found(model, fresh_adapter(model, ["up_proj"]))
