"""Attention from one token as two products, against torch's fused kernel."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GptOssConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tailgrad.models import one_token_attention as under_test
from tailgrad.models.generate import pad_tokens
from tailgrad.models.one_token_attention import NAME, attention, one_token_attention
from tiny_configs import TINY_CONFIGS, tiny_model


class Layer(nn.Module):
    """What transformers' attention functions look at in a layer."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups


def masks() -> dict[str, Tensor | None]:
    attended = torch.rand(3, 1, 1, 7) > 0.4
    attended[..., -1] = True
    by_head = torch.rand(3, 6, 1, 7) > 0.4
    by_head[..., -1] = True
    return {
        "none": None,
        "one row": attended[:1],
        "padding": attended,
        "by head": by_head,
        "added": torch.where(attended, torch.randn(3, 1, 1, 7), torch.finfo(torch.float32).min),
    }


def both(heads: int, mask: Tensor | None, **others: Any) -> tuple[Tensor, Tensor]:
    """Ours and transformers' own, with 6 heads over fewer of keys and values, these of another width."""
    query, key, value = torch.randn(3, 6, 1, 5), torch.randn(3, heads, 7, 5), torch.randn(3, heads, 7, 4)
    layer = Layer(6 // heads)
    with torch.no_grad():
        ours, theirs = (f(layer, query, key, value, mask, **others)[0] for f in (attention, sdpa_attention_forward))
    return ours, theirs


@pytest.mark.parametrize("heads", [1, 2, 6])
@pytest.mark.parametrize("mask", masks())
def test_it_is_that_of_the_fused_kernel(heads: int, mask: str) -> None:
    torch.manual_seed(0)
    for others in ({}, {"scaling": 0.3, "is_causal": True, "dropout": 0.0}):
        ours, theirs = both(heads, masks()[mask], **others)
        assert ours.shape == (3, 1, 6, 4)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "gradient", "others"),
    [
        (2, False, {}),
        (1, True, {}),
        (1, False, {"dropout": 0.1}),
        (1, False, {"softcap": 30.0}),
        (1, False, {"position_bias": torch.zeros(1, 6, 1, 7)}),
    ],
)
def test_everything_else_is_handed_on(
    tokens: int, gradient: bool, others: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "sdpa_attention_forward", lambda *_, **given: (given, None))
    query, key = torch.randn(3, 6, tokens, 5), torch.randn(3, 2, 7, 5)
    with torch.set_grad_enabled(gradient):
        given, _ = attention(Layer(3), query, key, key, None, scaling=0.3, is_causal=False, **others)
    assert given == {"scaling": 0.3, "dropout": 0.0, "is_causal": False} | others


@pytest.mark.parametrize("kind", TINY_CONFIGS)
def test_the_model_has_its_own_again(kind: str) -> None:
    model = AutoModelForCausalLM.from_config(TINY_CONFIGS[kind]).eval()
    own = model.config._attn_implementation
    during = []

    def stopped() -> None:
        with one_token_attention(model):
            during.append(model.config._attn_implementation)
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    assert during == [NAME if own == "sdpa" else own]
    assert model.config._attn_implementation == own


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mixtral", "sliding window"])
def test_attention_in_steps_gives_way_where_it_is_the_same(kind: str) -> None:
    model = tiny_model(kind)
    model.set_attn_implementation("eager")
    ids, mask = pad_tokens([[5, 6, 7, 8, 9], [10, 11]], 1, model.device, side="left")
    given = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 1}
    how = {"output_logits": True, "return_dict_in_generate": True}
    theirs = model.generate(**given, **how)
    with one_token_attention(model):
        assert model.config._attn_implementation == NAME
        ours = model.generate(**given, **how)
    assert model.config._attn_implementation == "eager"
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(torch.stack(ours.logits), torch.stack(theirs.logits), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [Gemma2Config, GptOssConfig, GPT2Config])
def test_attention_in_steps_stays_where_it_is_of_its_own_kind(config: Any) -> None:
    """With capped products, with sinks, and scaled by the layer."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config(num_hidden_layers=1, vocab_size=12), attn_implementation="eager"
        )
    model.to_empty(device="cpu")
    with one_token_attention(model):
        assert model.config._attn_implementation == "eager"
