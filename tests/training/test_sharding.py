"""What a launch with FSDP or DeepSpeed is refused for, before a step is taken."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from tailgrad.models.whole import EMPTY_BUT_ON_THE_FIRST
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer, sharding
from tailgrad.training.sharding import check_sharding


def launched(*, fsdp: str = "", reference: bool = False, **zero: Any) -> Any:
    """What is looked at of a trainer."""
    state = SimpleNamespace(fsdp_plugin=SimpleNamespace(state_dict_type=f"StateDictType.{fsdp}"))
    plugin = SimpleNamespace(deepspeed_config={"zero_optimization": zero})
    accelerator = SimpleNamespace(state=state, deepspeed_plugin=plugin)
    model = object() if reference else None
    return SimpleNamespace(is_fsdp_enabled=bool(fsdp), accelerator=accelerator, ref_model=model, beta=0.05)


def test_fsdp_has_to_save_whole_policies() -> None:
    check_sharding(launched(fsdp="FULL_STATE_DICT"))
    with pytest.raises(ValueError, match="with which the policy is not saved"):
        check_sharding(launched(fsdp="SHARDED_STATE_DICT"))


@pytest.mark.parametrize(
    ("version", "empty", "reference", "refused"),
    [
        ("5.22.0", "true", True, True),
        ("5.23.0", "true", True, False),
        ("5.22.0", "false", True, False),
        ("5.22.0", "true", False, False),
    ],
)
def test_a_reference_policy_has_to_have_its_weights(
    version: str, empty: str, reference: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers, "__version__", version)
    monkeypatch.setenv(EMPTY_BUT_ON_THE_FIRST, empty)
    trainer = launched(fsdp="FULL_STATE_DICT", reference=reference)
    if refused:
        with pytest.raises(ValueError, match="leaves the reference policy without weights"):
            check_sharding(trainer)
    else:
        check_sharding(trainer)


@pytest.mark.parametrize("saves", [True, False])
def test_zero3_has_to_save_whole_policies(saves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = launched(stage3_gather_16bit_weights_on_model_save=saves)
    check_sharding(trainer)
    monkeypatch.setattr(sharding, "is_deepspeed_zero3_enabled", lambda: True)
    if saves:
        check_sharding(trainer)
    else:
        with pytest.raises(ValueError, match="zero3_save_16bit_model true"):
            check_sharding(trainer)


def test_an_fsdp_that_does_not_act_is_said(policy, prompts, options, caplog, monkeypatch) -> None:
    def reward(completions: list[str], **_: object) -> list[float]:
        return [0.0] * len(completions)

    args = TailGRPOConfig(**options())
    with caplog.at_level(logging.WARNING, logger="tailgrad.training.trainer"):
        TailGRPOTrainer(str(policy), reward, args, prompts)
        assert "launched with" not in caplog.text
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as `accelerate launch` sets it
        TailGRPOTrainer(str(policy), reward, args, prompts)
    assert "launched with FSDP and does not use it" in caplog.text
