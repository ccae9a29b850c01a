"""Names of options may change, the keys of what was measured may not: the committed rows are found by today's files."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from tailgrad.grid import GridConfig, read_grid
from tailgrad.grid.results import read_results
from tailgrad.grid.trainings import bases, choosing, key_of, trials
from tailgrad.grid.trainings import testing as reported

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

# Of each file a starting policy, a choosing measurement where there is a choice, a training's test where there is one.
# Keys as version 0.1 made them:
OF_OLD = {
    "quickstart/grid.yaml": ("404946e8e226293d", "3eef4a9f3600b07b", "82aef7351ff0b84c"),
    "small-instruct/tier1.yaml": ("127643605c542b3d", "16659809c5f5eaa0", "1575336eea7df97d"),
    "small-instruct/tier2-large-batch.yaml": ("127643605c542b3d", "b0bc73940458966e", "1c06084e4bb83166"),
    "small-instruct/tier2-m16.yaml": ("5fc2cf17c4466a34", "7fc025778d5a57ab", "156f22fbf3c128e5"),
    "small-instruct/tier2-m32.yaml": ("5fc2cf17c4466a34", "91c997bd974d7277", "6a37143aaea961f5"),
    "small-instruct/tier2-reward-model-64.yaml": ("3a091a5988e90bd9", "bb729acec5be794f"),
    "small-instruct/tier2-reward-model-8.yaml": ("3a091a5988e90bd9", "ff88c8e3abbbd863"),
    "small-instruct/tier2-reward-model-near.yaml": ("a6930daefe4a6bf4", "3c6e8f5a23f5f385"),
    "small-instruct/tier2-reward-model.yaml": ("a6930daefe4a6bf4", "498d5275659bada2", "98cdf5b16f7ddc88"),
    "small-instruct/tier2-small-batch.yaml": ("127643605c542b3d", "4a0ec66c1fd7401b", "5130b2d5372f578b"),
    "small-instruct/tier2-tail-shapes.yaml": ("752947b772d7f689", "71011b8591a120a1", "59d5411d0efa7de5"),
    "small-instruct/tier3-lm-score-floored.yaml": ("1b28df0a37b986bd", "c82b92b75719971f", "2bcaa0886ab1466e"),
    "small-instruct/tier3-lm-score.yaml": ("c6bcd7d62a3a3504", "2af0e4c0b83cceb0", "03c56167dde40029"),
    "small-instruct/tier3-peers.yaml": ("127643605c542b3d", "69ed755799c8be1c", "1aadc8e2bc5adaeb"),
    "small-instruct/tier3-policy.yaml": ("62b3e04586cdf5e3", "5f2d27d6940ced2d", "51aeefff9874ea31"),
    "small-instruct/tier3-prompts.yaml": ("5a363e42d98824eb", "c5173f2e1f3dcf33", "1775ba71ec8a8fa6"),
}

# Keys of grids that were begun later, with today's names of options:
OF_TODAY = {
    "quickstart/grid-twelve.yaml": ("2af0158876bb2e8d", "8466bb67299ae356"),
    "small-instruct/flat-constraints.yaml": ("127643605c542b3d", "beedf4be5468ce6b", "277d0925413e50d6"),
    "small-instruct/flat-lm-score.yaml": ("f2b8e3fba8093213", "4ea035297c860a75"),
    "small-instruct/flat-reward-model.yaml": ("a6930daefe4a6bf4", "70a26af873dc9891"),
    "small-instruct/planned-lm-score.yaml": ("4660d138b87f1d26", "a436e3158436e7f4", "8900f1b19f84ca5d"),
    "small-instruct/planned-reward-model.yaml": ("3de697fe7d02b27a", "1c65b46667292640"),
    "small-instruct/planned-reward-model-m32.yaml": ("b45490edf60b0b70",),
    "smollm2/graded.yaml": ("b66828f2fd82149f", "5c5353c8b1d912f4"),
    "smollm2/graded_kl.yaml": ("b66828f2fd82149f", "0f41213b1fb9e7ea"),
    "smollm2/ifeval.yaml": ("16f43a1f8bb2dc88", "ae256edcbad735d1"),
}

KEYS = OF_OLD | OF_TODAY

# Rows that no file finds, by estimator and n, since their grid was changed after they were measured:
LOST: dict[str, dict[tuple[str, int], int]] = {
    # a learning rate, 3e-3, that was tried for two methods and left out
    "small-instruct/results/tier1.parquet": {("grpo", 128): 1, ("dr_grpo", 128): 1},
    # measured with choose_n: 256 and test_n: 128; and rs_grpo, which is scaled by group now, scaled by batch
    "quickstart/results/rows.parquet": {
        ("base", 128): 1,
        ("grpo", 256): 4,
        ("max_at_k:k=4,baseline=loo", 256): 4,
        ("rs_grpo:risk_beta=1,units=spread", 128): 4,
    },
}


def keys_of(config: GridConfig) -> set[str]:
    """The keys of all that a grid may measure, whichever trials it chooses."""
    tried = trials(config)
    tests = [replace(training, seed=seed) for training in tried for seed in config.seeds]
    found = {key_of(config, training, one) for training in tried for one in choosing(config, training)}
    return found | {
        key_of(config, training, one) for training in bases(config) + tests for one in reported(config, training)
    }


@pytest.mark.parametrize("name", KEYS)
def test_the_rows_of_an_experiment_are_found_by_its_file(name: str) -> None:
    config = read_grid(EXPERIMENTS / name)
    assert set(KEYS[name]) <= keys_of(config)
    assert set(KEYS[name]) <= {row["key"] for row in read_results(config.results)}


def test_every_grid_of_the_experiments_is_looked_at() -> None:
    """Once it has a row that is kept."""
    grids = {str(path.relative_to(EXPERIMENTS)): read_grid(path) for path in EXPERIMENTS.rglob("*.yaml")}
    kept = {name: Path(one.results) for name, one in grids.items() if "artifacts" not in Path(one.results).parts}
    assert set(KEYS) == {name for name, results in kept.items() if results.exists()}


def test_every_row_is_found_by_a_file_but_for_those_whose_grid_was_changed() -> None:
    found: defaultdict[Path, set[str]] = defaultdict(set)  # two files may share a table
    for name in KEYS:
        config = read_grid(EXPERIMENTS / name)
        found[config.results] |= keys_of(config)
    lost = {
        str(path.relative_to(EXPERIMENTS)): Counter(
            (row["estimator"], row["n"]) for row in read_results(path) if row["key"] not in keys
        )
        for path, keys in found.items()
    }
    assert {name: counts for name, counts in lost.items() if counts} == LOST
