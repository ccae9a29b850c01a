"""Prompts that are read once for several responses, against models that read them for each."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from tailgrad.models.generate import pad_tokens
from tailgrad.models.shared_prompts import once_per_prompt
from tailgrad.models.tokens import quick_generate
from tiny_configs import KEEP_ALL_TOKENS, TINY_CONFIGS, tiny_model

PROMPTS = [[5, 6, 7, 8, 9], [5], [10, 11], [5, 6, 7, 8, 9], [10, 11], [10, 11]]


def generated(model: Any, prompts: list[list[int]], *, once: bool, **settings: Any) -> tuple[Tensor, Tensor, int]:
    """Tokens, the logits they were chosen from, and how many tokens the model read."""
    ids, mask = pad_tokens(prompts, 1, model.device, side="left")
    how = GenerationConfig(
        **{"max_new_tokens": 4, "do_sample": False, "pad_token_id": 1, "output_logits": True} | settings,
        return_dict_in_generate=True,
    )
    read: list[int] = []
    under = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = under.register_forward_pre_hook(
        lambda _, ids, given: read.append((ids[0] if ids else given["input_ids"]).numel()), with_kwargs=True
    )
    own = model.generate
    if once:
        with quick_generate(model):
            out = model.generate(input_ids=ids, attention_mask=mask, generation_config=how)
    else:
        out = own(input_ids=ids, attention_mask=mask, generation_config=how)
    hook.remove()
    assert model.generate == own
    return out.sequences, torch.stack(out.logits or (torch.zeros(0),)), sum(read)


@pytest.mark.parametrize("kind", TINY_CONFIGS)
def test_the_same_logits_from_fewer_tokens(kind: str) -> None:
    model = tiny_model(kind)
    (theirs, expected, all_read), (tokens, logits, read) = (
        generated(model, PROMPTS, once=one) for one in (False, True)
    )
    assert torch.equal(tokens, theirs)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    saved = 6 * 4 - 3 * 4  # of six prompts padded to five tokens three differ; the last token is read by every row
    probe = 3 * 4
    assert read == all_read - saved if kind in KEEP_ALL_TOKENS else read == all_read + probe


@pytest.mark.parametrize(
    ("prompts", "settings"),
    [
        (PROMPTS[:3], {}),
        ([[5], [5]], {}),
        (PROMPTS, {"num_beams": 2, "output_logits": None}),
        (PROMPTS, {"guidance_scale": 2.0}),
        (PROMPTS, {"use_cache": False}),
    ],
)
def test_where_there_is_nothing_to_share(prompts: list[list[int]], settings: dict[str, Any]) -> None:
    model = tiny_model("llama")
    theirs, ours = (generated(model, prompts, once=one, **settings) for one in (False, True))
    assert torch.equal(ours[0], theirs[0])
    assert ours[2] == theirs[2]


@pytest.mark.parametrize("own", [{"num_beams": 2}, {"guidance_scale": 2.0}, {"use_cache": False}])
def test_what_is_left_open_is_the_models_own(own: dict[str, Any]) -> None:
    model = tiny_model("llama")
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    theirs, ours = (generated(model, PROMPTS, once=once, output_logits=None) for once in (False, True))
    assert torch.equal(ours[0], theirs[0])
    assert ours[2] == theirs[2]


def with_adapter() -> Any:
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(tiny_model("llama"), adapter).eval()


def test_an_adapter_shares_them_too() -> None:
    model = with_adapter()
    theirs, ours = (generated(model, PROMPTS, once=one) for one in (False, True))
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-4)
    assert ours[2] == theirs[2] - 12


RESPONSES = [[3, 4, 5], [6], [7, 8], [9, 3, 4], [5, 5], [6, 7, 8]]


def logprobs_and_gradient(model: Any, prompts: list[list[int]], *, once: bool) -> tuple[list[Tensor], int]:
    """Log-probabilities of the responses' tokens, the gradient of a weighted sum, and how many tokens were read."""
    ids, mask = pad_tokens(prompts, 1, model.device, side="left")
    ends, counted = pad_tokens(RESPONSES[: len(prompts)], 1, model.device, side="right")
    length = ends.shape[1]
    tokens, seen, read = torch.cat([ids, ends], 1), torch.cat([mask, counted], 1), []
    under = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = under.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    model.zero_grad()
    forward = once_per_prompt(model, length) if once else model
    logits = forward(input_ids=tokens, attention_mask=seen, labels=tokens).logits[:, -length - 1 : -1]
    logprobs = logits.log_softmax(-1).gather(-1, ends.unsqueeze(-1)).squeeze(-1) * counted
    (logprobs * torch.linspace(-1, 2, logprobs.numel()).view_as(logprobs)).sum().backward()
    hook.remove()
    weights = [weight.grad for weight in model.parameters() if weight.requires_grad]
    return [logprobs.detach(), *weights], sum(read)


@pytest.mark.parametrize("kind", [*TINY_CONFIGS, "adapter"])
def test_the_same_gradient_from_fewer_tokens(kind: str) -> None:
    """Against a pass that reads a prompt for each response; the log-probabilities are of tokens in twelve."""
    model = with_adapter() if kind == "adapter" else tiny_model(kind)
    if kind != "mixtral":  # whose experts have no float64; rotations and softmax are in float32 for all
        model.double()
    (theirs, all_read), (ours, read) = (logprobs_and_gradient(model, PROMPTS, once=one) for one in (False, True))
    for expected, found in zip(theirs, ours, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4 if kind == "mixtral" else 1e-6)
    assert all(gradient.abs().max() > 1e-3 for gradient in ours)
    probe = 3 * 4
    saved = 6 * 4 - 3 * 4  # of six prompts padded to five tokens three differ; the last token is read by every row
    assert read == all_read - saved if kind in {*KEEP_ALL_TOKENS, "adapter"} else read == all_read + probe


@pytest.mark.parametrize("prompts", [PROMPTS[:3], [[5], [5]]])
def test_a_gradient_where_there_is_nothing_to_share(prompts: list[list[int]]) -> None:
    theirs, ours = (logprobs_and_gradient(tiny_model("llama"), prompts, once=one) for one in (False, True))
    assert ours[1] == theirs[1]
    assert all(torch.equal(one, other) for one, other in zip(ours[0], theirs[0], strict=True))


def test_a_model_that_does_not_read_what_it_is_given() -> None:
    """Its log-probabilities would be those of a response without its prompt."""

    class Forgetful(type(tiny_model("llama"))):
        def forward(self, input_ids: Tensor, past_key_values: Any = None, **others: Any) -> Any:
            if past_key_values is not None:
                others["attention_mask"] = others["attention_mask"][:, -input_ids.shape[1] :]
            return super().forward(input_ids=input_ids, **others)

    model = Forgetful(TINY_CONFIGS["llama"])
    with pytest.raises(RuntimeError, match="Forgetful did not read the keys and values"):
        logprobs_and_gradient(model, PROMPTS, once=True)
