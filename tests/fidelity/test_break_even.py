import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

from reports import tables_of
from tailgrad.fidelity import Fidelity, FidelityPoint, break_even, fidelity_markdown, gradient_fidelity
from tailgrad.fidelity.break_even import break_even_cell
from tailgrad.statistics import Interval

ESTIMATORS = ["tea", "max_at_k:k=4", "dr_grpo", "grpo"]
TRUE_PROMPTS = 64


def pool(prompts: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards, and scores of which one goes with the mean, a little with the spread, and most with nothing."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(prompts, n))
    noise = rng.normal(size=(prompts, n, 40))
    return rewards, np.concatenate([np.stack([rewards, 0.3 * rewards**2], axis=2), noise], axis=2)


def measured(prompts: int, n: int, seed: int, m: tuple[int, ...] = (16,)) -> Fidelity:
    return gradient_fidelity(*pool(prompts, n, seed), estimators=ESTIMATORS, m=m, deploy_n=[64])


@cache
def population() -> dict[str, FidelityPoint]:
    """Measured on so large a pool that its noise does not matter."""
    return {point.estimator: point for point in measured(TRUE_PROMPTS, 4096, 0).points}


def point(*values: tuple[float, float]) -> FidelityPoint:
    """Direction and signal to noise, then those without each prompt."""
    (direction, signal), *without = [*values, *values[:1] * 8][: max(9, len(values))]
    known = {"direction": direction, "signal_to_noise": signal}
    measures = {name: Interval(*(np.array([value]) for value in (value, 0, 0, 8))) for name, value in known.items()}
    left_out = np.array([[d, math.nan, math.nan, s] for d, s in without])
    return FidelityPoint("any", 16, 128, 1, measures, left_out)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("prompts", [8, TRUE_PROMPTS])
def test_the_cosine_of_a_step_is_what_break_even_takes_it_for(estimator: str, prompts: int) -> None:
    values = {name: interval.mean[0] for name, interval in population()[estimator].measures.items()}
    expected = values["direction"] / math.sqrt(1 + TRUE_PROMPTS / (values["signal_to_noise"] * prompts))
    steps = gradient_fidelity(*pool(prompts, 32768 // prompts, 1), estimators=[estimator], m=[16], deploy_n=[64])
    assert steps.points[0].measures["step"].mean[0] == pytest.approx(expected, abs=0.03)


def test_at_the_break_even_two_steps_have_the_same_cosine() -> None:
    tail, mean = population()["tea"], population()["dr_grpo"]
    crossing = break_even(tail, mean).mean[0]
    assert 1 < crossing < TRUE_PROMPTS
    assert break_even(mean, tail).mean[0] == math.inf

    def cosine(one: FidelityPoint, prompts: float) -> float:
        """Of steps of so many prompts: a mean at that angle to the first axis, and noise in 500 dimensions."""
        direction, signal = (one.measures[name].mean[0] for name in ("direction", "signal_to_noise"))
        expected = np.array([direction, math.sqrt(max(0, 1 - direction**2)), *np.zeros(498)])
        size = math.sqrt(TRUE_PROMPTS / (signal * prompts) / 500)
        steps = expected + np.random.default_rng(0).normal(0, size, (4000, 500))
        return float((steps[:, 0] / np.linalg.norm(steps, axis=1)).mean())

    assert cosine(tail, crossing) == pytest.approx(cosine(mean, crossing), abs=0.005)
    assert cosine(tail, 4 * crossing) > cosine(mean, 4 * crossing) + 0.02
    assert cosine(tail, crossing / 4) < cosine(mean, crossing / 4) - 0.02


def test_the_interval_covers() -> None:
    truth = break_even(population()["tea"], population()["dr_grpo"]).mean[0]
    found = []
    for seed in range(40):
        points = {one.estimator: one for one in measured(16, 512, 100 + seed).points}
        found.append(break_even(points["tea"], points["dr_grpo"]))
    covered = [interval.low[0] <= truth <= interval.high[0] for interval in found]
    assert np.mean(covered) > 0.86  # 95% but for chance: four standard errors of 40
    assert np.mean([interval.high[0] < 3 * interval.low[0] for interval in found]) > 0.9  # and says something


def test_the_interval_is_that_of_the_jackknife_of_log_b() -> None:
    """By hand: B = 8 (0.49 / s - 0.81 / 0.4) / (0.81 - 0.49), of which only s is another without each prompt."""
    signals = np.array([0.05, 0.04, 0.05, 0.06, 0.05, 0.055, 0.045, 0.05, 0.05])
    found = break_even(point(*((0.9, float(signal)) for signal in signals)), point((0.7, 0.4)))
    b = 8 * (0.49 / signals - 0.81 / 0.4) / (0.81 - 0.49)
    assert found.mean[0] == pytest.approx(b[0])
    reach = stats.t.ppf(0.975, 7) * math.sqrt(7 * np.var(np.log(b[1:])))
    assert (found.low[0], found.high[0]) == pytest.approx((b[0] * math.exp(-reach), b[0] * math.exp(reach)))


def test_what_needs_no_crossing() -> None:
    steep, clear = (0.99, 0.05), (0.7, 0.9)
    assert break_even(point(clear), point(steep)).mean[0] == math.inf
    assert break_even(point((0.99, 0.9)), point(clear)).mean[0] == 0
    assert break_even(point(clear), point(clear)).mean[0] == math.inf
    assert break_even(point((0.7, 1.0)), point(clear)).mean[0] == 0  # the same direction, more signal
    assert break_even(point((1.2, 0.05)), point(clear)).mean[0] == break_even(point((1.0, 0.05)), point(clear)).mean[0]
    assert break_even(point((-0.5, 0.9)), point((0.3, 0.1))).mean[0] == math.inf
    assert break_even(point((0.3, 0.1)), point((-0.5, 0.9))).mean[0] == 0
    for unknown in ((math.nan, 0.05), (0.99, -0.01), (0.99, 0.0)):
        assert math.isnan(break_even(point(unknown), point(clear)).mean[0])
    assert math.isnan(break_even(point((-0.1, 0.9)), point((-0.5, 0.9))).mean[0])


def test_an_interval_without_end_where_the_order_of_directions_hangs_on_one_prompt() -> None:
    others = [(0.75, 0.05)] * 7
    found = break_even(point((0.75, 0.05), (0.69, 0.05), *others), point((0.7, 0.9)))
    assert math.isfinite(found.mean[0])
    assert (found.low[0], found.high[0]) == (0, math.inf)


def test_never_is_said_where_the_interval_of_the_directions_carries_it_alone() -> None:
    def cell(*own: tuple[float, float]) -> str:
        return break_even_cell(break_even(point((0.6, 0.05), *own), point((0.7, 0.9))))

    near = [(0.6 + move, 0.05) for move in (0.005, -0.005) * 4]
    far = [(0.6 + move, 0.05) for move in (0.08, -0.08) * 4]  # 2.4 errors of 0.2 each
    assert cell(*near) == "never"
    assert cell(*far) == "unclear"
    above = [(1.1, 0.05)] * 9  # both directions are noise above 1
    assert break_even_cell(break_even(point(*above), point((1.1, 0.9)))) == "unclear"
    alone = replace(point((0.6, 0.05)), left_out=np.empty((0, 4)))
    assert break_even_cell(break_even(alone, replace(point((0.7, 0.9)), left_out=np.empty((0, 4))))) == "unknown"


def test_prompts_that_disagree_beyond_all_floats_leave_the_interval_without_end() -> None:
    """Without one of eight the estimate is 1e198 times the others: 2.4 of such errors are a factor above e^709."""
    found = break_even(point((0.75, 0.05), (0.75, 1e-200), (0.75, 0.05)), point((0.7, 0.9)))
    assert math.isfinite(found.mean[0])
    assert (found.low[0], found.high[0]) == (0, math.inf)
    assert break_even_cell(found) == "unclear"


def test_the_report_says_how_many_prompts_per_step_needs() -> None:
    fidelity = measured(8, 1024, 0, m=(16, 32))
    (rows,) = tables_of(fidelity_markdown(fidelity))
    assert "grpo" in rows[0][-1]
    points = {(str(one.m), one.estimator): one for one in fidelity.points}
    cells = {(m, name): cell for m, name, *_, cell in rows[1:]}
    assert cells["16", "grpo"] == cells["32", "grpo"] == ""
    for m in ("16", "32"):
        found = break_even(points[m, "tea"], points[m, "grpo"])
        shown = [float(number) for number in cells[m, "tea"].replace(",", "").replace("[", "").replace("]", "").split()]
        assert shown == pytest.approx([found.mean[0], found.low[0], found.high[0]], rel=0.06)
    without = gradient_fidelity(*pool(8, 1024, 0), estimators=["tea", "rloo"], m=[16], deploy_n=[64])
    (other,) = tables_of(fidelity_markdown(without))
    assert "rloo" in other[0][-1]
    alone = gradient_fidelity(*pool(8, 1024, 0), estimators=["tea"], m=[16], deploy_n=[64])
    (narrower,) = tables_of(fidelity_markdown(alone))
    assert narrower[0] == other[0][:-1]
