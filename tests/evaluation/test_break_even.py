import math

import numpy as np
import pytest

from tailgrad.evaluation import FidelityPoint, Interval, break_even, fidelity_markdown, gradient_fidelity


def test_at_the_break_even_two_steps_have_the_same_cosine() -> None:
    """The truth is the first axis; a step is a sum of B prompts' vectors, drawn with the bias and noise given."""

    def point(direction: float, signal_to_noise: float) -> FidelityPoint:
        values = {"direction": direction, "signal_to_noise": signal_to_noise}
        measures = {
            name: Interval(*(np.array([value]) for value in (value, 0, 0, 8))) for name, value in values.items()
        }
        return FidelityPoint("any", 16, 128, 1, measures)

    def cosine(direction: float, signal_to_noise: float, prompts: float) -> float:
        """Of steps with as many prompts, in 500 dimensions, where noise of each has variance 8 / (s B) in all."""
        expected = np.array([direction, math.sqrt(1 - direction**2), *np.zeros(498)])
        noise = np.random.default_rng(0).normal(0, math.sqrt(8 / (signal_to_noise * prompts) / 500), (4000, 500))
        steps = expected + noise
        return float((steps[:, 0] / np.linalg.norm(steps, axis=1)).mean())

    steep, clear = (0.99, 0.05), (0.7, 0.9)  # little bias and much noise; much bias and little noise
    needed = break_even(point(*steep), point(*clear), 8)
    assert cosine(*steep, needed) == pytest.approx(cosine(*clear, needed), abs=0.004)
    assert cosine(*steep, 2 * needed) > cosine(*clear, 2 * needed) + 0.02
    assert break_even(point(*clear), point(*steep), 8) == math.inf
    assert break_even(point(0.99, 0.9), point(*clear), 8) == 0
    assert break_even(point(1.2, 0.05), point(*clear), 8) == break_even(point(1.0, 0.05), point(*clear), 8)
    assert math.isnan(break_even(point(math.nan, 0.05), point(*clear), 8))
    assert math.isnan(break_even(point(0.99, -0.01), point(*clear), 8))


def test_the_report_says_how_many_prompts_a_step_needs() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(8, 1024))
    noise = rng.normal(size=(8, 1024, 20))  # of parameters that have nothing to do with the reward
    scores = np.concatenate([np.stack([rewards, 0.1 * rewards**2], axis=2), noise], axis=2)
    asked = {"m": [16, 32], "deploy_n": [128]}
    fidelity = gradient_fidelity(rewards, scores, estimators=["tea", "dr_grpo", "grpo"], **asked)
    table = fidelity_markdown(fidelity)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    assert rows[0][-1] == "prompts to meet grpo"
    points = {(str(one.m), one.estimator): one for one in fidelity.points}
    for m, name, *_, cell in rows[2:]:
        if name == "grpo":
            assert cell == ""
        elif math.isinf(value := break_even(points[m, name], points[m, "grpo"], 8)):
            assert cell == "never"
        else:
            assert float(cell.replace(",", "")) == pytest.approx(value, rel=0.06)
    assert all(row[-1][0].isdigit() for row in rows[2:] if row[1] == "tea")
    assert "prompts to meet grpo" not in fidelity_markdown(
        gradient_fidelity(rewards, scores, estimators=["tea"], **asked)
    )
