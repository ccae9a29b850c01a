"""Judge the best-of-N answers of two tables, resumably, and write the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tailgrad.curves import Rollouts
from tailgrad.events import progress_bar
from tailgrad.files import expanded, locked
from tailgrad.identity import sha256_of
from tailgrad.judging.answers import Match, match_answers
from tailgrad.judging.by_reward import RewardJudge
from tailgrad.judging.config import JudgeConfig
from tailgrad.judging.judgement import Asked, Judge, Judgement
from tailgrad.judging.kept import appending, read_judgements
from tailgrad.judging.measures import Outcome, outcome_of
from tailgrad.judging.model import ModelJudge
from tailgrad.judging.report import write_report
from tailgrad.processes import num_processes

JUDGEMENTS: Final = "judgements.jsonl"
_LOCK: Final = ".lock"


def judge(config: JudgeConfig, tables: Sequence[Rollouts]) -> Outcome | None:
    """Ask a judge which of two tables has the better best-of-N answers, and write the report.

    What it costs is said first. Every judgement is appended to `judgements.jsonl` as it comes; an interrupted run goes
    on from there, and a finished one asks nothing again and writes the report anew. With `dry_run` all that would be
    asked is printed, and nothing is sent or written.

    Args:
        config: The judge and what it is asked.
        tables: The two tables that the config names, opened: the reference first.

    Returns:
        What was found, also written to judge.png, judge.svg, judge.md and judge.json; None after a dry run.

    Raises:
        FileNotFoundError: There is no such file of a prompt, or no such reward model.
        ValueError: The tables do not pair, `out` holds judgements of other answers or by another judge or is being
            written by another process, no pair can be judged, or the server refuses a request.
        ServerDownError: The server failed too often; what was judged is kept.
        RuntimeError: A reward raised; what was judged is kept.
    """
    if num_processes() > 1:
        raise ValueError(f"{num_processes()} processes, and one keeps a judge busy: start one.")
    match = match_answers(*tables, deploy_n=config.deploy_n, draws=config.draws, limit=config.limit, seed=config.seed)
    if not any(pair.is_there for pair in match.pairs):
        raise ValueError(f"no prompt has an answer in both tables: all responses to it are unscored in {match.names}.")
    by: Judge = RewardJudge(config, match) if config.judge_model is None else ModelJudge(config, match)
    out = expanded(config.out)
    if config.dry_run:
        path = out / JUDGEMENTS
        kept = read_judgements(path, _settings(match, by), match) if path.is_file() else {}
        _show(match, by, _missing(match, by, kept), len(kept))
        return None
    settings = _settings(match, by)
    with locked(out / _LOCK, repr(str(out))):
        found = _completed(match, by, out / JUDGEMENTS, settings)
        outcome = outcome_of(match, found, judge=by.name, orders=len(by.orders), seed=config.seed)
        write_report(outcome, out)
    return outcome


def _settings(match: Match, by: Judge) -> dict[str, Any]:
    """All that decides a judgement."""
    judged = [[pair.prompt, pair.draw, *pair.answers] for pair in match.pairs]
    of_match = {"deploy_n": match.deploy_n, "draws": match.draws}
    return {**by.settings, **of_match, "prompts_and_answers": sha256_of(judged)}


def _missing(match: Match, by: Judge, found: dict[Asked, Judgement]) -> list[Asked]:
    """What is still to be judged, both orders of a pair together."""
    pairs = [at for at, pair in enumerate(match.pairs) if pair.is_there and not pair.is_alike]
    return [(at, order) for at in pairs for order in by.orders if (at, order) not in found]


def _completed(match: Match, by: Judge, path: Path, settings: dict[str, Any]) -> dict[Asked, Judgement]:
    """The judgements, those that are kept and those that are still to be made."""
    found = read_judgements(path, settings, match)
    missing = _missing(match, by, found)
    print(_cost(match, by, missing, len(found)), file=sys.stderr, flush=True)
    if not missing:
        return found
    total, kept = len(missing) + len(found), [*found.values()]
    with (
        appending(path, settings, match, about=by.about) as append,
        progress_bar(total, done=len(found), name="judge", unit="") as move,
    ):
        for one in by.judged(missing, has_judged=any(one.score is not None for one in kept)):
            append(one)
            found[one.pair, one.order] = one
            move(1)
    return found


def _cost(match: Match, by: Judge, missing: Sequence[Asked], kept: int) -> str:
    alike = sum(pair.is_alike for pair in match.pairs)
    size = f"{match.num_prompts} prompts, {len(match.pairs)} pairs of answers, each the best of {match.deploy_n}"
    known = f"; {kept} judgements are there already" if kept else ""
    same = f"; {alike} pairs are the same text twice and not asked about" if alike else ""
    return f"{size}{same}. {by.cost(missing) if missing else 'Nothing is left to ask'}{known}."


def _show(match: Match, by: Judge, missing: Sequence[Asked], kept: int) -> None:
    """Print what it would cost, and all that would be asked."""
    print(f"{_cost(match, by, missing, kept)} This is a dry run: nothing is sent.\n")
    for pair, order in missing:
        at = match.pairs[pair]
        first = f", {match.names[order]} first" if len(by.orders) > 1 else ""
        print(f"--- prompt {at.prompt_id}, draw {at.draw}{first}\n{by.shown((pair, order))}\n")
