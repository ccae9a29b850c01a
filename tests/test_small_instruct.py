"""The parts of the small instruct experiment that its conclusions rest on."""

import json
import random
from collections.abc import Iterator
from itertools import accumulate, chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from experiment_scripts import importing_scripts
from tailgrad.fidelity import gradient_fidelity
from tailgrad.grid import read_grid
from tailgrad.tails import upper_tail_qq

FOLDER = Path(__file__).resolve().parent.parent / "experiments" / "small-instruct"
ANSWERS = [
    "The sun rises slowly over silent mountains. Birds sing!",
    "When was it? It was in 1999, in the summer.",
    "Peter Piper picked a peck of pickled peppers.",
]

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """Its scripts, which import one another by their bare names."""
    names = ("constraints", "hub_data", "prompts", "policy", "lm_score", "tail_shapes", "tails", "run", "fidelity")
    with importing_scripts() as load:
        yield {name: load(f"small-instruct/{name}") for name in names}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_meets_the_constraints_made_of_it(modules: dict[str, ModuleType], answer: str) -> None:
    constraints = modules["constraints"]
    seen = set()
    for seed in range(30):
        checks = constraints.hindsight_checks(random.Random(seed), answer, {"silent", "mountains", "summer", "picked"})
        grades = constraints.grades(answer, checks)
        exact = {kind for kind in grades if kind not in ("letter", "long")}
        assert all(grades[kind] == 1.0 for kind in exact), grades
        seen |= set(grades)
    assert {"length", "start", "sentences"} <= seen


def test_grades_are_what_their_table_says(modules: dict[str, ModuleType]) -> None:
    constraints = modules["constraints"]
    response = "Big bears eat berries. Do they?"  # 6 words, 2 sentences, 3 of 6 begin with b
    checks = {"length": 8, "mention": ["bears", "eat"], "start": "Big", "letter": "b", "long": None, "sentences": 3}
    grades = constraints.grades(response, checks)
    mean_letters = (3 + 5 + 3 + 7 + 2 + 4) / 6
    expected = {"length": 6 / 8, "mention": 1.0, "start": 1.0, "letter": 1.0, "long": (mean_letters - 3) / 4}
    assert grades == pytest.approx(expected | {"sentences": 1 / 2})
    assert constraints.reward_of(response, checks) == pytest.approx(10 * sum(grades.values()) / 6)
    # ^b bi ig g$ against ^b be ea ar rs s$: one of 4 + 6 pairs is shared
    assert constraints.overlap("big", "bears") == pytest.approx(2 * 1 / (4 + 6))
    assert constraints.score([[{"content": "?!"}]], [json.dumps(checks)]) == [0.0]


def test_bent_rewards_keep_the_order_and_have_the_tails_they_are_named_for(modules: dict[str, ModuleType]) -> None:
    constraints, shapes = modules["constraints"], modules["tail_shapes"]
    checks = json.dumps({"length": 6, "mention": ["summer", "picked"], "long": None})
    given = ([[{"role": "assistant", "content": answer}] for answer in ANSWERS], [checks] * len(ANSWERS))
    scores = constraints.score(*given)
    assert len(set(scores)) == len(ANSWERS)
    heavy, light = shapes.heavy(*given), shapes.light(*given)
    np.testing.assert_allclose(np.log(heavy), np.array(scores) - 5)
    np.testing.assert_allclose(-np.log(-np.array(light)), np.array(scores) - 5)
    normal = np.random.default_rng(0).normal(5, 0.8, (32, 512))
    slopes = [
        modules["tails"].slope(upper_tail_qq(rewards, tail_fraction=0.25))
        for rewards in (shapes.bent_down(normal), normal, shapes.bent_up(normal))
    ]
    assert slopes[0] < 0.8 < 0.9 < slopes[1] < 1.1 < 1.3 < slopes[2]


