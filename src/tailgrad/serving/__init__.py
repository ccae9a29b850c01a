"""Best of N as a call and as a server: sample, score, and return the response with the largest reward."""

from typing import TYPE_CHECKING

from tailgrad.lazy import lazily

if TYPE_CHECKING:
    from tailgrad.serving.best import Best as Best
    from tailgrad.serving.best import Candidate as Candidate
    from tailgrad.serving.best import NoWinnerError as NoWinnerError
    from tailgrad.serving.call import BestOfN as BestOfN
    from tailgrad.serving.config import ServeConfig as ServeConfig
    from tailgrad.serving.run import serve as serve
    from tailgrad.serving.stopping import FixedBudget as FixedBudget
    from tailgrad.serving.stopping import StoppingRule as StoppingRule
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "best": ["Best", "Candidate", "NoWinnerError"],
            "call": ["BestOfN"],
            "config": ["ServeConfig"],
            "run": ["serve"],
            "stopping": ["FixedBudget", "StoppingRule"],
        },
    )
