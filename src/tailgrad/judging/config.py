"""What to judge, and by whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailgrad.options import option
from tailgrad.rewards.options import RewardOptions, check_reward_options

_MODEL: Final = "a language model as the judge (else name a reward)"
_COLUMNS: Final = "columns of your own tables"


@dataclass(frozen=True)
class JudgeConfig(RewardOptions):
    """What `judge` needs to know; the fields are the options of `tailgrad judge`, which says what each is."""

    tables: tuple[str, ...] = option(
        text="two rollout tables on the same prompts: the reference first, then the one that is compared with it",
        positional=True,
        metavar="TABLE",
    )
    out: str | Path = option(text="folder for the report and the judgements; the same command goes on in it")
    names: tuple[str, ...] | None = option(None, "one name per table (default: the file's name)")
    deploy_n: int | None = option(
        None, "N: the answer is the best of so many responses (default: all that every prompt of both tables has)"
    )
    draws: int = option(
        1, "answers per prompt and table, each the best of N other responses: it takes N times as many (default 1)"
    )
    limit: int | None = option(None, "judge only this many prompts, the first ones (default: all)")
    dry_run: bool = option(False, "print what it would cost and every prompt; nothing is sent or written")
    seed: int = option(0, "seed of the bootstrap and of ties between responses (default 0)")
    base_url: str | None = option(
        None,
        "server with an OpenAI-compatible API, such as http://localhost:8000/v1; its key is read from OPENAI_API_KEY",
        group=_MODEL,
        metavar="URL",
    )
    judge_model: str | None = option(None, "the name by which the server knows the judge", group=_MODEL)
    judge_prompt: str | None = option(
        None,
        "text file with the judge's prompt: {question}, {answer_a} and {answer_b} stand for what is judged, and it "
        "must ask for A, B or C (a tie) (default: the one that --dry_run shows)",
        group=_MODEL,
        metavar="FILE",
    )
    temperature: float = option(0.0, "sampling temperature of the judge (default 0)", group=_MODEL)
    max_completion_length: int = option(512, "most tokens of a reply", group=_MODEL)
    concurrency: int = option(64, "requests that the server is sent at once", group=_MODEL)
    request_timeout: float = option(
        600.0, "seconds until a request to the server has failed and is tried again", group=_MODEL, metavar="SECONDS"
    )
    device: str | None = option(None, "cpu, cuda, cuda:1, ... for a reward model (default: the GPU, if there is one)")
    trust_remote_code: bool = option(False, "run the code that comes with a reward model")
    prompt_column: str | None = option(
        None, "the prompt (default: prompt_id, prompt or input)", group=_COLUMNS, metavar="COLUMN"
    )
    reward_column: str | None = option(None, "the reward (default: reward or score)", group=_COLUMNS, metavar="COLUMN")
    response_column: str | None = option(
        None, "the response (default: response, completion or output)", group=_COLUMNS, metavar="COLUMN"
    )

    def __post_init__(self) -> None:
        check_reward_options(self, self.reward_list)
        if len(self.tables) != 2:
            raise ValueError(f"{len(self.tables)} tables given; a judge compares two: the reference, then the other.")
        _check_judge(self)
        for name in ("deploy_n", "draws", "limit", "concurrency", "max_completion_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.max_completion_length < 2:
            raise ValueError("max_completion_length is 1; it must be at least 2: a letter, and the end of the reply.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more.")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or more, and finite.")
        if not 0 < self.request_timeout < math.inf:
            raise ValueError(f"request_timeout is {self.request_timeout}; it must be a number of seconds above 0.")


def _check_judge(config: JudgeConfig) -> None:
    """Refuse all but one judge, whole."""
    if (config.judge_model is None) != (config.base_url is None):
        given, missing = ("judge_model", "base_url") if config.base_url is None else ("base_url", "judge_model")
        raise ValueError(
            f"{given} without {missing}: a judge behind a server is named by both, --base_url http://localhost:8000/v1 "
            "--judge_model NAME."
        )
    if (config.judge_model is None) == (not config.reward_list):
        raise ValueError(
            f"{'no judge' if config.judge_model is None else 'two judges'} given: name one, --base_url URL "
            "--judge_model NAME, or --reward_model_name_or_path NAME, or --reward_funcs package.module.function."
        )
    if config.judge_model is None and config.judge_prompt is not None:
        raise ValueError("judge_prompt with a reward as the judge: a reward is not asked in words. Leave it out.")
