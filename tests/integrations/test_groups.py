"""An estimator on the groups of a trainer: any size, any order, some rollouts rejected."""

import math
import pickle
import warnings

import pytest
import torch

from tailgrad.estimators import ESTIMATORS, bind, scale_advantages, smallest_group
from tailgrad.integrations import GroupEstimator
from tailgrad.integrations.token_level import token_level_advantages

OPTIONS = {"max_at_k": "k=3", "order_grad": "k=4,top=2", "pass_at_k": "k=3", "rs_grpo": "risk_beta=1"}


def written(name: str) -> str:
    return f"{name}:{OPTIONS[name]}" if name in OPTIONS else name


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_mixed_groups_what_a_table_gets(name: str) -> None:
    """Also scaled: flat TEA is by default, each group by itself. Prefix-TEA looks at the order within a group."""
    ours = GroupEstimator.read(written(name), deploy_n=64)
    generator = torch.Generator().manual_seed(1)
    rewards = torch.randn(3, 16, generator=generator, dtype=torch.float64)
    if name in ("pass_at_k", "pass_at_n", "max_rl", "f_grpo"):
        rewards = (rewards > 0).double()
    order = torch.arange(48).view(3, 16).flip(0).T.flatten()
    flat = ours(rewards.flatten()[order], torch.arange(3).repeat_interleave(16)[order])
    alone = [bind(name, **ours.options)(group[None]) for group in rewards]
    none = torch.zeros(1, 1, dtype=torch.bool)
    expected = torch.cat([scale_advantages(one, ESTIMATORS[name].scaling, none) for one in alone])
    torch.testing.assert_close(flat, expected.flatten()[order], rtol=1e-9, atol=1e-12)


def test_what_is_not_trained_on_is_left_out_of_its_group() -> None:
    rewards, ids = torch.tensor([1.0, 9.0, 4.0, 100.0, 1.0]), ["a", "b", "a", "a", "b"]
    trained = torch.tensor([True, True, True, False, True])
    assert GroupEstimator("rloo")(rewards, ids, trained).tolist() == [-3.0, 8.0, 3.0, 0.0, -8.0]
    with_nan = rewards.where(trained, math.nan)
    assert GroupEstimator("rloo")(with_nan, ids, trained).tolist() == [-3.0, 8.0, 3.0, 0.0, -8.0]
    assert GroupEstimator("rloo", scaling="batch")(rewards, ids, trained)[1].item() == pytest.approx(
        8 / math.sqrt((9 + 9 + 64 + 64) / 4)
    )


def test_a_batch_without_anything_to_train_on_gets_zeros() -> None:
    assert not GroupEstimator("rloo")(torch.ones(4), [0, 0, 1, 1], torch.zeros(4, dtype=torch.bool)).any()
    assert GroupEstimator("rloo")(torch.zeros(0), []).shape == (0,)


def test_groups_that_are_too_small_are_spoken_of() -> None:
    ours = GroupEstimator.read("tea", deploy_n=128)
    needed = smallest_group("tea", deploy_n=128)
    rewards = torch.arange(2.0 * needed)
    with pytest.raises(ValueError, match=f"needs {needed} rollouts per prompt, and the largest .* has {needed - 1}"):
        ours(rewards[: 2 * needed - 2], torch.arange(2).repeat(needed - 1))
    ids = [0] * needed + [1] * needed
    trained = torch.ones(2 * needed, dtype=torch.bool)
    trained[0] = False
    with pytest.warns(UserWarning, match=f"needs {needed} rollouts per prompt; groups with fewer"):
        flat = ours(rewards, ids, trained)
    assert not flat[:needed].any()
    assert flat[needed:].any()


def test_what_fills_up_a_batch_hides_nothing_and_is_not_spoken_of() -> None:
    """verl fills a batch up with rows of one name of which nothing is trained on."""
    ours, needed = GroupEstimator.read("tea", deploy_n=128), smallest_group("tea", deploy_n=128)
    small, large = torch.arange(needed - 1.0), torch.arange(1.0 * needed)
    for rewards in (small, large):
        filled = torch.cat([rewards, torch.zeros(2 * needed)])
        ids = ["a"] * len(rewards) + ["pad"] * 2 * needed
        trained = torch.arange(len(filled)) < len(rewards)
        if len(rewards) < needed:
            with pytest.raises(ValueError, match=f"the largest group of this batch has {needed - 1}"):
                ours(filled, ids, trained)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                flat = ours(filled, ids, trained)
            assert torch.equal(flat[:needed], ours(rewards, ids[:needed]))
            assert not flat[needed:].any()
    filled = torch.cat([large, torch.zeros(1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one row is padding, fewer than the estimator needs
        ours(filled, ["a"] * needed + ["pad"], torch.arange(needed + 1) < needed)


def test_what_comes_prompt_by_prompt_may_be_small() -> None:
    ours = GroupEstimator.read("tea", deploy_n=128)
    with pytest.warns(UserWarning, match="groups with fewer"):
        assert not ours(torch.arange(3.0), [0, 0, 0], whole_batch=False).any()


def test_wrong_options_are_refused_when_the_estimator_is_read() -> None:
    for text, error in (
        ("tee", "unknown estimator 'tee', did you mean 'tea'"),
        ("tea:k=3", "tea takes no option 'k'"),
        ("max_at_k", "needs the option k"),
        ("tea:deploy_n=8", "gives deploy_n"),
    ):
        with pytest.raises(ValueError, match=error):
            GroupEstimator.read(text)
    with pytest.raises(ValueError, match="advantage_scaling = 'std' is unknown"):
        GroupEstimator.read("tea", advantage_scaling="std")
    with pytest.raises(TypeError, match="deploy_n must be of type"):
        GroupEstimator("tea", {"deploy_n": "many"})


def test_it_travels_to_other_processes() -> None:
    ours = GroupEstimator.read("tea:tail_fraction=0.5", deploy_n=64)
    assert pickle.loads(pickle.dumps(ours)) == ours


def test_each_token_has_the_advantage_of_its_response() -> None:
    rewards = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 0.0], [7.0, 7.0]])
    mask = torch.tensor([[1, 1], [1, 1], [1, 0], [0, 0]])
    advantages, returns = token_level_advantages(GroupEstimator("dr_grpo"), rewards, mask, ["a", "a", "a", "a"])
    assert advantages.tolist() == [[-2.0, -2.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]
    assert returns is advantages
    assert advantages.dtype == rewards.dtype
    half = token_level_advantages(GroupEstimator("dr_grpo"), rewards.bfloat16(), mask.bool(), ["a"] * 4)[0]
    assert half.dtype == torch.bfloat16
    assert torch.equal(half.float(), advantages)
    with pytest.raises(ValueError, match="does not say which"):
        token_level_advantages(GroupEstimator("dr_grpo"), rewards, mask, None)
