"""`tailgrad fidelity` on a policy with one-token responses, whose gradient of V_N is known exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tailgrad.cli.main import main
from tailgrad.fidelity import population_influence
from tailgrad.fidelity.count_sketch import CountSketch
from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.rollouts import SampleConfig, ScoreConfig, read_rollouts, rescore, sample

WORDS = ["[UNK]", "[PAD]", "</s>", "one", "two", "three", "four", "five"]
REWARDS = np.array([0.0, 0.3, 1.0, 2.0, 2.0, 3.5, 5.0, 7.0])
PROMPTS = ["one two", "three", "five four one"]
TEMPERATURE = 0.8
N = 1024


def reward(completion_ids: list[list[int]], **columns: object) -> list[float]:
    return [float(REWARDS[ids[0]]) for ids in completion_ids]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy and a table of its responses."""
    folder = tmp_path_factory.mktemp("pool")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen3Config(vocab_size=8, head_dim=8, num_key_value_heads=1, eos_token_id=2, bos_token_id=None, **sizes)
    model = Qwen3ForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder / "policy")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="</s>", pad_token="[PAD]")
    tokenizer.save_pretrained(folder / "policy")
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    sample(
        SampleConfig(
            model_name_or_path=str(folder / "policy"),
            dataset_name=str(folder / "prompts.jsonl"),
            reward_funcs=reward,
            out=folder / "pool.parquet",
            n=N,
            max_completion_length=1,
            temperature=TEMPERATURE,
        )
    )
    return folder


def command(pool: Path, out: Path, **changes: str) -> list[str]:
    options = {
        "table": str(pool / "pool.parquet"),
        "model_name_or_path": str(pool / "policy"),
        "out": str(out),
        "estimators": "tea grpo max_at_k:k=4",
        "num_generations": "8 16",
        "deploy_n": "32",
        "dim": "256",
        "batch_size": "64",
    }
    options |= changes
    return [
        *("fidelity", options.pop("table")),
        *(part for name, value in options.items() for part in (f"--{name}", *value.split())),
    ]


def test_the_truth_is_the_gradient_of_best_of_n(pool: Path, tmp_path: Path) -> None:
    """V_N from the probabilities of all tokens, differentiated by autograd through the model."""
    table_path, policy, deploy_n = pool / "pool.parquet", str(pool / "policy"), 8
    gradients = sketch_gradients(
        GradientConfig(table=table_path, model_name_or_path=policy, out=tmp_path / "gradients")
    )
    rewards = read_rollouts(table_path).rewards
    influence = population_influence(rewards, deploy_n)
    model = AutoModelForCausalLM.from_pretrained(policy).eval()
    sketch = CountSketch(dict(model.named_parameters()), dim=4096, seed=0)
    levels = torch.tensor(np.unique(REWARDS))
    of_levels = torch.tensor(REWARDS)[:, None] <= levels
    for p, prompt in enumerate(PROMPTS):
        ids = torch.tensor([[WORDS.index(word) for word in prompt.split()]])
        probabilities = (model(input_ids=ids).logits[0, -1].double() / TEMPERATURE).softmax(-1)
        best = (probabilities @ of_levels.double()) ** deploy_n
        v_n = (levels * torch.diff(best, prepend=torch.zeros(1))).sum()
        exact = torch.autograd.grad(v_n, list(model.parameters()))
        named = zip((name for name, _ in model.named_parameters()), exact, strict=True)
        expected = sketch({name: gradient[None] for name, gradient in named})[0].numpy()
        terms = influence[p, :, None] * gradients[p]
        error = np.linalg.norm(terms.std(axis=0)) / np.sqrt(N)
        assert error < 0.2 * np.linalg.norm(expected)
        assert np.linalg.norm(terms.mean(axis=0) - expected) < 2 * error


