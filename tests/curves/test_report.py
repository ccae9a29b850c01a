import json

import matplotlib.image
import numpy as np
import pytest

from tailgrad.curves import Rollouts, best_of_n, compare, write_report
from tailgrad.curves.figures import _apart
from tailgrad.curves.tables import json_text, markdown_text


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    level = rng.normal(size=(20, 1))

    def run_of(name, shift, kl=None):
        return Rollouts(
            name=name,
            prompt_ids=np.arange(20),
            prompts=[f"prompt {number}" for number in range(20)],
            rewards=level + shift + 0.5 * rng.normal(size=(20, 16)),
            kl=kl,
            metadata={"sampling": {"temperature": 1.0}, "dataset": {"name": "sums"}},
        )

    return [run_of("base", 0.0), run_of("tea", 0.4, rng.random(20)), run_of("tea", 0.5, rng.random(20))]


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def cells(markdown, heading):
    """The cells of the first table after `heading`, header first, without the rule below it."""
    lines = markdown[markdown.index(heading) :].split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [rows[0], *rows[2:]]


def test_writes_a_figure_a_table_and_json(runs, tmp_path):
    comparison = write_report(runs, tmp_path / "new" / "report", m=4, deploy_n=16)
    folder = tmp_path / "new" / "report"
    assert sorted(path.name for path in folder.iterdir()) == [
        "curve.json",
        "curve.md",
        "curve.png",
        "curve.svg",
    ]
    assert (folder / "curve.json").read_text() == json_text(comparison)
    assert (folder / "curve.md").read_text() == markdown_text(comparison)
    image = matplotlib.image.imread(folder / "curve.png")
    assert image.shape[1] > image.shape[0] > 500
    assert image[..., :3].std() > 0.05
    assert (folder / "curve.svg").read_text().lstrip().startswith("<?xml")


def test_the_same_input_gives_the_same_files(runs, tmp_path):
    for name in ("first", "second"):
        write_report(runs, tmp_path / name, seed=3)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_json_holds_the_numbers(runs):
    comparison = compare(runs)
    document = strict(json_text(comparison))
    assert document["budgets"] == [1, 2, 4, 8, 16]
    assert (document["n"], document["prompts"], document["reference"]) == (16, 20, "base")
    base, tea = document["runs"]
    expected = best_of_n(runs[0].rewards, [1, 2, 4, 8, 16]).mean(axis=0)
    np.testing.assert_allclose([point["mean"] for point in base["v_n"]], expected, rtol=1e-12)
    assert [point["n"] for point in tea["difference"]] == [1, 2, 4, 8, 16]
    assert all(point["low"] < point["mean"] < point["high"] for point in tea["difference"])
    assert (base["seeds"], tea["seeds"], base["difference"]) == (1, 2, None)
    np.testing.assert_allclose(tea["measures"]["kl"]["mean"], np.mean([runs[1].kl, runs[2].kl]), rtol=1e-12)


def test_what_is_unknown_is_null_in_json_and_said_in_the_table(runs):
    rewards = runs[0].rewards.copy()
    rewards[3, 0] = np.nan
    rewards[7] = np.nan
    comparison = compare([runs[0].replace(rewards=rewards), runs[1]])
    assert [sorted(run["measures"]) for run in strict(json_text(comparison))["runs"]] == [
        ["unscored"],
        ["kl", "unscored"],
    ]
    markdown = markdown_text(comparison)
    assert cells(markdown, "Beside V_N")[:2] == [
        ["run", "seeds", "KL (nats)", "unscored"],
        ["base", "1", "unknown", "5.3%"],
    ]
    counted = ((1, 19), (2, 19), (4, 19), (8, 19), (16, 18))
    assert all(f"{budget} ({prompts})" in markdown for budget, prompts in counted)


def test_the_table_shows_the_numbers_of_the_json(runs):
    comparison = compare(runs)
    base, tea = strict(json_text(comparison))["runs"]
    values = cells(markdown_text(comparison), "Best-of-N")
    differences = cells(markdown_text(comparison), "Paired difference")
    assert values[0] == ["N", "base", "tea"]
    assert differences[0] == ["N", "tea - base"]
    for row, point in zip(values[1:], base["v_n"], strict=True):
        assert row[:2] == [str(point["n"]), "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**point)]
    for row, point in zip(differences[1:], tea["difference"], strict=True):
        star = " *" if point["low"] > 0 or point["high"] < 0 else ""
        assert row == [str(point["n"]), "{mean:+.2f} [{low:+.2f}, {high:+.2f}]".format(**point) + star]


def test_a_difference_beyond_noise_gets_a_star_and_one_within_gets_none(runs):
    equal = runs[0].replace(name="again", rewards=runs[0].rewards[:, ::-1] + 0.01 * (-1.0) ** np.arange(20)[:, None])
    lower = runs[0].replace(name="lower", rewards=runs[0].rewards - 1 + 0.1 * runs[1].rewards)
    rows = cells(markdown_text(compare([runs[0], equal, lower])), "Paired difference")[1:]
    assert all("*" not in again and lower.endswith("*") for _, again, lower in rows)


def test_one_prompt_has_no_interval_and_says_so(runs, tmp_path):
    run = runs[0]
    one = run.replace(prompt_ids=run.prompt_ids[:1], prompts=run.prompts[:1], rewards=run.rewards[:1])
    comparison = write_report([one, one.replace(name="same")], tmp_path)
    markdown = (tmp_path / "curve.md").read_text()
    assert "No intervals" in markdown
    assert cells(markdown, "Best-of-N")[1][1] == f"{run.rewards[0].mean():.3f}"
    point = strict((tmp_path / "curve.json").read_text())["runs"][0]["v_n"][0]
    assert (point["low"], point["high"]) == (None, None)
    assert np.isnan(comparison.curves[0].v_n.low).all()


def test_odd_names_and_single_responses_can_be_drawn(runs, tmp_path):
    single = [
        run.replace(name=f"{'long ' * 30}{run.name} | $x_{seed}$", rewards=run.rewards[:, :1])
        for seed, run in enumerate(runs)
    ]
    write_report(single, tmp_path)
    assert "base \\| $x_0$" in (tmp_path / "curve.md").read_text()


def test_nothing_is_written_for_runs_that_cannot_be_compared(runs, tmp_path):
    with pytest.raises(ValueError, match="sampled differently"):
        write_report([runs[0], runs[1].replace(metadata={"sampling": {"temperature": 0.5}})], tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("heights", [[0.97, 0.98, 0.99, 0.995], [0.0, 0.01, 0.02], [0.95] * 12])
def test_labels_stay_in_the_panel(heights):
    moved = _apart(heights)
    assert (np.diff(moved) > 0.05).all()
    assert min(moved) >= -0.02
    assert max(moved) <= 1.02


@pytest.mark.parametrize("heights", [[0.1, 0.5, 0.9], [0.5, 0.5, 0.5], [0.2, 0.21, 0.22, 0.8]])
def test_labels_are_apart_in_order_and_near_their_lines(heights):
    moved = _apart(heights)
    gaps = np.diff(moved)
    assert (gaps > 0.054).all()
    np.testing.assert_allclose(np.mean(moved), np.mean(heights), atol=1e-9)
    assert moved[-1] == heights[-1] or heights[-1] - heights[-2] < 0.055
