"""Best of N as a call and as a server: sample, score, and return the response with the largest reward."""

from typing import TYPE_CHECKING

from tailgrad.lazy import lazily

if TYPE_CHECKING:
    from tailgrad.serving.allocation import allocate as allocate
    from tailgrad.serving.best import Best as Best
    from tailgrad.serving.best import Candidate as Candidate
    from tailgrad.serving.best import NoWinnerError as NoWinnerError
    from tailgrad.serving.call import BestOfN as BestOfN
    from tailgrad.serving.config import ServeConfig as ServeConfig
    from tailgrad.serving.priors import prior_of as prior_of
    from tailgrad.serving.run import serve as serve
    from tailgrad.serving.stopping import FixedBudget as FixedBudget
    from tailgrad.serving.stopping import StoppingRule as StoppingRule
    from tailgrad.serving.tail_stopping import TailStopping as TailStopping
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "allocation": ["allocate"],
            "best": ["Best", "Candidate", "NoWinnerError"],
            "call": ["BestOfN"],
            "config": ["ServeConfig"],
            "priors": ["prior_of"],
            "run": ["serve"],
            "stopping": ["FixedBudget", "StoppingRule"],
            "tail_stopping": ["TailStopping"],
        },
    )