def test_the_figure_of_fidelity_has_every_estimator_once(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    fidelity = modules["fidelity"]
    rewards = np.random.default_rng(0).normal(size=(4, 512))
    asked = {"estimators": fidelity.ESTIMATORS, "m": fidelity.ROLLOUTS, "deploy_n": fidelity.BUDGETS}
    found = {"one": gradient_fidelity(rewards, rewards[:, :, None], **asked)}
    assert [point.estimator for point in fidelity.shown(found["one"])] == fidelity.ESTIMATORS
    fidelity.draw(found, tmp_path / "fidelity")
    drawn = (tmp_path / "fidelity.svg").read_text()
    assert all(drawn.count(f"<!-- {name} -->") == 1 for name in fidelity.ESTIMATORS)


def test_rewards_of_a_policy_that_is_not_there_are_left_out(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = modules["run"]
    monkeypatch.setattr(run, "OUT", tmp_path)
    chains = [[job.name for job in chain] for chain in run.base_rollouts(["small"])]
    assert len(chains) == len(run.SETS)
    assert not any("lm-score" in name for names in chains for name in names)
    (tmp_path / "policies" / "large").mkdir(parents=True)
    (tmp_path / "policies" / "large" / "fit.json").touch()
    assert sum("lm-score" in job.name for chain in run.base_rollouts(["small"]) for job in chain) == len(run.SETS)


def test_the_responses_are_sampled_once_and_scored_by_every_reward(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    tables = {label: tmp_path / f"{label}.parquet" for label in modules["run"].REWARDS}
    jobs = list(modules["run"].rollouts("small", "hh", tables, n=8, limit=2))
    assert [job.argv[0] for job in jobs] == ["sample", *["score"] * (len(tables) - 1)]
    for job, (label, path) in zip(jobs, tables.items(), strict=True):
        words = job.argv[1 if job.argv[0] == "sample" else 2 :]
        given = dict(zip(words[::2], words[1::2], strict=True))
        assert given["--reward_funcs"] == str(modules["run"].REWARDS[label])
        assert given["--out"] == str(path)
        assert (given["--out"] if job.argv[0] == "sample" else job.argv[1]) == str(tables["constraints"])
        expected = {"--n": "8", "--limit": "2"} if job.argv[0] == "sample" else {"--selection": "reward"}
        assert expected.items() <= given.items()
    tables["constraints"].touch()
    jobs = list(modules["run"].rollouts("small", "hh", tables, n=8, limit=2))
    assert [job.argv[0] for job in jobs] == ["score"] * (len(tables) - 1)


def test_the_sentences_say_the_constraints(modules: dict[str, ModuleType]) -> None:
    constraints = modules["constraints"]
    asked = constraints.asked_prompt("Name a fruit", {"length": 6, "mention": ["red", "sun"], "sentences": 1})
    assert asked == "Name a fruit. Use 6 words. Use the words red and sun. Write 1 sentence."
    assert constraints.asked_prompt("Name a fruit", {}) == "Name a fruit"


def test_answers_are_cut_at_whole_sentences(modules: dict[str, ModuleType]) -> None:
    cut = modules["prompts"].first_sentences
    assert cut("One two. Three four five. Six.", 5) == "One two. Three four five."
    assert cut("One two three four.", 3) == ""
    assert cut("First line\nsecond line", 9) == "First line"


def test_the_words_to_mention_do_not_depend_on_the_order_of_sets(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = modules["prompts"]
    monkeypatch.setattr(prompts, "MENTIONED", slice(1, 4))
    rows = [{"answer": "river river cloud"}, {"answer": "cloud stone"}, {"answer": "apple stone mountainous the tree"}]
    # in answers: cloud and stone 2; apple, river and tree 1; of the others one is too long and one a function word
    assert prompts.frequent_words(rows) == prompts.frequent_words(rows[::-1]) == ["stone", "apple", "river"]


def test_no_part_of_a_prompt_set_nearly_repeats_a_held_out_prompt(modules: dict[str, ModuleType]) -> None:
    prompts = modules["prompts"]
    rows = [{"instruction": f"Say item{i} and thing{i} with care"} for i in range(60)]
    rows += [{"instruction": row["instruction"] + "!"} for row in rows[:30]]
    parts = prompts.split(rows, random.Random(0), {"test": 10, "choose": 10, "train": 100})
    normal = {name: {prompts.normalised(row["instruction"]) for row in part} for name, part in parts.items()}
    assert len(parts["test"]) == len(parts["choose"]) == 10
    assert not normal["test"] & (normal["choose"] | normal["train"])
    assert not normal["choose"] & normal["train"]


def test_windows_hold_whole_chats_and_lose_none(modules: dict[str, ModuleType]) -> None:
    policy = modules["policy"]
    tokenizer = policy.new_tokenizer(ANSWERS, 300)
    rows = [
        {
            "prompt": [{"role": "user", "content": "a b " * i}],
            "completion": [{"role": "assistant", "content": "c " * i}],
        }
        for i in range(1, 12)
    ]
    windows = list(policy.chat_windows(rows, tokenizer))
    chats = [tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"] for row in rows]
    assert list(chain(*windows)) == list(chain(*chats))
    assert all(len(window) <= policy.WINDOW for window in windows)
    assert set(accumulate(map(len, windows))) <= set(accumulate(map(len, chats)))


def test_the_score_is_the_information_that_the_prompt_gives(modules: dict[str, ModuleType]) -> None:
    score, tokenizer = modules["lm_score"], modules["policy"].new_tokenizer(ANSWERS, 300)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes)).eval()
    prompt, response = [{"role": "user", "content": "one two"}], "three"

    def log_probability(messages: list[dict[str, str]]) -> float:
        given = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        answer = [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]
        logits = model(torch.tensor([given + answer])).logits[0].double().log_softmax(-1)
        return sum(logits[len(given) - 1 + i, token].item() for i, token in enumerate(answer))

    tokens = len(tokenizer(response)["input_ids"]) + 1
    expected = (log_probability(prompt) - log_probability(score.EMPTY)) / tokens
    found = score.gain(model, tokenizer, [prompt, score.EMPTY], [response, response])
    np.testing.assert_allclose(found, [expected, 0.0], atol=1e-5)
    assert abs(expected) > 1e-3
    floored = [score.gain(model, tokenizer, [prompt], [response], floor)[0] for floor in (tokens, tokens + 1, 100)]
    np.testing.assert_allclose(
        floored, [expected, expected * tokens / (tokens + 1), expected * tokens / 100], atol=1e-5
    )


def test_hub_data_sets_make_the_data_folder(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    first, second = "\n\nHuman: Which tea?", "\n\nHuman: And cakes?"
    rows = {
        "alpaca": [{"instruction": "Name a tea", "input": "", "output": "Green.", "text": "all of it"}],
        "dolly": [
            {"instruction": "Why?", "context": given, "response": "So.", "category": "qa"} for given in ("", "Long.")
        ],
        "hh/helpful-base": [
            {
                "chosen": f"{first}\n\nAssistant: Green.{second}\n\nAssistant: Yes.",
                "rejected": f"{first}\n\nAssistant: Green.{second}\n\nAssistant: No.",
            },
            {"chosen": f"{first}\n\nAssistant: Green.", "rejected": f"{second}\n\nAssistant: Red."},
        ],
        "stories": [{"text": "Once there was a tea."}],
    }
    for name, written in rows.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "train.jsonl").write_text("\n".join(json.dumps(row) for row in written))
    names = {name: str(tmp_path / name) for name in ("alpaca", "dolly", "hh", "stories")}
    modules["hub_data"].make_data(tmp_path / "data", names)

    read = modules["prompts"].read_lines
    files = [file.name.removesuffix(".jsonl.gz") for file in (tmp_path / "data").iterdir()]
    made = {file: list(read(tmp_path / "data", file)) for file in files}
    assert made["alpaca"] == [{"instruction": "Name a tea", "input": "", "output": "Green."}]
    assert made["dolly"] == [{"instruction": "Why?", "response": "So."}]
    turns = [["Human", "Which tea?"], ["Assistant", "Green."], ["Human", "And cakes?"]]
    pair = {"turns": turns, "first_prompt": "Which tea?", "chosen": "Yes.", "rejected": "No."}
    assert made["hh_helpful_pairs"] == [pair]
    assert made["fairytaleqa_stories"] == [{"story": "0", "sections": ["Once there was a tea."]}]
    found = modules["prompts"].instruction_rows(tmp_path / "data")
    assert {name: len(rows) for name, rows in found.items()} == {"alpaca": 0, "hh": 0, "dolly": 0}  # all too short
    assert list(modules["prompts"].plain_texts(tmp_path / "data")) == ["Once there was a tea."]

    modules["hub_data"].make_data(tmp_path / "some", {name: names[name] for name in ("alpaca", "hh")})
    left_out = {"dolly.jsonl.gz", "fairytaleqa_stories.jsonl.gz"}
    assert {file.name for file in (tmp_path / "some").iterdir()} == {f"{file}.jsonl.gz" for file in files} - left_out


@pytest.mark.parametrize("tier", sorted(FOLDER.glob("tier*.yaml")), ids=lambda path: path.stem)
def test_every_tier_is_a_grid_that_loads(tier: Path) -> None:
    config = read_grid(tier)
    assert len(config.seeds) >= 3
    assert len(config.learning_rates) >= 2 or len(config.checkpoints) >= 2  # chosen, or compared along the way
    assert {"grpo", "tea"} < set(config.estimators)
    assert {"max_at_k:k=4", "max_at_k:k=8"} & set(config.estimators)  # k < m, the comparison that matters
