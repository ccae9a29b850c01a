"""The mutations that `make mutate` tries: one or two of each formula, and the tests that must notice them.

Each is a mistake in the mathematics that a reader could make: a sign, a count one off, a square forgotten. The gate
checks that every text stands in its file exactly once (test_mutation_list.py); `make mutate-core` breaks the rest.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    """One change of one formula, and the test file that must notice it."""

    file: str
    """Path inside the package."""
    old: str
    """Text that stands there exactly once."""
    new: str
    """What it becomes."""
    test: str
    """Test file, relative to tests/."""

    def __str__(self) -> str:
        return f"{self.file}: {self.old} -> {self.new}"


_TAILS = [
    ("constants.py", "(n - 1) * log_cdf", "n * log_cdf", "constants"),
    ("constants.py", "math.sqrt(1 + z * mean - mean * mean)", "math.sqrt(1 + z * mean - z * z)", "constants"),
    ("constants.py", "(_expected_max(deploy_n) - tail.mean)", "(_expected_max(deploy_n) + tail.mean)", "constants"),
    ("statistics.py", "clamp(min=0) / size).sqrt()", "clamp(min=0) / (size - 1)).sqrt()", "statistics_and_forecasts"),
    ("shapes.py", "location + as_column(", "location - as_column(", "shapes"),
    (
        "shapes.py",
        "coefficient / (2 * tail_fraction * tail.scale)",
        "coefficient / (tail_fraction * tail.scale)",
        "shapes",
    ),
    ("shapes.py", "1 / tail_fraction - 2 * quadratic", "1 / tail_fraction + 2 * quadratic", "shapes"),
    ("shapes.py", "keepdim=True) / (size - 1)", "keepdim=True) / size", "shapes"),
    ("shapes.py", "torch.polygamma(1, size) - linear", "torch.polygamma(1, size) + linear", "shapes"),
    ("shapes.py", "torch.digamma(scored.to(torch.float64) + 1)", "torch.digamma(scored.to(torch.float64))", "shapes"),
    ("forecasts.py", "(smaller + 1 - k)", "(smaller - k)", "forecasts"),
    ("leave_one_out.py", "squares * (n - 1) / n", "squares / n", "leave_one_out"),
    ("pareto.py", "((size - 1) * total - 2 * ranked)", "(size * total - 2 * ranked)", "pareto"),
    ("pareto.py", "ranked - rank * excess - below", "ranked - rank * excess", "pareto"),
    ("reach.py", "(high - low) / (middle - low)", "(high - middle) / (middle - low)", "reach"),
    ("reach.py", "gain.sum() - gain", "gain.sum()", "reach"),
    ("diagnosis.py", "sums[1] - count * mean**2", "sums[1]", "diagnosis"),
    ("diagnosis.py", "at_best > np.maximum(share * scored, 1)", "at_best > share", "diagnosis"),
    ("gaussianity.py", "(rank - 0.375) / (n + 0.25)", "rank / (n + 1)", "gaussianity"),
    ("pareto.py", "_log_moment(k + 1, n, shape)", "_log_moment(k, n, shape)", "far_forecasts"),
    ("pareto.py", "torch.lgamma(count + 1 - shape)", "torch.lgamma(count - shape)", "far_forecasts"),
    ("families.py", "ndtri(1 - 1 / deploy_n)", "ndtri(1 - 1 / (deploy_n + 1) ** 2)", "far_forecasts"),
    ("families.py", "(difference * largest)", "(largest / difference)", "far_forecasts"),
    ("levels.py", "trials - successes + deploy_n", "trials + deploy_n", "far_forecasts"),
    ("levels.py", "_HOPELESS * (successes == 0)", "_HOPELESS", "far_forecasts"),
    ("levels.py", "_weight_of(_log_none_of(0, *outcomes), t", "_weight_of(_log_none_of(1, *outcomes), t", "levels"),
    ("calibrated.py", "torch.expm1(sign * ratio) / ratio", "torch.expm1(sign * ratio)", "far_forecasts"),
]

_ESTIMATORS = [
    ("dr_grpo.py", "centred(relative_rewards(rewards))", "-centred(relative_rewards(rewards))", "grpo"),
    ("_groups.py", "* n / (n - 1)", "* (n - 1) / n", "grpo"),
    ("grpo.py", "* (count / (count - 1))", "", "grpo"),
    ("max_at_k.py", "won = binomial_ratio(below, k, n - 1, k)", "won = binomial_ratio(below, k, n, k)", "max_at_k"),
    ("max_at_k.py", "(n * gaps * binomial", "(gaps * binomial", "max_at_k"),
    ("max_at_k.py", "products * q / (n - q)", "products / (n - q)", "off_policy"),
    ("order_grad.py", "(gaps * (won + lost)).cumsum", "(gaps * won).cumsum", "order_grad"),
    ("leave_two_out.py", "left_out.sum(dim=1) - left_out", "-left_out.sum(dim=1) - left_out", "leave_two_out"),
    ("tea.py", "as_column(coefficient), tail_fraction", "as_column(coefficient), 2 * tail_fraction", "tea"),
    ("flat_tea.py", "/ (2 * parabola.quadratic)", "/ parabola.quadratic", "flat_tea"),
    ("_prefixes.py", "max(sizes) / np.array(sizes", "1 / max(sizes) * np.array(sizes", "prefix_tea"),
    ("prefix_tea.py", "weights * counts / evaluated", "weights / evaluated", "prefix_tea"),
    ("cvar.py", "excess / tail_fraction", "excess", "peers"),
    ("bon_max_mean.py", "gap * num_scored(rewards)", "gap", "peers"),
    ("bon_max_second.py", "(relative - second) * n", "relative - second", "peers"),
    ("_ranks.py", "xlogy(n - 1, quantile)", "xlogy(n, quantile)", "peers"),
    ("bon_rl.py", "weight * (values - success)", "weight * values", "peers"),
    ("cat_bon.py", "(num_smaller(relative) + 1)", "num_smaller(relative)", "peers"),
    ("pass_at_k.py", "all_fail * (1 - all_fail)", "all_fail", "peers"),
    ("pass_at_n.py", "torch.lgamma(x + deploy_n - 1)", "torch.lgamma(x + deploy_n)", "zero_one"),
    ("max_rl.py", "(values - mean) / mean", "values - mean", "zero_one"),
    ("f_grpo.py", "failures.detach() ** gamma", "failures", "zero_one"),
    ("rs_grpo.py", "centred(utility)", "utility", "peers"),
    ("entropic.py", "beta * mean - (total / n).log()", "beta * mean - total.log()", "entropic"),
    ("qae.py", "relative - ascending.gather(1, rank)", "relative", "peers"),
    ("ragged.py", "* (size.to(advantages.dtype) / columns).unsqueeze(1)", "", "ragged"),
    ("ragged.py", ">= size.unsqueeze(1)", "> size.unsqueeze(1)", "ragged"),
    ("batch.py", "mean_square.sqrt()", "mean_square", "batch"),
    ("batch.py", "min(rewards.shape[1], math.floor(deploy_n))", "rewards.shape[1]", "batch"),
    ("batch.py", "rewards_per_func * weights", "rewards_per_func / weights", "batch"),
]

_REPORTS = [
    ("statistics/intervals.py", "num_seeds - 1) ** 2 * of_seeds", "num_seeds - 1) * of_seeds", "intervals"),
    ("statistics/intervals.py", "np.maximum(by_seeds, by_noise)", "by_seeds", "intervals"),
    ("statistics/intervals.py", ">= _FEW else (ends[1]", ">= 2 else (ends[1]", "intervals"),
    ("statistics/power.py", "size * np.sqrt(seeds)", "size * seeds", "power"),
    ("curves/rollouts.py", "np.mean(ours - theirs,", "np.mean(theirs,", "rollouts"),
    ("fidelity/measure.py", "weights = (advantages / m)", "weights = advantages", "fidelity"),
    ("fidelity/products.py", "means[:, 0] @ means[:, 1].T", "means[:, 0] @ means[:, 0].T", "fidelity"),
    ("fidelity/products.py", "deviations.mean(axis=1) / (groups - 1)", "deviations.mean(axis=1) / groups", "fidelity"),
    ("fidelity/break_even.py", "prompts * (d_r / s - d / s_r)", "prompts * (d / s - d_r / s_r)", "break_even"),
    ("planning/replay.py", "second[..., ::-1, :]", "second", "replay"),
    ("planning/replay.py", "location * (squares * location)", "location * 0 * (squares * location)", "replay"),
    ("planning/replay.py", "(DRAWS * m)", "DRAWS", "replay"),
    ("planning/scoring.py", "np.sqrt(_positive(square + noise)", "np.sqrt(_positive(noise)", "plan"),
    ("planning/scoring.py", "/ prompts_per_step[:, None]", "", "plan"),
    ("planning/plan.py", "prompts / rollouts_per_step])", "rollouts_per_step / prompts])", "plan"),
    ("planning/measured.py", "np.nanmedian(signal / signals)", "np.nanmedian(signals / signal)", "measured"),
    ("grid/frontier.py", "np.argmax(path >= wanted)", "np.argmin(np.abs(path - wanted))", "frontier"),
    ("grid/frontier.py", "np.where(within, means, -np.inf)", "means", "frontier"),
    ("judging/measures.py", "decided & (reference != other)", "decided", "measures"),
    (
        "judging/measures.py",
        "first, second = scores[..., 1], scores[..., 0]",
        "second, first = scores[..., 1], scores[..., 0]",
        "judge",
    ),
    ("judging/measures.py", "asked = judged & ~alike", "asked = judged", "judge"),
    (
        "judging/measures.py",
        "np.where(np.isnan(scores), value, scores)",
        "np.where(np.isnan(scores), 0.5, scores)",
        "judge",
    ),
    ("judging/model.py", "of_second if order == 0 else 1.0 - of_second", "of_second", "judge"),
    ("judging/answers.py", "n * deploy_n + at", "at", "answers"),
    ("integrations/groups.py", "advantages_ragged(rewards[kept], members", "advantages_ragged(rewards, ids", "groups"),
    ("integrations/groups.py", "self.scaling or find_estimator(self.name).scaling", '"none"', "groups"),
    ("integrations/token_level.py", "* response_mask", "", "groups"),
    ("integrations/verl.py", "default | options", "options | default", "verl"),
]

_GRADIENTS = [
    ("lora.py", "scale * gradient.float().mT @ projected", "gradient.float().mT @ projected", "lora"),
    ("lora.py", "(2 * drawn - 1) / inputs**0.5", "drawn / inputs**0.5", "lora"),
    ("parameters.py", "range(count - last, count)", "range(last)", "parameters"),
]

_SERVING = [
    ("expected_gain.py", "step * draws / (scored + draws + 1)", "step * draws / (scored + draws)", "expected_gain"),
    ("expected_gain.py", "weight + prior.spread_weight", "weight", "expected_gain"),
    ("expected_gain.py", "centre[:, None] - below[:, None]", "centre[:, None] + below[:, None]", "expected_gain"),
    ("tail_fit.py", "(size / max(size - 1, 1)) ** 0.5", "(size / max(size - 1, 1))", "expected_gain"),
    ("priors.py", "squared_mean + float(psi(", "squared_mean - float(psi(", "priors"),
    ("priors.py", "means.var() - (noise / count).mean()", "means.var()", "priors"),
    ("tail_stopping.py", "self.price * draws * unit", "self.price * unit", "tail_stopping"),
    ("allocation.py", "after - so_far", "after", "allocation"),
    ("best.py", "winner=max(", "winner=min(", "call"),
    ("best.py", "math.nan if reward is None", "0.0 if reward is None", "call"),
    ("served.py", "first + i * form.at_once", "first", "behind_a_server"),
    ("limits.py", "self._lines.popitem(last=False)", "self._lines.popitem()", "refused"),
    ("keys.py", " or not any(known)", "", "refused"),
    ("service.py", "return_when=asyncio.FIRST_COMPLETED", "return_when=asyncio.ALL_COMPLETED", "failures"),
]

MUTATIONS = [
    *(Mutation(f"tails/{file}", old, new, f"tails/test_{test}.py") for file, old, new, test in _TAILS),
    *(Mutation(f"estimators/{file}", old, new, f"estimators/test_{test}.py") for file, old, new, test in _ESTIMATORS),
    *(Mutation(file, old, new, f"{file.split('/')[0]}/test_{test}.py") for file, old, new, test in _REPORTS),
    *(
        Mutation(f"fidelity/{file}", old, new, f"fidelity/gradients/test_{test}.py")
        for file, old, new, test in _GRADIENTS
    ),
    *(Mutation(f"serving/{file}", old, new, f"serving/test_{test}.py") for file, old, new, test in _SERVING),
]
