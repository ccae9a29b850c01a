"""What scores a response: plain functions, reward models, weighted sums of them."""

from typing import TYPE_CHECKING

from tailgrad.lazy import lazily

if TYPE_CHECKING:
    from tailgrad.rewards.checks import CheckedReward as CheckedReward
    from tailgrad.rewards.checks import checked as checked
    from tailgrad.rewards.checks import checked_for_trl as checked_for_trl
    from tailgrad.rewards.functions import WeightedSum as WeightedSum
    from tailgrad.rewards.functions import import_reward as import_reward
    from tailgrad.rewards.load import load_reward as load_reward
    from tailgrad.rewards.remote import HttpReward as HttpReward
    from tailgrad.rewards.remote import ServedRewardModel as ServedRewardModel
    from tailgrad.rewards.reward import Reward as Reward
    from tailgrad.rewards.reward import reward_name as reward_name
    from tailgrad.rewards.reward_model import RewardModel as RewardModel
    from tailgrad.rewards.timeout import RewardTimeoutError as RewardTimeoutError
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "checks": ["CheckedReward", "checked", "checked_for_trl"],
            "functions": ["WeightedSum", "import_reward"],
            "load": ["load_reward"],
            "remote": ["HttpReward", "ServedRewardModel"],
            "reward": ["Reward", "reward_name"],
            "reward_model": ["RewardModel"],
            "timeout": ["RewardTimeoutError"],
        },
    )
