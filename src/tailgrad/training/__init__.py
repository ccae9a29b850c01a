"""Training for best-of-N inside TRL's GRPO trainer; needs `pip install 'tailgrad[train]'`."""

from typing import TYPE_CHECKING

from tailgrad.lazy import lazily

if TYPE_CHECKING:
    from tailgrad.training.config import TailGRPOConfig as TailGRPOConfig
    from tailgrad.training.trainer import TailGRPOTrainer as TailGRPOTrainer
else:
    __getattr__, __dir__, __all__ = lazily(__name__, {"config": ["TailGRPOConfig"], "trainer": ["TailGRPOTrainer"]})
