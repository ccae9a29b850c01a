"""What scores a response: plain functions, reward models, weighted sums of them."""

from tailgrad.rewards.functions import CheckedReward, Reward, WeightedSum, checked, import_reward, reward_name
from tailgrad.rewards.load import load_reward
from tailgrad.rewards.reward_model import RewardModel

__all__ = [
    "CheckedReward",
    "Reward",
    "RewardModel",
    "WeightedSum",
    "checked",
    "import_reward",
    "load_reward",
    "reward_name",
]
