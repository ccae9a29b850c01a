import json
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from reports import numbers_in, tables_of
from tailgrad.tails import TailDiagnosis, diagnose_tails, pareto_tail, write_tails
from tailgrad.tails.figures import gaussian_shape


@pytest.fixture(scope="module")
def diagnoses() -> dict[str, TailDiagnosis]:
    rng = np.random.default_rng(0)
    ragged = rng.uniform(size=(6, 64))
    ragged[0, 40:] = math.nan
    return {
        "base|1": diagnose_tails(rng.normal(size=(20, 64))),
        "ragged $": diagnose_tails(ragged),
        "one": diagnose_tails(rng.normal(size=(1, 64))),
        "constant": diagnose_tails(np.ones((4, 16))),
        "zeros and ones": diagnose_tails((rng.uniform(size=(8, 32)) < 0.1) * 1.0),
    }


@pytest.fixture(scope="module")
def written(diagnoses: dict[str, TailDiagnosis], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "new" / "report"
    prompts = {"base|1": [f"a long\n prompt | number {place} {'x' * 80}" for place in range(20)]}
    text = write_tails(diagnoses, folder, prompts=prompts)
    assert text == (folder / "tails.md").read_text()
    return folder


def test_every_table_has_its_answer_first_and_a_row_in_each_table(
    written: Path, diagnoses: dict[str, TailDiagnosis]
) -> None:
    text = (written / "tails.md").read_text()
    answers = text.split("\n\n")[1].splitlines()
    assert answers == [f"- {name}: {found.verdict.sentence}" for name, found in diagnoses.items()]
    lines, reach, atoms, worst = tables_of(text)
    names = [name.replace("|", "\\|") for name in diagnoses]
    assert [row[0] for row in lines[1:]] == [row[0] for row in atoms[1:]] == names
    assert list(dict.fromkeys(row[0] for row in reach[1:])) == names
    assert len(worst) == 1 + 5 + 5 + 1 + 5
    assert worst[1][1].startswith("a long prompt \\| number")
    assert len(worst[1][1]) < 65
    assert lines[2][:3] == ["ragged $", "6", "40 to 64"]
    assert lines[4][3:] == ["unknown"] * 5


def test_the_numbers_are_those_of_the_diagnosis(written: Path, diagnoses: dict[str, TailDiagnosis]) -> None:
    found = diagnoses["base|1"]
    lines, reach, atoms, _ = tables_of((written / "tails.md").read_text())
    shape = [part[0] for part in found.measures["shape"][:3]]
    assert numbers_in(lines[1][lines[0].index("shape")]) == pytest.approx(shape, abs=0.005)
    assert numbers_in(atoms[1][atoms[0].index("values")]) == [1280]
    (row,) = [row for row in reach if row[:3] == ["base\\|1", "64", "8"]]
    (test,) = [test for test in found.tests if (test.m, test.tail) == (8, "gaussian")]
    assert row[3] == test.cell


def test_of_a_chat_the_last_message_is_shown(diagnoses: dict[str, TailDiagnosis], tmp_path: Path) -> None:
    chat = json.dumps([{"role": "system", "content": "be kind"}, {"role": "user", "content": "name a prime"}])
    text = write_tails({"one": diagnoses["one"]}, tmp_path, prompts={"one": [chat]})
    assert tables_of(text)[-1][1][1] == "name a prime"


def test_the_json_is_strict_and_has_every_prompt(written: Path, diagnoses: dict[str, TailDiagnosis]) -> None:
    document = json.loads((written / "tails.json").read_text(), parse_constant=pytest.fail)
    assert [table["name"] for table in document["tables"]] == list(diagnoses)
    base, ragged, _, constant, _ = document["tables"]
    found = diagnoses["base|1"]
    assert base["by_prompt"]["shape"] == found.by_prompt["shape"].tolist()
    assert base["by_prompt"]["prompt"][3].startswith("a long\n prompt | number 3")
    assert base["measures"]["linearity"]["mean"] == found.measures["linearity"].mean[0]
    assert base["reach"][0] == found.tests[0]._asdict()
    assert base["verdict"] == found.verdict._asdict()
    assert ragged["by_prompt"]["prompt"] == list(range(6))
    assert ragged["by_prompt"]["scored"] == [40, *[64] * 5]
    assert constant["measures"]["shape"]["mean"] is None


def test_the_figure_has_a_row_for_each_table(
    written: Path, diagnoses: dict[str, TailDiagnosis], tmp_path: Path
) -> None:
    many = matplotlib.image.imread(written / "tails.png")
    write_tails({"base": diagnoses["base|1"]}, tmp_path)
    one = matplotlib.image.imread(tmp_path / "tails.png")
    assert many.shape[0] > 4 * one.shape[0] > 2000
    assert one[..., :3].std() > 0.05
    assert (tmp_path / "tails.svg").read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5])
def test_the_gaussians_shape_is_that_of_many_normal_rewards(alpha: float) -> None:
    normal = torch.randn(50, 20_000, dtype=torch.float64, generator=torch.manual_seed(0))
    found = pareto_tail(normal, tail_fraction=alpha)
    assert gaussian_shape(alpha) == pytest.approx(found.shape, abs=0.005 + 3 * found.shape_error)