def test_writes_and_prints_a_report_and_resumes(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(pool, tmp_path)) == 0
    printed = capsys.readouterr().out
    markdown = (tmp_path / "fidelity.md").read_text()
    assert markdown in printed
    assert str(tmp_path / "fidelity.{png,svg,md,json}") in printed
    assert (tmp_path / "fidelity.png").stat().st_size > 10_000
    assert "</svg>" in (tmp_path / "fidelity.svg").read_text()

    def no_constant(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    document = json.loads((tmp_path / "fidelity.json").read_text(), parse_constant=no_constant)
    assert (document["prompts"], document["n"], document["pool"]["sketch_dim"]) == (3, N, 256)
    assert document["pool"]["sampling"]["temperature"] == TEMPERATURE
    found = [(point["deploy_n"], point["m"], point["estimator"], point["steps"]) for point in document["points"]]
    names = ("tea", "grpo", "max_at_k:k=4")
    assert found == [(32, m, name, N // m) for m in (8, 16) for name in names]
    rows = [line.split("|")[1:-1] for line in markdown.splitlines() if line.startswith("| ")]
    for row, point in zip(rows[2:], document["points"], strict=True):
        m, name, direction, _, ratio, _, _ = (cell.strip() for cell in row)
        assert (m, name) == (str(point["m"]), point["estimator"])
        decimals = len(direction.split()[0].split(".")[1])
        assert direction.split()[0] == f"{point['direction']['mean']:.{decimals}f}"
        assert (ratio == "unknown") == (name == "grpo") == (point["norm_ratio"]["mean"] is None)

    monkeypatch.setattr(
        "tailgrad.fidelity.gradient_store.gradient_sketches", None
    )  # gradients are there: none is computed
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert main(command(pool, tmp_path)) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == files
    assert main(command(pool, tmp_path, estimators="cvar", num_generations="32", deploy_n="16 64")) == 0


def test_what_the_gradients_are_taken_with_respect_to_is_said_and_kept(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(pool, tmp_path / "a", parameters="last:1")) == 0
    assert "with respect to the parameters of the last block." in capsys.readouterr().out
    monkeypatch.setattr("tailgrad.fidelity.parameters.LARGE", 10)
    assert main(command(pool, tmp_path / "b", lora_target_modules="q_proj down_proj", dtype="bfloat16")) == 0
    assert "with respect to B of a fresh LoRA adapter (r = 16, q_proj, down_proj).\n" in capsys.readouterr().out
    assert main(command(pool, tmp_path / "c")) == 0
    line, *_, last = capsys.readouterr().out.strip().splitlines()
    assert "B of a fresh LoRA adapter (r = 16, q_proj, v_proj), as the policy has more than 20 million" in line
    assert str(tmp_path / "c") in last
    assert line in (tmp_path / "c" / "fidelity.md").read_text()
    found = json.loads((tmp_path / "b" / "fidelity.json").read_text())["pool"]["gradients"]
    assert found == {
        "parameters": "lora",
        "dtype": "bfloat16",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_modules": ["q_proj", "down_proj"],
    }
    assert main(command(pool, tmp_path / "c", parameters="all")) == 2
    assert "another parameters: 'lora' there, 'all' now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": "lost:1"}, "parameters is 'lost:1'; it must be lora, all, or last:N"),
        ({"lora_target_modules": "query"}, "has 'query', which matches no linear layer of the model. It has q_proj"),
        ({"dtype": "float16"}, "invalid choice: 'float16'"),
        ({"deploy_n": "513"}, "deploy_n = 513 must lie between 2 and 512, the scored responses in half"),
        (
            {"estimators": "max_at_k:k=9", "num_generations": "8"},
            "max_at_k:k=9 needs at least 9 rollouts per prompt, got m = 8",
        ),
        ({"estimators": "max_at_k:k"}, "'k' is not option=value"),
        ({"table": "none.parquet"}, "rollout table 'none.parquet': there is no such file"),
        ({"model_name_or_path": "./none"}, "model './none': there is no such folder"),
        ({"dim": "0"}, "dim is 0; it must be at least 1"),
    ],
)
def test_what_is_wrong_is_said_before_any_gradient(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], message: str
) -> None:
    assert main(command(pool, tmp_path, **changes)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.npy"))


def test_a_table_whose_best_is_picked_by_another_reward_is_refused(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`curve` would give V_N of what the old reward picks; the gradients here would be of another V_N."""
    for selection, code in (("table", 2), ("reward", 0)):
        out = tmp_path / f"{selection}.parquet"
        judged = rescore(ScoreConfig(pool / "pool.parquet", out, selection, reward_funcs=reward))
        assert main(command(pool, tmp_path / "out", table=str(judged))) == code
    assert "the best of N is picked by 'reward'; `tailgrad fidelity` takes one reward" in capsys.readouterr().err


def test_tables_that_differ_in_rewards_alone_share_gradients(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, other = tmp_path / "gradients", tmp_path / "other.parquet"
    rescore(ScoreConfig(pool / "pool.parquet", other, "reward", reward_funcs=negated))
    assert main(command(pool, tmp_path / "alone", table=str(other))) == 0
    assert main(command(pool, tmp_path / "first", gradients=str(shared))) == 0
    assert not (tmp_path / "first" / "gradients").exists()
    monkeypatch.setattr("tailgrad.fidelity.gradient_store.gradient_sketches", None)  # none is computed
    assert main(command(pool, tmp_path / "second", table=str(other), gradients=str(shared))) == 0
    alone, first, second = (
        json.loads((tmp_path / name / "fidelity.json").read_text())["points"] for name in ("alone", "first", "second")
    )
    assert second == alone != first


def negated(completion_ids: list[list[int]], **columns: object) -> list[float]:
    return [-float(REWARDS[ids[0]]) for ids in completion_ids]
