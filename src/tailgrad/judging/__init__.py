"""Which of two policies gives the better best-of-N answers, asked of a judge: a language model, or another reward."""

from typing import TYPE_CHECKING

from tailgrad.lazy import lazily

if TYPE_CHECKING:
    from tailgrad.judging.answers import Match as Match
    from tailgrad.judging.answers import Pair as Pair
    from tailgrad.judging.answers import match_answers as match_answers
    from tailgrad.judging.config import JudgeConfig as JudgeConfig
    from tailgrad.judging.measures import Outcome as Outcome
    from tailgrad.judging.prompt import verdict_of as verdict_of
    from tailgrad.judging.run import judge as judge
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "answers": ["Match", "Pair", "match_answers"],
            "config": ["JudgeConfig"],
            "measures": ["Outcome"],
            "prompt": ["verdict_of"],
            "run": ["judge"],
        },
    )
