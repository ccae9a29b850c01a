"""Breaks formulas one at a time and sees a test go red: `python tests/mutations.py [part of a name]`.

Each mutation replaces one piece of text in a temporary copy of the package, never in the working tree, and
runs the test files named beside it. One that no test notices is printed as SURVIVED, and the exit code is 1.
"""

import os
import shutil
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import beartype  # noqa: F401  (loaded once, before the forks)
import pytest
import scipy.stats  # noqa: F401
import torch  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tailgrad"

# Loaded by pytest before anything else: the copy, not the installed package, must be what is imported.
GUARD = """
import importlib.util
from pathlib import Path
origin = importlib.util.find_spec("tailgrad").origin
assert Path(origin).is_relative_to(Path(__file__).parent), f"tailgrad would be imported from {origin}"
"""


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
        ("estimators/test_prefix_tea.py",),  # the old way, whose mean of equal rewards may round
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
        ("check_rewards(rewards)\n", "pass\n"),
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
        ("(n * gaps * _binomial", "(gaps * _binomial"),
        ("_binomial_ratio(below, k - 1, n, k)", "_binomial_ratio(below, k - 1, n, k - 1)"),
        ("rank - 1, k - 1, n - 1, k - 1", "rank, k - 1, n - 1, k - 1"),
        ("rank - 2, k - 2, n - 1, k - 1", "rank - 1, k - 2, n - 1, k - 1"),
        ("return own + above", "return own - above"),
        (
            "above = _binomial_ratio(rank - 2, k - 1, n - 1, k)",
            "above = _binomial_ratio(rank - 1, k - 1, n - 1, k)",
        ),
        ("return below - own +", "return below +"),
        ("k * (_best_with_own(ascending, n, k) + largest)", "k * _best_with_own(ascending, n, k)"),
        (
            "k * (_best_with_own(ascending, n, k) - _best",
            "k / (k + 1) * (_best_with_own(ascending, n, k) - _best",
        ),
        ("values.where(n >= needed, 0.0)", "values"),
        ('k + 1 if baseline == "loo" or', "k + 1 if"),
        ("torch.lgamma(n + 1) - math.lgamma(k + 1)", "torch.lgamma(n + 1)"),
    ),
    *group(
        "estimators/tea.py",
        ("estimators/test_tea.py",),
        ("(rewards - threshold).clamp(min=0)", "rewards - threshold"),
        ("(excess - 2 * (mean - threshold))", "(excess - (mean - threshold))"),
        ("(excess - 2 * (mean - threshold))", "(excess + 2 * (mean - threshold))"),
        ("(excess + coefficient / (2 * std)", "(excess + coefficient / std"),
        ("(excess + coefficient", "(excess - coefficient"),
        ("* widening) / tail_fraction", "* widening)"),
        (".where(std > 0, 0.0)", ".clone()"),
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
        ("estimators/test_prefix_tea.py",),
        ("weights * counts / num_evaluated", "weights / num_evaluated"),
        ("else counts - sizes", "else sizes"),
        ("(position + shift)", "(position + 2 * shift)"),
        ("_rotate(combined, -shift, counts)", "_rotate(combined, shift, counts)"),
        ('inside if evaluation == "in_sample" else ~inside', "inside"),
        ("shifted.where(inside, torch.nan)", "shifted"),
        ("device=shifted.device) < size", "device=shifted.device) <= size"),
        ("clamp(min=1, max=shift.shape[0])", "clamp(min=1)"),
        ("coefficient.repeat_interleave(shifts)", "coefficient.repeat(shifts)"),
        ("if center else advantages", "if not center else advantages"),
    ),
    *group(
        "estimators/prefix_tea.py",
        ("estimators/test_contract.py",),
        ("argsort(dim=1, stable=True)", "argsort(dim=1, descending=True, stable=True)"),
        (".where(used, 0.0)", ""),
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
        "evaluation/best_of_n.py",
        ("evaluation/test_best_of_n.py",),
        ("[[budget / n]", "[[1 / n]"),
        ("(rank - budget) / (rank - 1)", "(rank - budget) / rank"),
        ("ordered[prompts, budget - 1 : count] @ weights", "ordered[prompts, budget - 1 : count] @ weights[::-1]"),
        ("if budget <= count:", "if budget < count:"),
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


def faults() -> list[str]:
    """Mutations whose text does not stand in its file exactly once, or whose tests do not exist."""
    found = []
    for mutation in MUTATIONS:
        count = (PACKAGE / mutation.file).read_text().count(mutation.old)
        if count != 1:
            found.append(f"{mutation}: the text stands there {count} times")
        found += [f"{mutation}: no tests/{test}" for test in mutation.tests if not (ROOT / "tests" / test).exists()]
    return found


def run_tests(copy: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run test files against the copy of the package: pytest's exit code and its output.

    In a fork of this process, which has loaded the slow imports but not the package.
    """
    output = copy / "output.txt"
    child = os.fork()
    if child == 0:
        code = 3  # pytest's own "internal error", unless pytest returns another
        try:
            os.chdir(ROOT)
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(copy))
            os.environ["PYTHONPATH"] = str(copy)  # for the processes that tests start
            with output.open("w") as stream, redirect_stdout(stream), redirect_stderr(stream):
                files = [f"tests/{test}" for test in tests]
                code = int(pytest.main(["-x", "-q", "-p", "guard", "-p", "no:cacheprovider", *files]))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), output.read_text()


def killer(output: str) -> str:
    """The first test that failed."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].split(" - ")[0] if lines else "(no test named)"


def survives(copy: Path, mutation: Mutation) -> bool:
    """Apply one mutation to the copy, run its tests, put the copy back."""
    path = copy / "tailgrad" / mutation.file
    original = path.read_text()
    path.write_text(original.replace(mutation.old, mutation.new))
    start = time.monotonic()
    code, output = run_tests(copy, mutation.tests)
    path.write_text(original)
    survived = code not in (1, 2)  # 1: a test failed, 2: the module does not even import
    verdict = "SURVIVED" if survived else "killed"
    reason = output[-2000:] if survived else killer(output)
    print(f"{verdict:8} {time.monotonic() - start:4.0f} s  {mutation}  {reason}", flush=True)
    return survived


def main(selection: str = "") -> int:
    """Run the mutations whose name contains `selection`; 1 if one survives."""
    if problems := faults():
        print("\n".join(problems))
        return 1
    chosen = [mutation for mutation in MUTATIONS if selection in str(mutation)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(PACKAGE, copy / "tailgrad", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "guard.py").write_text(GUARD)
        code, output = run_tests(copy, tuple(sorted({test for mutation in chosen for test in mutation.tests})))
        if code != 0:
            print(f"the tests fail without any mutation:\n{output}")
            return 1
        survivors = [mutation for mutation in chosen if survives(copy, mutation)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
