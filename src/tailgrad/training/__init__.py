"""Training for best-of-N inside TRL's GRPO trainer; needs `pip install 'tailgrad[train]'`."""

from tailgrad.training.config import TailGRPOConfig
from tailgrad.training.trainer import TailGRPOTrainer

__all__ = ["TailGRPOConfig", "TailGRPOTrainer"]
