"""The page of the trainings says what the committed rows say."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from experiment_scripts import EXPERIMENTS, importing_scripts
from tailgrad.grid import read_grid
from tailgrad.grid.results import read_results


def test_the_page_has_the_tables_of_the_rows() -> None:
    with importing_scripts() as load:
        assert load("smollm2/rates").tables("graded") in (EXPERIMENTS / "smollm2" / "trainings.md").read_text()


@pytest.mark.parametrize(("name", "reward"), [("ifeval", "ifeval"), ("graded_kl", "graded")])
def test_the_page_has_the_tables_of_the_held_out_prompts_and_they_are_those_of_the_rows(name: str, reward: str) -> None:
    with importing_scripts() as load:
        text = load("smollm2/held_out").tables(name)
    assert text in (EXPERIMENTS / "smollm2" / f"{name}.md").read_text()
    rows = read_results(Path(read_grid(EXPERIMENTS / "smollm2" / f"{name}.yaml").results))
    measured: dict[tuple[str, str], list[np.ndarray]] = {}
    for row in rows:
        if row["scored_by"] == reward:
            values = dict(zip(row["budgets"], np.array(row["v_n"]).T, strict=True))
            measured.setdefault((row["estimator"], str(row["step"])), []).append([values[1].mean(), values[8].mean()])
    first = text.split("\n\n")[0].splitlines()[2:]
    assert len(first) == len(measured)
    for line in first:
        method, steps, seeds, v_1, v_8, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        of_seeds = measured["base" if method == "the start" else method, steps]
        assert seeds == ("" if method == "the start" else str(len(of_seeds)))
        assert v_1.startswith(f"{np.mean(of_seeds, axis=0)[0]:.3f} [")
        assert v_8.startswith(f"{np.mean(of_seeds, axis=0)[1]:.3f} [")


def test_a_line_has_the_means_of_its_row() -> None:
    config = read_grid(EXPERIMENTS / "smollm2" / "graded.yaml")
    rows = {
        (row["estimator"], row["learning_rate"]): row
        for row in read_results(Path(config.results))
        if row["split"] == "choose"
    }
    with importing_scripts() as load:
        lines = load("smollm2/rates").tables("graded").splitlines()
    values = {key: np.array(row["v_n"])[:, -1] for key, row in rows.items()}
    for (estimator, rate), row in rows.items():
        (line,) = [line for line in lines if line.split()[1:4:2] == [f"{rate:g}", estimator]]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[3].startswith(f"{values[estimator, rate].mean():.2f} [")
        assert cells[5].startswith(f"{np.mean(row['kl']):.1f} [")
        if estimator != "grpo":
            assert cells[4].startswith(f"{(values[estimator, rate] - values['grpo', rate]).mean():+.2f} [")


def test_the_row_that_is_made_again_is_one_of_the_grid() -> None:
    whole, row = (
        yaml.safe_load((EXPERIMENTS / "smollm2" / f"{name}.yaml").read_text()) for name in ("ifeval", "one_row")
    )
    assert row["train"].pop("max_steps") == whole["checkpoints"][0]
    del whole["train"]["max_steps"]
    assert row["estimators"] == [row["reference"]]
    assert row["test_n"] == whole["checkpoint_n"]
    assert row["m_and_n"] == [[whole["m_and_n"][0][0], row["test_n"]]]
    for name in ("results", "work", "estimators", "test_n", "m_and_n"):
        del row[name], whole[name]
    for name in ("checkpoints", "checkpoint_n", "also_score"):
        del whole[name]
    assert row == whole
    with importing_scripts() as load:
        found = load("smollm2/one_row").rows_of("ifeval")
    assert [(one["estimator"], one["step"]) for one in found] == [("base", 0), ("grpo", 30)]


def test_differences_are_of_the_seeds_that_both_methods_have() -> None:
    with importing_scripts() as load:
        table = (
            load("smollm2/held_out")
            .tables("graded_kl")
            .split("differences paired by prompt:")[1]
            .split("Seed by seed")[0]
        )
    rows = {
        (row["estimator"], row["seed"]): np.mean(np.array(row["v_n"])[:, -1])
        for row in read_results(Path(read_grid(EXPERIMENTS / "smollm2" / "graded_kl.yaml").results))
        if row["step"] == 60
    }
    for method in ("flat_tea", "tea"):
        (line,) = [line for line in table.splitlines() if line.startswith(f"| {method} - grpo ")]
        seeds = sorted(seed for name, seed in rows if name == method)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == str(len(seeds))
        assert cells[-1].startswith(f"{np.mean([rows[method, seed] - rows['grpo', seed] for seed in seeds]):+.3f} [")


def test_seed_by_seed_a_method_is_compared_with_the_reference_after_each_step() -> None:
    with importing_scripts() as load:
        table = load("smollm2/held_out").tables("graded_kl").split("Seed by seed")[1]
    rows = {
        (row["estimator"], row["step"], row["seed"]): row
        for row in read_results(Path(read_grid(EXPERIMENTS / "smollm2" / "graded_kl.yaml").results))
    }
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "flat_tea" in line]
    seeds = [seed for method, step, seed in rows if (method, step) == ("flat_tea", 60)]
    assert [seed for _, seed, *_ in lines] == [*map(str, seeds), f"all {len(seeds)}"] * 2
    for title, seed, _, _, at_32, at_128, kl in lines:
        step = int(title.removeprefix("flat_tea - grpo after "))
        of = seeds if seed.startswith("all") else [int(seed)]
        pairs = [(rows["flat_tea", 60, one], rows["grpo", step, one]) for one in of]
        gains = [[np.mean(np.array(row["v_n"])[:, row["budgets"].index(32)]) for row in pair] for pair in pairs]
        assert at_32.startswith(f"{np.mean([ours - theirs for ours, theirs in gains]):+.2f} [")
        assert (at_128 == "unknown") == (step == 30)
        assert kl.startswith(
            f"{np.mean([np.mean(ours['kl']) - np.mean(theirs['kl']) for ours, theirs in pairs]):+.2f} ["
        )
