"""What scores a response: plain functions, reward models, weighted sums of them."""

from tailgrad.rewards.checked import CheckedReward, Reward, checked, checked_for_trl, reward_name
from tailgrad.rewards.functions import WeightedSum, import_reward
from tailgrad.rewards.load import load_reward
from tailgrad.rewards.reward_model import RewardModel
from tailgrad.rewards.timeout import RewardTimeoutError

__all__ = [
    "CheckedReward",
    "Reward",
    "RewardModel",
    "RewardTimeoutError",
    "WeightedSum",
    "checked",
    "checked_for_trl",
    "import_reward",
    "load_reward",
    "reward_name",
]
