"""May V_N be extrapolated, how far, and with which tail: the answer in one sentence."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tailgrad.display.cells import interval_cell
from tailgrad.statistics.intervals import Interval
from tailgrad.tails.reach import ReachTest

TOLERANCE: Final = 0.05
"""The largest error of a forecast, as a share of the gain V_N - V_1, that counts as right."""
LIMIT: Final = 0.1
"""The largest error that the interval of a right forecast may hold."""
FACTOR: Final = 8
"""How many times further than m a forecast must be right, if the pool can test so much."""


class Verdict(NamedTuple):
    """The answer."""

    tail: str
    """The shape to extrapolate with, of `TAIL_SHAPES`; "none", or "unknown" where these rollouts do not tell."""
    reason: str
    """"tested" with a shape. With none: "constant", "two_values", "saturated", "capped", "short", "heavy" or
    "between" (the Gaussian). Unknown: "one_prompt", "few_rollouts" or "few_prompts"."""
    reach: int
    """How many times further than m its forecasts are right; 0 where not even twice."""
    sentence: str
    """The answer in words."""


def verdict_of(measures: Mapping[str, Interval], tests: Sequence[ReachTest], *, values: int) -> Verdict:
    """Say what the measures and the tests of the reach amount to.

    Args:
        measures: "constant", "saturated", "repeated_best" and "shape" of `diagnose_tails`.
        tests: Of `reach_tests`.
        values: How many different rewards there are, over all prompts.

    Returns:
        The answer. A forecast is right where its error is within `TOLERANCE` and the interval within `LIMIT`, and wrong
        where the whole interval lies beyond `TOLERANCE`.
    """
    saturated = float(measures["saturated"].mean[0])
    if measures["constant"].mean[0] == 1:
        return Verdict(
            "none", "constant", 0, "No: all responses to a prompt get the same reward; nothing can be gained."
        )
    if values == 2:
        words = "No: the rewards take two values and have no tail; what grows with N is the chance of a success."
        return Verdict("none", "two_values", 0, words)
    if saturated > 0.5:
        words = (
            f"No: at {saturated:.0%} of the prompts a large part of the responses already gets the best reward, "
            "so that a larger N gains next to nothing."
        )
        return Verdict("none", "saturated", 0, words)
    if not tests:
        words = "Not known: there are too few scored responses per prompt to test a forecast; sample 64 or more."
        return Verdict("unknown", "few_rollouts", 0, words)
    return _of_tests(measures, tests)


def _of_tests(measures: Mapping[str, Interval], tests: Sequence[ReachTest]) -> Verdict:
    factor = min(FACTOR, max(test.factor for test in tests))
    best = min((test for test in tests if test.factor == factor), key=lambda test: abs(test.error))
    if math.isnan(best.low):
        words = f"Not known: the error of one prompt has no interval ({_foretells(best)}); sample more prompts."
        return Verdict("unknown", "one_prompt", 0, words)
    reach = _reach([test for test in tests if test.tail == best.tail])
    if reach >= factor:
        return Verdict(best.tail, "tested", reach, _yes(tests, best.tail, reach))
    if best.low <= TOLERANCE and best.high >= -TOLERANCE:
        words = f"Not clear: {_foretells(best)}, where {TOLERANCE:.0%} is right; more prompts would tell."
        return Verdict("unknown", "few_prompts", reach, words)
    reason = _why_not(measures, tests, factor)
    words = f"No: {_REASONS[reason]} (shape {interval_cell(measures['shape'], 0, 2)}); even {_foretells(best)}"
    return Verdict("none", reason, reach, words + (f" (up to N = {reach} m it is right)." if reach else "."))


_REASONS: Final = {
    "capped": "most prompts reach their best reward more than once, where the rewards end",
    "short": "the tail ends sooner than a Gaussian one",
    "heavy": "the tail is heavier than an exponential one",
    "between": "the tail is neither Gaussian nor exponential",
}


def _why_not(measures: Mapping[str, Interval], tests: Sequence[ReachTest], factor: int) -> str:
    errors = {test.tail: test.error for test in tests if test.factor == factor}
    if min(errors.values()) > 0:
        return "capped" if float(measures["repeated_best"].mean[0]) > 0.5 else "short"
    return "heavy" if max(errors.values()) < 0 else "between"


def _reach(tests: Sequence[ReachTest]) -> int:
    """The largest factor up to which every forecast is right."""
    reach = 0
    for test in sorted(tests, key=lambda test: test.factor):
        if abs(test.error) > TOLERANCE or test.low < -LIMIT or test.high > LIMIT:
            break
        reach = test.factor
    return reach


def _yes(tests: Sequence[ReachTest], tail: str, reach: int) -> str:
    ours, other = sorted((test for test in tests if test.factor == reach), key=lambda test: test.tail != tail)
    most = ", and this pool can test no more" if reach == max(test.factor for test in tests) else ""
    words = f"Yes, up to N = {reach} m{most}: {_foretells(ours)}"
    return f"{words} (with {_TAILS[other.tail]}: {other.cell})."


def _foretells(test: ReachTest) -> str:
    who = f"with {_TAILS[test.tail]}, m = {test.m} responses foretell V_{test.deploy_n}"
    return f"{who} with an error of {test.cell} of the gain"


_TAILS: Final = {"gaussian": "a Gaussian tail", "exponential": "an exponential tail"}
