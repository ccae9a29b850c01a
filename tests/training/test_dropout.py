"""Dropout is seen, and turned off, also where a model applies it without a layer."""

import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM
from trl.trainer.utils import disable_dropout_in_model

from tailgrad.training.dropout import check_no_dropout, dropout_of, turn_off_dropout
from tailgrad.training.trainer import TailGRPOTrainer


@pytest.fixture
def opt() -> OPTForCausalLM:
    """A tiny OPT, which calls dropout as a function: 0.1 unless its config says otherwise."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return OPTForCausalLM(OPTConfig(vocab_size=32, word_embed_proj_dim=16, max_position_embeddings=64, **sizes)).train()


@torch.no_grad()
def apart(model: torch.nn.Module) -> float:
    """How far two passes in training mode are apart."""
    tokens = torch.tensor([[5, 6, 7, 8]])
    return float((model(tokens).logits - model(tokens).logits).abs().max())


def test_dropout_that_is_no_layer_is_seen_and_turned_off(opt: OPTForCausalLM) -> None:
    assert dropout_of(opt) == 0.1
    disable_dropout_in_model(opt)
    assert apart(opt) > 0, "layers alone are TRL's"
    with pytest.raises(ValueError, match=r"dropout \(0\.1\) makes noise"):
        check_no_dropout(opt)
    turn_off_dropout(opt)
    assert apart(opt) == dropout_of(opt) == 0
    check_no_dropout(opt)


def test_a_model_without_dropout_has_none(policy) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy).train()
    assert dropout_of(model) == apart(model) == 0


def test_disable_dropout_turns_it_off_in_a_training(opt, policy, prompts, options) -> None:
    from tailgrad.quickstart.task import verifier
    from tailgrad.training import TailGRPOConfig

    model = AutoModelForCausalLM.from_pretrained(policy)
    model.model.dropout = 0.1
    args = TailGRPOConfig(**options(num_iterations=2, disable_dropout=True), off_policy_correction=True)
    trainer = TailGRPOTrainer(model, verifier, args, prompts)
    assert dropout_of(trainer.model) == 0
