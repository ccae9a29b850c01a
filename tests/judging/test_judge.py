"""`tailgrad judge` against a judge on this machine whose preferences are known."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tailgrad.judging import judge, match_answers
from tailgrad.judging.prompt import TEMPLATE, filled

from .conftest import DRAWS, Configure, N, P, ask, judging, prefers, quality_of, table, texts_sent

SCORE = {"A": 0.0, "C": 0.5, "B": 1.0}


def scores_of(tables: Any, verdict: Callable[[str, str], str]) -> list[list[tuple[float, float] | None]]:
    """The scores of the second table's answers, where they stand second and first, by prompt and draw; None: alike."""
    found: list[list[tuple[float, float] | None]] = [[] for _ in range(P)]
    for at, pair in enumerate(match_answers(*tables, deploy_n=N, draws=DRAWS).pairs):
        base, tea = pair.answers
        both = SCORE[verdict(base, tea)], 1 - SCORE[verdict(tea, base)]
        found[at // DRAWS].append(None if base == tea else both)
    return found


def by_hand(scores: Any, value: Callable[[tuple[float, float]], float], *, alike: float | None) -> list[float]:
    """A measure of each prompt that has one; a pair of the same text twice counts as `alike`, or not at all."""
    of_prompts = [[alike if pair is None else value(pair) for pair in row] for row in scores]
    kept = [[one for one in row if one is not None] for row in of_prompts]
    return [sum(row) / len(row) for row in kept if row]


def test_known_preferences_and_a_known_bias_are_recovered_exactly(config: Configure, tables: Any) -> None:
    outcome, server = ask(config, tables)
    scores = scores_of(tables, prefers)
    expected = {
        "win_rate": by_hand(scores, lambda s: sum(s) / 2, alike=0.5),
        "won": by_hand(scores, lambda s: s == (1, 1), alike=0),
        "tied": by_hand(scores, lambda s: s == (0.5, 0.5), alike=1),
        "lost": by_hand(scores, lambda s: s == (0, 0), alike=0),
        "split": by_hand(scores, lambda s: s[0] != s[1], alike=0),
        "agreement": by_hand(scores, lambda s: s[0] == s[1], alike=None),
        "score_first": by_hand(scores, lambda s: s[1], alike=None),
        "score_second": by_hand(scores, lambda s: s[0], alike=None),
        "first_minus_second": by_hand(scores, lambda s: s[1] - s[0], alike=None),
    }
    for name, values in expected.items():
        found = outcome.measures[name]
        assert found.mean[0] == pytest.approx(sum(values) / len(values), abs=1e-12), name
        assert found.prompts[0] == len(values), name
    assert all(0.05 < outcome.measures[name].mean[0] < 0.95 for name in ("won", "lost", "split", "agreement"))
    assert outcome.measures["first_minus_second"].mean[0] > 0.1
    asked = sum(pair is not None for row in scores for pair in row)
    assert len(server.seen) == 2 * asked
    assert outcome.counts == {
        "pairs": P * DRAWS,
        "unanswered": 0,
        "alike": P * DRAWS - asked,
        "unread": 0,
        "replies_unread": 0,
        "replies_refused": 0,
    }
    assert outcome.bounds == (pytest.approx(outcome.measures["win_rate"].mean[0]),) * 2


@pytest.mark.parametrize(("verdict", "bias"), [("A", 1.0), ("B", -1.0), ("C", 0.0)])
def test_a_judge_that_sees_the_place_alone_finds_no_difference(
    config: Configure, tables: Any, verdict: str, bias: float
) -> None:
    outcome, _ = ask(config, tables, judging(lambda *_: verdict))
    assert outcome.measures["win_rate"].mean[0] == 0.5
    assert outcome.measures["first_minus_second"].mean[0] == bias
    assert outcome.measures["agreement"].mean[0] == (verdict == "C")
    assert math.isnan(outcome.measures["longer_won"].mean[0]), "no pair has a winner"


def test_a_judge_without_bias_has_none(config: Configure, tables: Any) -> None:
    outcome, _ = ask(config, tables, judging(lambda a, b: "ABC"[int(quality_of(a) < quality_of(b))]))
    fair, _ = ask(config, tables, judging(lambda a, b: "CAB"[int(np.sign(quality_of(a) - quality_of(b)))]), out="fair")
    assert fair.measures["first_minus_second"].mean[0] == 0
    assert fair.measures["agreement"].mean[0] == 1
    assert outcome.measures["first_minus_second"].mean[0] > 0, "it takes the first of two that are as good"


def test_the_interval_is_that_of_the_means_of_the_prompts(config: Configure, tables: Any) -> None:
    """Its width against Student's t, and its ends against a bootstrap of our own."""
    outcome, _ = ask(config, tables)
    values = np.array(by_hand(scores_of(tables, prefers), lambda s: sum(s) / 2, alike=0.5))
    np.testing.assert_allclose(outcome.win_rates, values)
    rate = outcome.measures["win_rate"]
    width = 2 * stats.t.ppf(0.975, P - 1) * values.std(ddof=1) / np.sqrt(P)
    assert rate.high[0] - rate.low[0] == pytest.approx(width, rel=0.05)
    draws = np.random.default_rng(5).choice(values, size=(20_000, P)).mean(axis=1)
    stretch = stats.t.ppf(0.975, P - 1) * values.std(ddof=1) / np.sqrt(P) / (1.96 * draws.std())
    low, high = values.mean() + stretch * (np.quantile(draws, [0.025, 0.975]) - values.mean())
    step = 1.5 / (2 * DRAWS * P)  # the means of resampled prompts lie on a grid
    assert (rate.low[0], rate.high[0]) == (pytest.approx(low, abs=step), pytest.approx(high, abs=step))


def test_lengths_are_those_of_the_texts(config: Configure, tables: Any) -> None:
    """A judge that likes length is found out; winners and losers against a count of our own."""
    outcome, _ = ask(config, tables, judging(lambda a, b: "CAB"[int(np.sign(len(a) - len(b)))]))
    assert outcome.measures["longer_won"].mean[0] == 1
    pairs = [pair.answers for pair in match_answers(*tables, deploy_n=N, draws=DRAWS).pairs]
    rows = [[(len(a), len(b)) for a, b in pairs[at : at + DRAWS]] for at in range(0, len(pairs), DRAWS)]
    decided = [[both for both in row if both[0] != both[1]] for row in rows]
    means = [np.mean([[max(both), min(both)] for both in row], axis=0) for row in decided if row]
    winner, loser = np.mean(means, axis=0)
    found = {name: interval.mean[0] for name, interval in outcome.measures.items()}
    assert found["length_of_winner"] == pytest.approx(winner)
    assert found["length_of_loser"] == pytest.approx(loser)
    assert found["winner_minus_loser"] == pytest.approx(winner - loser)
    assert found["length_of_reference"] == pytest.approx(np.mean([a for row in rows for a, _ in row]))
    assert found["length_of_other"] == pytest.approx(np.mean([b for row in rows for _, b in row]))


def test_garbage_is_counted_and_never_guessed(config: Configure, tables: Any) -> None:
    def verdict(first: str, second: str) -> str:
        return "Both have merits, A and B." if quality_of(first) == 4 else prefers(first, second)

    outcome, _ = ask(config, tables, judging(verdict))
    pairs = [p.answers for p in match_answers(*tables, deploy_n=N, draws=DRAWS).pairs]
    asked = [pair for pair in pairs if pair[0] != pair[1]]
    unread = sum(quality_of(text) == 4 for pair in asked for text in pair)
    lost = sum(4 in map(quality_of, pair) for pair in asked)
    assert (outcome.counts["replies_unread"], outcome.counts["unread"]) == (unread, lost)
    assert lost > 5
    scores = scores_of(tables, prefers)
    kept = [
        [s for s, pair in zip(row, pairs[at * DRAWS :], strict=False) if pair[0] == pair[1] or pair not in asked
         or 4 not in map(quality_of, pair)]
        for at, row in enumerate(scores)
    ]  # fmt: skip
    values = by_hand(kept, lambda s: sum(s) / 2, alike=0.5)
    assert outcome.measures["win_rate"].mean[0] == pytest.approx(np.mean(values))
    low, high = outcome.bounds
    assert low < outcome.measures["win_rate"].mean[0] < high
    for bound, value in ((low, 0.0), (high, 1.0)):
        filled = [
            [None if pair[0] == pair[1] else (
                value if quality_of(pair[0]) == 4 else s[0], value if quality_of(pair[1]) == 4 else s[1]
            ) for s, pair in zip(row, pairs[at * DRAWS :], strict=False)]
            for at, row in enumerate(scores)
        ]  # fmt: skip
        assert bound == pytest.approx(np.mean(by_hand(filled, lambda s: sum(s) / 2, alike=0.5)))
    text = Path(config(base_url="http://h").out, "judge.md").read_text()
    assert f"{unread} replies had no verdict" in text


def test_where_nothing_can_be_read_nothing_is_said(config: Configure, tables: Any) -> None:
    other = table("tea", 2, responses=[[f"{text}!" for text in row] for row in tables[1].responses])
    outcome, _ = ask(config, (tables[0], other), judging(lambda *_: "I cannot choose."))
    assert math.isnan(outcome.measures["win_rate"].mean[0])
    assert outcome.bounds == (0.0, 1.0)
    document = json.loads(Path("judged/judge.json").read_text())
    assert document["measures"]["win_rate"]["mean"] is None
    assert document["answer"].startswith("Unknown")


def test_what_is_sent(config: Configure, tables: Any) -> None:
    _, server = ask(config, tables)
    assert {path for path, _ in server.seen} == {"/v1/chat/completions"}
    sent = {"model": "the-judge", "temperature": 0.0, "max_tokens": 512}
    assert all(body.items() >= sent.items() and "n" not in body for _, body in server.seen)
    pairs = [pair for pair in match_answers(*tables, deploy_n=N, draws=DRAWS).pairs if not pair.is_alike]
    expected = [filled(TEMPLATE, pair.prompt, *order) for pair in pairs for order in (pair.answers, pair.answers[::-1])]
    assert Counter(texts_sent(server)) == Counter(expected), "each pair in both orders"


def test_the_report_is_written_in_every_form(config: Configure, tables: Any) -> None:
    outcome, _ = ask(config, tables)
    names = {path.name for path in Path("judged").iterdir()}
    assert names == {"judge.png", "judge.svg", "judge.md", "judge.json", "judgements.jsonl", ".lock"}
    document = json.loads(Path("judged/judge.json").read_text())
    assert document["measures"].keys() == outcome.measures.keys()
    assert document["measures"]["win_rate"]["mean"] == outcome.measures["win_rate"].mean[0]
    assert (document["reference"], document["compared"], document["judge"]) == ("base", "tea", "the-judge")
    text = Path("judged/judge.md").read_text()
    assert f"{outcome.measures['win_rate'].mean[0]:.1%}" in text
    assert document["answer"] in text


def test_few_prompts_that_are_all_won_are_no_proof(config: Configure) -> None:
    def answers(name: str, quality: int, prompts: int) -> Any:
        texts = [[f"q={quality} {name}"]] * prompts
        return table(name, 0).replace(
            rewards=np.zeros((prompts, 1)), prompts=[f"p{i}" for i in range(prompts)], responses=texts, prompt_ids=None
        )

    for prompts, words in ((1, "one prompt"), (4, "not told apart"), (12, "is better")):
        both = answers("base", 0, prompts), answers("tea", 4, prompts)
        ask(config, both, deploy_n=1, draws=1, out=str(prompts))
        assert words in json.loads(Path(str(prompts), "judge.json").read_text())["answer"]


def test_a_dry_run_sends_and_writes_nothing(
    config: Configure, tables: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert judge(config(base_url="http://localhost:9", deploy_n=N, dry_run=True, limit=3), tables) is None
    printed = capsys.readouterr().out
    assert [*tmp_path.iterdir()] == []
    outcome, server = ask(config, tables, draws=1, limit=3)
    texts = texts_sent(server)
    assert all(text in printed for text in texts)
    assert printed.count("--- prompt") == len(texts) == 2 * (3 - outcome.counts["alike"])
    assert f"{len(texts)} requests" in printed
    assert f"about {sum(map(len, texts)) // 4} prompt tokens" in printed
    assert f"{len(texts)} requests" in capsys.readouterr().err, "what it costs is said before it is spent"
