"""The mutations that `make mutate` tries: one change of one formula each, and the tests that must notice it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One change of one formula, and the tests that must notice it."""

    file: str
    """Path inside the package."""
    old: str
    """Text that stands there exactly once."""
    new: str
    """What it becomes."""
    tests: tuple[str, ...]
    """Test files, relative to tests/, in the order to run them."""

    def __str__(self) -> str:
        return f"{self.file}: {self.old} -> {self.new}"


def group(file: str, tests: tuple[str, ...], *changes: tuple[str, str]) -> list[Mutation]:
    """Mutations of one file that the same tests must notice."""
    return [Mutation(file, old, new, tests) for old, new in changes]


MUTATIONS = [
    *group(
        "tails/constants.py",
        ("tails/test_constants.py",),
        ("(log_density + (n - 1) * log_cdf)", "(log_density + n * log_cdf)"),
        ("n.log() - 0.5 * x**2", "-0.5 * x**2"),
        ("_GRID_POINTS = -10.0, 12.0, 705", "_GRID_POINTS = -10.0, 5.0, 705"),
        ("z = -float(ndtri(tail_fraction))", "z = float(ndtri(tail_fraction))"),
        ("math.sqrt(2 * math.pi) / tail_fraction", "math.sqrt(2 * math.pi)"),
        ("math.sqrt(1 + z * mean - mean * mean)", "math.sqrt(1 + z * mean - z * z)"),
        ("GaussianTail(-math.inf, 0.0, 1.0)", "GaussianTail(-math.inf, 1.0, 1.0)"),
        ("(_expected_max(deploy_n) - tail.mean)", "(_expected_max(deploy_n) + tail.mean)"),
        (
            "(_expected_max_scalar(float(deploy_n)) - tail.mean) / tail.std",
            "_expected_max_scalar(float(deploy_n))",
        ),
        ("not 1 <= n <= LARGEST_N", "not 0 <= n <= LARGEST_N"),
    ),
    *group(
        "tails/statistics.py",
        ("tails/test_statistics_and_forecasts.py",),
        ("math.ceil(tail_fraction * num_rollouts - 1e-9)", "math.ceil(tail_fraction * num_rollouts)"),
        ("torch.ceil(tail_fraction *", "torch.floor(tail_fraction *"),
        ("to(torch.float64) - 1e-9)", "to(torch.float64))"),
        ("masked_fill(~scored, -math.inf)", "masked_fill(~scored, 0.0)"),
        ("(size - 1).clamp(min=0)", "(size - 2).clamp(min=0)"),
        ("/ size.unsqueeze(1)", "/ (size.unsqueeze(1) - 1)"),
        ("squares / (size - ddof)", "squares / size"),
        ("enough = size >= 2", "enough = size >= 1"),
    ),
    *group(
        "tails/statistics.py",
        ("tails/test_statistics_and_forecasts.py",),  # the old way, whose mean of equal rewards may round
        (
            "std=(squares / (size - ddof)).sqrt()",
            "std=largest.where(in_tail, 0.0)"
            ".sub((largest.where(in_tail, 0.0).sum(1) / size)[:, None]).where(in_tail, 0.0).square().sum(1)"
            ".div(size - ddof).sqrt()",
        ),
    ),
    *group(
        "tails/forecasts.py",
        ("tails/test_statistics_and_forecasts.py",),
        ("return tail.mean + extrap", "return tail.mean - extrap"),
        ("* tail.std", ""),
        (
            "check_rewards(rewards)\n    tail = tail_statistics(rewards, tail_fraction=tail_fraction, ddof=ddof)",
            "tail = tail_statistics(rewards, tail_fraction=tail_fraction, ddof=ddof)",
        ),
    ),
    *group(
        "tails/forecasts.py",
        ("tails/test_forecasts.py",),
        ("* k / (k - 1)", ""),
        ("torch.digamma(k) + _EULER", "torch.digamma(k + 1) + _EULER"),
        ("torch.digamma(n + 1)", "torch.digamma(n)"),
        ("torch.digamma(budget + 1)", "torch.digamma(budget)"),
        ("torch.cat([k / n, ratio]", "torch.cat([1 / n, ratio]"),
        ("(smaller + 1 - k)", "(smaller - k)"),
        ("where(n.squeeze(1) >= k, math.nan)", "clone()"),
        ("squares * (n - 1) / n", "squares / n"),
        ("(forecasts - mean) ** 2", "forecasts ** 2"),
    ),
    *group(
        "tails/gaussianity.py",
        ("tails/test_gaussianity.py",),
        ("(ranks - 0.375) / (n + 0.25)", "ranks / (n + 1)"),
        ("ascending[n - count :]", "ascending[:count]"),
        ("quantiles, residuals)[0, 1] ** 2", "quantiles, residuals)[0, 1]"),
        ("np.argsort(self.prompt_linearity", "np.argsort(-self.prompt_linearity"),
        ("np.where(scored, centred**2, 0.0)", "np.where(scored, values**2, 0.0)"),
        ("np.where(scored, shifted, 0.0).sum(axis=1, keepdims=True) / count", "np.nanmean(shifted)"),
    ),
    *group(
        "types.py",
        ("estimators/test_contract.py",),
        ("rewards.shape[1] < 2", "rewards.shape[1] < 1"),
        ("infinite = torch.isinf(rewards)", "infinite = torch.isposinf(rewards)"),
        ('f"rewards[{prompt}, {rollout}] is', 'f"rewards[{rollout}, {prompt}] is'),
    ),
    *group(
        "estimators/_groups.py",
        ("estimators/test_contract.py",),
        (
            "if rewards.dtype == torch.float64 else torch.float32",
            "if rewards.dtype == torch.float64 else rewards.dtype",
        ),
        ("return values - largest", "return values"),
        ("(~torch.isnan(rewards)).sum(dim=1", "torch.ones_like(rewards).sum(dim=1"),
        ("return values - torch.nanmean(", "return values + 0 * torch.nanmean("),
        ("(advantages * factor)", "advantages"),
    ),
    *group(
        "estimators/dr_grpo.py",
        ("estimators/test_grpo.py",),
        ("finish(centred(relative_rewards(rewards))", "finish(-centred(relative_rewards(rewards))"),
    ),
    *group(
        "estimators/rloo.py",
        ("estimators/test_grpo.py",),
        ("* n / (n - 1).clamp(min=1)", ""),
        ("* n / (n - 1)", "* (n - 1) / n"),
    ),
    *group(
        "estimators/grpo.py",
        ("estimators/test_grpo.py",),
        ("* (count / (count - 1))", ""),
        ("(torch.sqrt(variance) + eps)", "torch.sqrt(variance)"),
        ("values - torch.nanmean(", "values - 0 * torch.nanmean("),
        ("matters = lost.abs() >", "matters = lost.abs() <"),
        ("deviations - lost, deviations", "deviations + lost, deviations"),
        ("_TOLERANCE = 16.0", "_TOLERANCE = 0.1"),
        ("_TOLERANCE = 16.0", "_TOLERANCE = 1000.0"),
        (".to(values.dtype)", ""),
    ),
    *group(
        "estimators/max_at_k.py",
        ("estimators/test_max_at_k.py",),
        ("below = _ranks(ascending) - 1", "below = _ranks(ascending)"),
        ("(n * gaps * binomial", "(gaps * binomial"),
        ("binomial_ratio(below, k - 1, n, k)", "binomial_ratio(below, k - 1, n, k - 1)"),
        ("rank - 1, k - 1, n - 1, k - 1", "rank, k - 1, n - 1, k - 1"),
        ("rank - 2, k - 2, n - 1, k - 1", "rank - 1, k - 2, n - 1, k - 1"),
        ("return own + above", "return own - above"),
        (
            "above = binomial_ratio(rank - 2, k - 1, n - 1, k)",
            "above = binomial_ratio(rank - 1, k - 1, n - 1, k)",
        ),
        ("return below - own +", "return below +"),
        ("k * (_best_with_own(ascending, n, k) + largest)", "k * _best_with_own(ascending, n, k)"),
        (
            "k * (_best_with_own(ascending, n, k) - _best",
            "k / (k + 1) * (_best_with_own(ascending, n, k) - _best",
        ),
        ("values.where(n >= needed, 0.0)", "values"),
        ('k + 1 if baseline == "loo" or', "k + 1 if"),
    ),
    *group(
        "estimators/_binomials.py",
        ("estimators/test_max_at_k.py",),
        ("torch.lgamma(n + 1) - math.lgamma(k + 1)", "torch.lgamma(n + 1)"),
    ),
    *group(
        "estimators/tea.py",
        ("estimators/test_tea.py",),
        ("nan_to_num(nan=math.inf)).clamp(min=0)", "nan_to_num(nan=math.inf))"),
        ("mean - threshold, std, coefficient", "mean, std, coefficient"),
        ("coefficient / (2 * tail_fraction * std)", "coefficient / (tail_fraction * std)"),
        ("coefficient / (2 * tail_fraction * std)", "-coefficient / (2 * tail_fraction * std)"),
        ("coefficient / (2 * tail_fraction * std)", "coefficient / (2 * std)"),
        ("1 / tail_fraction - 2 * quadratic", "1 / tail_fraction - quadratic"),
        ("1 / tail_fraction - 2 * quadratic", "1 / tail_fraction + 2 * quadratic"),
        ("1 / tail_fraction - 2", "1 - 2"),
        ("quadratic.where(std > 0, 0.0)", "quadratic"),
        ("tail_fraction, ddof=ddof)", "tail_fraction)"),
        ("if center else advantages", "if not center else advantages"),
        ("deploy_n <= rollouts", "deploy_n < rollouts"),
        ("tail_size(rollouts, tail_fraction) < 2", "tail_size(rollouts, tail_fraction) < 1"),
        ("math.floor((1 + 1e-9) / tail_fraction) + 1", "math.floor(2 / tail_fraction)"),
    ),
    *group(
        "estimators/_prefixes.py",
        ("estimators/test_prefix_tea.py",),
        ("target[0] = 1.0", "target[-1] = 1.0"),
        ("max(sizes) / np.array(sizes", "1 / max(sizes) * np.array(sizes"),
        ("max(smallest, largest / num_prefixes)", "smallest"),
        ("math.floor(count + 0.5)", "math.floor(count)"),
        ("math.floor(tail_count / tail_fraction + 1e-9)", "math.ceil(tail_count / tail_fraction)"),
        ("return num_rollouts - 1 if", "return num_rollouts if"),
        ('{"in_sample": 2, "held_out": 8}', '{"in_sample": 2, "held_out": 2}'),
        ("if len(row) >= order:", "if row:"),
        ("_SMALLEST_TAIL[evaluation] + order - 1, ", "_SMALLEST_TAIL[evaluation] + order, "),
    ),
    *group(
        "estimators/prefix_tea.py",
        ("estimators/test_prefix_tea.py", "estimators/test_contract.py"),
        ("weight * counts[:, 0] / number", "weight / number"),
        ("counts - size\n", "size\n"),
        ("gather(1, order)[:, None, :] - shift", "gather(1, order)[:, None, :] - 2 * shift"),
        ("torch.where(behind < 0, behind + counts, behind)", "behind.abs()"),
        ("scored, 2 * rollouts)", "scored, 0)"),
        ("(size.to(short) - behind)", "(size.to(short) + 1 - behind)"),
        ("(k.to(short) - inside", "(k.to(short) - 1 - inside"),
        ("above * inside.to(torch.float64)", "above.clone()"),
        ("excess.sum(dim=2, keepdim=True) / k", "excess.sum(dim=2, keepdim=True) / size"),
        ("- k * mean * mean)", "- mean * mean)"),
        ("/ (k - ddof)", "/ k"),
        ("(linear * used + quadratic * used * excess)", "(linear + quadratic * excess)"),
        ("above * (1 - inside)", "above * inside"),
        ("max=shifts))", "max=1))"),
        ("descending=True)", "descending=False)"),
        (".where(~torch.isnan(relative), math.nan)", ""),
        ("if center else advantages", "if not center else advantages"),
    ),
    *group(
        "estimators/cvar.py",
        ("estimators/test_peers.py",),
        ("excess / tail_fraction", "excess"),
        (".clamp(min=0)", ""),
    ),
    *group(
        "estimators/bon_max_mean.py",
        ("estimators/test_peers.py",),
        ("gap * num_scored(rewards)", "gap"),
        ("/ best.sum(dim=1, keepdim=True)", ""),
        ("gap = -torch.nanmean", "gap = torch.nanmean"),
    ),
    *group(
        "estimators/bon_max_second.py",
        ("estimators/test_peers.py", "estimators/test_contract.py"),
        ("(relative - second) * n", "relative - second"),
        ("topk(2, dim=1)", "topk(1, dim=1)"),
        ("(relative == 0) & (n >= 2)", "relative == 0"),
    ),
    *group(
        "estimators/_ranks.py",
        ("estimators/test_peers.py",),
        ("xlogy(n - 1, quantile)", "xlogy(n, quantile)"),
        ("power + log_n", "power"),
        ('_count(rewards, side="left")', '_count(rewards, side="right")'),
        ('_count(rewards, side="right")\n\n\ndef _count', '_count(rewards, side="left")\n\n\ndef _count'),
    ),
    *group(
        "estimators/bon_rl.py",
        ("estimators/test_peers.py",),
        ("num_not_larger(relative) + 1)", "num_not_larger(relative))"),
        ("(2 * num_scored(rewards))", "(2 * num_scored(rewards) + 2)"),
        ("(relative - baseline)", "relative"),
        ("1 - success, budget", "success, budget"),
        ("weight * (values - success)", "weight * values"),
        ("torch.where(zero_or_one, exact, graded)", "graded"),
    ),
    *group(
        "estimators/cat_bon.py",
        ("estimators/test_peers.py",),
        ("(num_smaller(relative) + 1)", "num_smaller(relative)"),
        ("(num_scored(rewards) + 1)", "num_scored(rewards)"),
        (" + scored.sum().to(torch.float64).log()", ""),
    ),
    *group(
        "estimators/pass_at_k.py",
        ("estimators/test_peers.py",),
        ("binomial_ratio(failures - 1, k - 1, n - 1, k - 1)", "binomial_ratio(failures, k - 1, n, k - 1)"),
        ("all_fail * (1 - all_fail)", "all_fail"),
        ("others_fail.where(values == 0, 0.0)", "others_fail"),
    ),
    *group(
        "estimators/rs_grpo.py",
        ("estimators/test_peers.py",),
        ("- 1) / risk_beta", ") / risk_beta"),
        ("- 1) / risk_beta", "- 1)"),
        ("risk_beta * relative_rewards", "relative_rewards"),
        ("exponent - exponent.nan_to_num(nan=-math.inf).amax(dim=1, keepdim=True)", "exponent"),
    ),
    *group(
        "estimators/qae.py",
        ("estimators/test_peers.py",),
        ("torch.floor(quantile * n + 1e-9)", "torch.ceil(quantile * n - 1)"),
        ("(n - 1).clamp(min=1)", "n"),
        ("relative - ascending.gather(1, rank)", "relative"),
    ),
    *group(
        "estimators/ragged.py",
        ("estimators/test_ragged.py",),
        ("* (size[group].to(advantages.dtype) / columns)", ""),
        ("argsort(stable=True)", "argsort(descending=True, stable=True)"),
        ("size.cumsum(0) - size", "size.cumsum(0) * 0"),
        ("index_put((group,)", "index_put((group.flip(0),)"),
    ),
    *group(
        "estimators/__init__.py",
        ("estimators/test_bind.py",),
        ("if value is not None", "if True"),
        ("if p.default is p.empty and o not in given", "if False"),
        ("if option not in parameters:", "if False:"),
        ('given.pop("validate", None)', "pass"),
        ('if option != "validate"', ""),
    ),
    *group(
        "evaluation/intervals.py",
        ("evaluation/test_intervals.py",),
        ("stats.t.isf(tail, num_seeds - 1) ** 2 * of_seeds", "stats.t.isf(tail, num_seeds - 1) * of_seeds"),
        ("np.maximum(of_prompts - of_residual, 0.0)", "of_prompts * 0.0"),
    ),
    *group(
        "training/advantages.py",
        ("training/test_advantages.py",),
        ("rewards_per_func * weights", "rewards_per_func / weights"),
        (".all(dim=1)] = math.nan", ".any(dim=1)] = math.nan"),
        ("mean_square.sqrt()", "mean_square"),
        ('squares.mean(dim=1, keepdim=True) if scaling == "group"', 'squares.mean(dim=0) if scaling == "group"'),
        ("(rewards.shape[1] - unscored.sum(dim=1)) <", "unscored.sum(dim=1) <"),
    ),
    *group(
        "training/seam.py",
        ("training/test_seam.py",),
        ("self.accelerator.process_index * len(inputs)", "0 * len(inputs)"),
        ("advantages[start : start + len(inputs)]", "output['advantages']"),
        ("            self._rewrite_log(advantages)\n", ""),
    ),
    *group(
        "quickstart/task.py",
        ("quickstart/test_task.py",),
        ("part(tokens, row) ** 2", "part(tokens, row)"),
        ("2.0 * sum(a < b for a, b in pairs)", "2.0 * sum(a > b for a, b in pairs)"),
        ("words[::-1].index(last)", "words.index(last)"),
    ),
]
