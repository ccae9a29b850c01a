"""The parts of the arena that its conclusions rest on, and the whole of it at a tiny size."""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from experiment_scripts import importing_scripts
from tailgrad.estimators import bind, smallest_group
from tailgrad.estimators import parse_estimator as parse

FOLDER = Path(__file__).resolve().parent.parent / "experiments" / "arena"
NAMES = ("settings", "shapes", "bandit", "sequence", "training", "contenders", "selection", "rows", "leaderboard")

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """Its scripts, which import one another by their bare names."""
    with importing_scripts() as load:
        yield {name: load(f"arena/{name}") for name in (*NAMES, "report", "run", "paper_protocol")}


@pytest.fixture
def small(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Tiny worlds."""
    monkeypatch.setattr(modules["bandit"], "RESPONSES", 64)
    monkeypatch.setattr(modules["bandit"], "PROMPTS", {"train": 4, "choose": 3, "report": 3})
    monkeypatch.setattr(modules["sequence"], "PROMPTS", {"train": 4, "choose": 3, "report": 3})
    monkeypatch.setattr(modules["sequence"], "SAMPLES", 32)
    return modules


def setting(modules: dict[str, ModuleType], **changes: object) -> object:
    plain = modules["settings"].Setting("plain", "bandit", "gaussian", 4, 2, 8, spread=0.5, scale_sd=0.5)
    return replace(plain, **changes)


def test_settings_are_split_into_like_halves(modules: dict[str, ModuleType]) -> None:
    settings = modules["settings"].all_settings()
    assert len({one.name for one in settings}) == len({one.seed for one in settings}) == len(settings)
    for world, binary in itertools.product(("bandit", "sequence"), (False, True)):
        halves = [one.part for one in settings if one.world == world and (one.shape == "success") == binary]
        assert abs(halves.count("choosing") - halves.count("reporting")) <= 1
    bandits = [one for one in settings if one.world == "bandit"]
    assert {min(one.m * one.batch for one in bandits), max(one.m * one.batch for one in bandits)} == {128, 4096}
    train = modules["bandit"].PROMPTS["train"], modules["sequence"].PROMPTS["train"]
    assert all(max(train) % one.batch == 0 or one.batch % max(train) == 0 for one in settings)
    assert all(one.deploy_n >= 2 * one.m for one in settings)


def test_every_contender_has_the_same_effort_and_can_train(modules: dict[str, ModuleType]) -> None:
    for one in modules["settings"].all_settings():
        schedule = modules["training"].schedule_of(one)
        assert schedule.seeds >= 5
        assert (len(schedule.learning_rates), len(schedule.kl_weights)) == (4, 2)
        contenders = modules["contenders"].contenders_of(one)
        assert {"grpo", "max@2", "max@m", "flat", modules["contenders"].DEFAULT} <= set(contenders)
        plain = [parse(text.removeprefix("leave_two_out ")) for text, _ in contenders.values()]
        assert all(smallest_group(name, **options) <= one.m for name, options in plain)


@pytest.mark.parametrize(
    "shape", ["gaussian", "exponential", "skewed_left", "uniform", "student_t3", "mixture", "tied"]
)
def test_shapes_are_monotone_and_standardised(modules: dict[str, ModuleType], shape: str) -> None:
    drawn = np.sort(np.random.default_rng(0).standard_normal(200_000))
    bent = modules["shapes"].bend(shape, drawn)
    assert (np.diff(bent) >= 0).all()
    assert bent.mean() == pytest.approx(0.0, abs=0.02)
    assert bent.std() == pytest.approx(1.0, abs=0.05)


def test_best_of_is_that_of_every_pair(modules: dict[str, ModuleType]) -> None:
    p, rewards = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.tensor([-1.0, 2.0, 2.5], dtype=torch.float64)
    by_pair = sum(p[i] * p[j] * max(rewards[i], rewards[j]) for i in range(3) for j in range(3))
    found = modules["bandit"].best_of(p.cumsum(0), rewards, (1, 2))
    torch.testing.assert_close(found, torch.stack([p @ rewards, by_pair]))


def test_a_bandits_gradient_is_that_of_its_objective(small: dict[str, ModuleType]) -> None:
    world = small["bandit"].Bandit(setting(small))
    parameters = 0.3 * torch.randn(2, world.size, generator=torch.Generator().manual_seed(0))
    drawn = world.rollouts(parameters, 1, torch.rand(2, 2, 4, 1, generator=torch.Generator().manual_seed(1)))
    advantages = bind("rloo")(drawn.rewards.reshape(4, 4)).view(2, 2, 4)
    kl_weight = torch.tensor([0.0, 0.7])
    moved = parameters.clone().requires_grad_()
    logits = torch.einsum("sd,bad->sba", moved, world.features[drawn.at]) + world.log_base
    log_p = logits.log_softmax(2)
    kl = (log_p.exp() * (log_p - world.log_base)).sum(2)
    gain = (advantages * log_p.gather(2, drawn.taken.transpose(0, 1))).mean((1, 2)) - kl_weight * kl.mean(1)
    (wanted,) = torch.autograd.grad(gain.sum(), moved)
    torch.testing.assert_close(world.gradient(drawn, advantages, kl_weight), wanted, atol=1e-5, rtol=1e-4)


def test_a_sequences_kl_and_log_probability_agree(small: dict[str, ModuleType]) -> None:
    world = small["sequence"].Sequences(setting(small, world="sequence", batch=4))
    assert world.measure(world.start(1), (1,))[0].abs().max() < 1e-5
    noise = torch.randn(1, world.size, generator=torch.Generator().manual_seed(2))
    policies = [world.start(1), world.start(1) + 0.1 * noise]
    numbers = torch.rand(1, 4, 3000, world.draws, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        written = world._write(policies[1], slice(4), numbers)
    again = [small["sequence"]._Policy(one, world.context[:4]) for one in policies]
    ratios = torch.zeros(1, 4 * 3000)
    last = before = torch.full((1, 4 * 3000), small["sequence"].TOKENS)
    for place, taken in enumerate(written.tokens.flatten(1, 2).unbind(2)):
        logs = [one.logits(place, last, before, 3000).log_softmax(2).gather(2, taken[..., None]) for one in again]
        ratios += (logs[1] - logs[0]).squeeze(2)
        last, before = taken, last
    error = 4 * float(ratios.std()) / len(ratios[0]) ** 0.5
    assert float(ratios.mean()) == pytest.approx(float(written.kl.mean()), abs=error)
    assert float(written.kl.mean()) > 10 * error


def test_runs_side_by_side_do_not_touch_each_other(small: dict[str, ModuleType]) -> None:
    training, one = small["training"], setting(small)
    for scaling in ("none", "group", "batch"):
        advantages = training.advantages_of("max_at_k:k=2", scaling)
        schedule = training.Schedule(1, (0.01, 0.1), (0.0, 0.5), (0, 3), scaling)
        kl, values = training.train(small["bandit"].Bandit(one), one, advantages, schedule, (1, 8))
        alone = replace(schedule, learning_rates=(0.1,), kl_weights=(0.5,))
        kl_alone, values_alone = training.train(small["bandit"].Bandit(one), one, advantages, alone, (1, 8))
        np.testing.assert_allclose(kl[:, 3], kl_alone[:, 0], atol=1e-3)
        np.testing.assert_allclose(values[:, 3], values_alone[:, 0], atol=1e-3)
        assert kl[0, 3, 1].mean() > kl[0, 1, 1].mean() > 0


def test_what_is_chosen_is_chosen_on_the_choosing_prompts(modules: dict[str, ModuleType]) -> None:
    kl = np.array([[[0.0, 1.0, 4.0], [0.0, 1.0, 9.0]]])
    v_choose = np.array([[[0.0, 2.0, 3.0], [0.0, 1.0, 9.0]]])[..., None]
    trace = modules["selection"].Trace(kl, kl, v_choose, -v_choose)
    steps, within = modules["selection"].at_equal_steps(trace), modules["selection"].within_kl(trace, 4.0)
    assert (steps.pair, steps.kl, steps.values.tolist()) == (1, 9.0, [[-9.0]])
    assert (within.pair, within.kl, within.values.tolist()) == (1, 4.0, [[-5.0]])  # half way from 1 to 9 in sqrt(KL)
    assert modules["selection"].within_kl(trace, 1.0).values.tolist() == [[-2.0]]
    assert modules["selection"].within_kl(trace, 0.5).pair == 0


def test_the_whole_arena_at_a_tiny_size(
    small: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = [
        setting(small, name="00-bandit-gaussian-m4-N8", part="choosing"),
        setting(small, name="01-bandit-success-m4-N8", part="reporting", shape="success"),
        setting(small, name="02-sequence-tied-m4-N8", part="reporting", world="sequence", shape="tied"),
    ]
    schedule = small["training"].Schedule(2, (0.02, 0.1), (0.0, 0.1), (0, 2, 4))
    for module in ("run", "rows"):
        monkeypatch.setattr(small[module], "schedule_of", lambda _: schedule)
    monkeypatch.setattr(small["run"], "all_settings", lambda: plain)
    asked = ["grpo", "max@2", "max@m", "flat", small["contenders"].DEFAULT]
    command = ["run.py", "--out", str(tmp_path / "out"), "--traces", str(tmp_path / "traces")]
    monkeypatch.setattr(sys, "argv", [*command, "--contenders", *asked])
    small["run"].main()
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made >= {"chosen.parquet", "paths.parquet", "settings.json", "leaderboard.md", "overview.png", "paths.png"}
    table = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "Reporting settings, sequences, graded rewards: equal KL (1 settings)" in table
    monkeypatch.setattr(sys, "argv", [*command[:3], "--report_only"])
    small["run"].main()
    assert (tmp_path / "out" / "leaderboard.md").read_text() == table
    results = small["leaderboard"].read_results(tmp_path / "out")
    assert results.reference(plain[0].name, "KL 1", "best max@k") in ("max@2", "max@m")
    assert set(results.against(plain[0].name, "KL 1", "grpo")) == {
        *asked,
        "max@m/2",
        "best max@k",
        "best flat",
    }  # m / 2 = 2


def test_the_papers_protocol_at_a_tiny_size(small: dict[str, ModuleType], tmp_path: Path) -> None:
    paper, one = small["paper_protocol"], setting(small, name="paper", world="sequence")
    schedule = replace(paper.SCHEDULE, seeds=2, snapshots=(0, 2))
    small["training"].train_missing(tmp_path, one, paper.competitors(one), schedule)
    table = paper.protocol_table(one, tmp_path)
    assert table.count("| grpo ") == len(schedule.kl_weights)
    assert {scaling for _, scaling in paper.competitors(one).values()} == {"none"}


def test_the_default_is_the_best_of_the_choosing_settings(modules: dict[str, ModuleType]) -> None:
    results = modules["leaderboard"].read_results(FOLDER / "results")
    graded = modules["report"].settings_of(results, "choosing", None, False)
    assert len(graded) == 24
    scores = modules["leaderboard"].scores(results, graded)
    assert f"{scores[modules['contenders'].DEFAULT][0]:+.1f}" == "+14.0"  # as the page says
    fixed = [name for name in scores if not name.startswith("best ")]
    assert fixed[0] == modules["contenders"].DEFAULT
