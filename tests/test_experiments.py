"""The parts of the experiments' scripts that a conclusion rests on do what their READMEs say."""

import gzip
import importlib.util
import json
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tailgrad.estimators import bind
from tailgrad.grid import read_grid

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
SCRIPTS = [
    "quickstart/run.py",
    "first-real-run/run.py",
    "arena/run.py",
    "arena/paper_protocol.py",
    "off-policy/run.py",
    "off-policy/language_model.py",
]

pytestmark = pytest.mark.nightly


def load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_{Path(script).stem}", EXPERIMENTS / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_command_says_what_it_needs(script: str) -> None:
    command = [sys.executable, str(EXPERIMENTS / script)]
    assert "--out" in subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_both_estimators_are_tuned_with_equal_effort() -> None:
    run = load("quickstart/run.py")
    assert set(run.ESTIMATORS) == {"grpo", "tea"}
    assert len(run.LEARNING_RATES) >= 3
    assert len(run.KL_WEIGHTS) >= 2
    assert len(run.FINAL_SEEDS) >= 5
    assert not set(run.TUNING_SEEDS) & set(run.FINAL_SEEDS)
    rows = [
        {"estimator": name, "learning_rate": rate, "beta": beta, "v_n": rate * (1 - beta) * (-1) ** (name == "tea")}
        for name in run.ESTIMATORS
        for rate in run.LEARNING_RATES
        for beta in run.KL_WEIGHTS
    ]
    assert run.best_setting(rows, "grpo") == (1e-3, 0.02)
    assert run.best_setting(rows, "tea") == (1e-4, 0.1)


def test_the_grid_of_the_quickstart_starts_from_what_its_inputs_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inputs = load("quickstart/inputs.py")
    monkeypatch.setattr(inputs, "is_fitted", lambda folder: folder == tmp_path / "artifacts" / "base")
    inputs.make_inputs(tmp_path / "artifacts")
    (tmp_path / "artifacts" / "base").mkdir()
    for name in ("grid.yaml", "grid-twelve.yaml"):
        shutil.copy(EXPERIMENTS / "quickstart" / name, tmp_path)
        config = read_grid(tmp_path / name)
        named = [*config.policies.values(), *(path for of_set in config.prompts.values() for path in of_set.values())]
        assert all((tmp_path / path).exists() for path in named)
        assert {"grpo", "flat_tea"} < set(config.estimators)
        assert (len(config.learning_rates), len(config.seeds)) == (4, 5)


def test_zero_one_noise_finds_what_is_unbiased_to_be_so() -> None:
    """RLOO has the size of the derivative of p; pass_at_n with the right prior has that of pass@N, and more signal."""
    noise = load("zero-one/noise.py")
    prompts = noise.populations()[1]
    groups, p = noise.groups_of(8), prompts.rates
    rloo = noise.measure(prompts, 128, bind("rloo")(groups), bind("rloo")(groups) ** 2)
    truth = prompts.shares @ (128 * p * (1 - p) ** 128)
    assert rloo.size == pytest.approx(prompts.shares @ (p * (1 - p)) / truth, rel=1e-6)
    advantages = bind("pass_at_n", deploy_n=128, prior=(1.0, 9.0))(groups)
    ours = noise.measure(prompts, 128, advantages, advantages**2)
    assert ours.size == pytest.approx(1, rel=1e-3)
    assert rloo.direction < ours.direction < 1
    assert rloo.signal < ours.signal


def test_zero_one_learning_takes_the_gradient_of_log_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    learn = load("zero-one/learn.py")
    monkeypatch.setattr(learn, "PROMPTS", 6)
    task = learn.Task(2, seed=0)
    answers = torch.randint(learn.ANSWERS, (6, 4), generator=torch.Generator().manual_seed(0))
    advantages = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = torch.full((learn.FEATURES,), 0.1, dtype=torch.float64, requires_grad=True)
    (advantages * task.chances(weights).log().gather(1, answers)).mean().backward()
    found = learn.gradient(task.features, task.chances(weights.detach()), answers, advantages)
    torch.testing.assert_close(found, weights.grad)


def test_the_real_prompts_are_split_without_overlap(tmp_path: Path) -> None:
    prompts = load("first-real-run/make_prompts.py")
    words = [f"word{i}" for i in range(1200)]
    instructions = [f"Write about {w} and {w[::-1]} with the letters {i} and {i * 7}" for i, w in enumerate(words)]
    rows = [{"instruction": text, "input": "", "output": "An answer of a few words."} for text in instructions]
    rows += [row | {"instruction": row["instruction"].upper() + "!"} for row in rows[:300]]
    with gzip.open(tmp_path / "alpaca.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    prompts.make_prompts(tmp_path, tmp_path / "out", seed=0)

    def texts(name: str) -> list[str]:
        parts = (json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines())
        return [prompts.normalised(part["prompt"][0]["content"]) for part in parts]

    test, choose, rl, fit = (texts(name) for name in ("test", "choose", "rl", "fit"))
    assert (len(test), len(choose), len(rl)) == (96, 48, 640)
    assert len({*test, *choose, *rl, *fit}) == len(test) + len(choose) + len(rl) + len(fit) == 1200


def test_the_real_verifier_prefers_an_answer_to_ways_around_it() -> None:
    verifier = load("first-real-run/verifier.py")
    instruction = "Describe the taste of dark chocolate."
    responses = [
        "Dark chocolate has a bitter and intense taste, with a smooth texture that slowly leaves a sweet note.",
        instruction,
        "taste dark chocolate taste dark chocolate taste dark chocolate",
        "",
    ]
    rewards = verifier.score(completions=responses, instruction=[instruction] * 4)
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[0] > rewards[1] + 2.0
    assert rewards[3] == 0.0
    assert verifier.MAXIMUM == 10.0


def test_a_verifier_part_by_hand() -> None:
    verifier = load("first-real-run/verifier.py")
    parts = verifier.parts("Chocolate tastes bitter.", "Name three fruits.")
    # 3 words of 13 asked for; no function words; letters (9 + 6 + 6) / 3 = 7
    assert parts["length"] == pytest.approx(3 / 13)
    assert parts["wording"] == pytest.approx(4 / 7)
    assert parts["balance"] == pytest.approx(2.718281828459045 ** -((0.42 / 0.25) ** 2))
    assert (parts["novelty"], parts["variety"], parts["form"]) == (1.0, 1.0, 1.0)


def test_the_small_policies_v_n_is_exact() -> None:
    off_policy = load("off-policy/run.py")
    probabilities, rewards = torch.tensor([[[0.5, 0.2, 0.3]]]), torch.tensor([[[1.0, 3.0, 2.0]]])
    expected = sum(
        float(probabilities[0, 0, list(drawn)].prod() * rewards[0, 0, list(drawn)].max())
        for drawn in product(range(3), repeat=4)
    )
    assert off_policy.best_of(4, probabilities, rewards).tolist() == pytest.approx([expected])
