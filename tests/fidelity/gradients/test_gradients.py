"""Per-response gradients against plain autograd, and what an interrupted run leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM

from small_gradients import MODELS, PROMPTS, RESPONSES, Flat, by_autograd, small_model
from tailgrad.fidelity import count_sketch as engine
from tailgrad.fidelity import gradient_store
from tailgrad.fidelity.count_sketch import CountSketch, gradient_sketches
from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.rollouts import SampleConfig, read_rollouts, sample


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize(("temperature", "batch_size"), [(1.0, 4), (0.5, 3)])
def test_gradients_equal_a_loop_of_autograd(
    tmp_path: Path, architecture: str, temperature: float, batch_size: int
) -> None:
    small_model(architecture).save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    expected = [by_autograd(plain, *pair, temperature) for pair in zip(PROMPTS, RESPONSES, strict=True)]
    eager = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    found, logprobs = gradient_sketches(
        eager, Flat(dict(eager.named_parameters())), PROMPTS, RESPONSES, temperature=temperature, batch_size=batch_size
    )
    np.testing.assert_allclose(logprobs, [value for _, value in expected], rtol=1e-5)
    for row, (gradient, _) in zip(found, expected, strict=True):
        np.testing.assert_allclose(row, gradient, atol=2e-5 * np.abs(gradient).max())


def test_the_memory_allowed_does_not_change_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama")
    model.set_attn_implementation("eager")
    expected, _ = gradient_sketches(model, Flat(dict(model.named_parameters())), PROMPTS, RESPONSES)
    monkeypatch.setattr(engine, "_GRADIENTS_BUDGET", 1)
    found, _ = gradient_sketches(model, Flat(dict(model.named_parameters())), PROMPTS, RESPONSES)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_sketch_is_one_signed_bucket_an_entry() -> None:
    parameters = {"a": torch.zeros(3, 5), "b": torch.zeros(7)}
    sketch = CountSketch(parameters, dim=6, seed=1)
    units = torch.eye(22)
    matrix = sketch({"a": units[:, :15].view(22, 3, 5), "b": units[:, 15:]})
    assert matrix.shape == (22, 6)
    assert (matrix.abs().sum(1) == 1).all()
    assert 3 < (matrix.sum(1) > 0).sum() < 19
    vectors = torch.randn(4, 22, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sketch({"a": vectors[:, :15].view(4, 3, 5), "b": vectors[:, 15:]}), vectors @ matrix)
    again = CountSketch(parameters, dim=6, seed=1)({"a": units[:, :15].view(22, 3, 5), "b": units[:, 15:]})
    assert torch.equal(matrix, again)


def test_inner_products_of_sketches_are_unbiased_with_the_stated_spread() -> None:
    """2000 sketches of two positive vectors: what falls into one bucket would add up, were it not for the signs."""
    a = torch.rand(1, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = a + torch.rand(1, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    dim, draws = 32, 2000
    products = []
    for seed in range(draws):
        sketch = CountSketch({"w": a[0]}, dim=dim, seed=seed)
        products.append(float((sketch({"w": a}) * sketch({"w": b})).sum()))
    truth = float((a * b).sum())
    bound = float(((a**2).sum() * (b**2).sum() + truth**2) / dim)
    error = np.std(products) / np.sqrt(draws)
    assert abs(np.mean(products) - truth) < 4 * error
    assert error < 0.02 * truth  # so that a bias of a tenth would be seen
    assert 0.85 < np.var(products) / bound < 1.1


def test_a_table_is_differentiated_and_kept(pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_store, "_SHARD", 5)
    found = sketch_gradients(GradientConfig(**pool))
    assert len(found) == 5
    table = read_rollouts(pool["table"])
    model = AutoModelForCausalLM.from_pretrained(pool["model_name_or_path"]).eval()
    sketch = CountSketch(dict(model.named_parameters()), dim=64, seed=0)
    prompt = gradient_store.tokenize_prompts(gradient_store.load_policy(pool["model_name_or_path"])[1], table.prompts)[
        3
    ]
    for i, row in enumerate(found[3]):
        gradient, logprob = by_autograd(model, prompt, table.token_ids[3, i].tolist(), 0.7)
        assert logprob == pytest.approx(table.logprobs[3, i], rel=1e-4)
        sizes = [parameter.numel() for parameter in model.parameters()]
        parts = torch.from_numpy(gradient)[None].split(sizes, dim=1)
        names = [name for name, _ in model.named_parameters()]
        expected = sketch(dict(zip(names, parts, strict=True)))[0].numpy()
        np.testing.assert_allclose(row, expected, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(IndexError, match="prompt 5 of 5"):
        found[5]


def test_an_interrupted_run_goes_on_and_a_finished_one_is_kept(
    pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_store, "_SHARD", 5)
    whole = sketch_gradients(GradientConfig(**pool | {"out": pool["out"].with_name("whole")}))
    made = []

    def counted(*args: Any, **keywords: Any) -> Any:
        if len(made) == 7:
            raise KeyboardInterrupt
        made.append(args[2])
        return gradient_sketches(*args, **keywords)

    monkeypatch.setattr(gradient_store, "gradient_sketches", counted)
    with pytest.raises(KeyboardInterrupt):
        sketch_gradients(GradientConfig(**pool))
    assert len(list(pool["out"].glob("prompt-*.npy"))) == 7
    assert not list(pool["out"].glob(".*"))

    def counted_on(*args: Any, **keywords: Any) -> Any:
        made.append(args[2])
        return gradient_sketches(*args, **keywords)

    monkeypatch.setattr(gradient_store, "gradient_sketches", counted_on)
    found = sketch_gradients(GradientConfig(**pool))
    assert len(made) == 15
    for prompt in range(5):
        np.testing.assert_array_equal(found[prompt], whole[prompt])
    sketch_gradients(GradientConfig(**pool))
    assert len(made) == 15


@pytest.mark.parametrize(
    ("changes", "message"), [({"dim": 32}, "another dim: 64 there, 32 now"), ({"seed": 1}, "another seed")]
)
def test_gradients_with_other_settings_are_not_mixed(
    pool: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    sketch_gradients(GradientConfig(**pool))
    with pytest.raises(ValueError, match=message):
        sketch_gradients(GradientConfig(**pool | changes))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: path.write_bytes(b"not an array at all" * 9),
        lambda path: np.save(path, np.load(path)[:3]),
        lambda path: np.save(path, np.load(path)[:, :8]),
        lambda path: np.save(path, np.load(path).astype(np.float64)),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_shard_is_made_anew(
    pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], Any]
) -> None:
    monkeypatch.setattr(gradient_store, "_SHARD", 5)
    config = GradientConfig(**pool)
    whole = [array.copy() for array in sketch_gradients(config)]
    path = pool["out"] / "prompt-00003-000005.npy"
    damage(path)
    others = {one: one.stat().st_mtime_ns for one in pool["out"].glob("prompt-*.npy") if one != path}
    (pool["out"] / ".prompt-00004-000005.npy.99.tmp").write_bytes(b"")
    again = sketch_gradients(config)
    for prompt in range(5):
        np.testing.assert_array_equal(again[prompt], whole[prompt])
    assert all(one.stat().st_mtime_ns == written for one, written in others.items())
    assert not list(pool["out"].glob(".*"))


def test_another_version_and_another_order_of_layers_are_the_same_gradients(
    pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = {"parameters": "lora", "lora_target_modules": ("q_proj", "down_proj")}
    sketch_gradients(GradientConfig(**pool | layers))
    monkeypatch.setattr(gradient_store, "lora_sketches", None)  # none is computed
    monkeypatch.setattr(gradient_store, "__version__", "9.9")
    sketch_gradients(GradientConfig(**pool | layers))
    sketch_gradients(GradientConfig(**pool | layers | {"lora_target_modules": ("down_proj", "q_proj")}))
    with pytest.raises(ValueError, match="another lora_target_modules"):
        sketch_gradients(GradientConfig(**pool | layers | {"lora_target_modules": ("down_proj",)}))


def test_damaged_settings_are_named(pool: dict[str, Any]) -> None:
    sketch_gradients(GradientConfig(**pool))
    for content in ("", "[1]", "{"):
        (pool["out"] / "gradients.json").write_text(content)
        with pytest.raises(ValueError, match=r"gradients\.json' is damaged"):
            sketch_gradients(GradientConfig(**pool))


def test_a_moved_policy_goes_on_and_a_second_process_does_not(
    pool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketch_gradients(GradientConfig(**pool))
    (pool["out"] / "prompt-00003-000000.npy").unlink()
    shutil.copytree(pool["model_name_or_path"], tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("a policy")
    with FileLock(pool["out"] / "lock"), pytest.raises(ValueError, match="is being written by another process"):
        sketch_gradients(GradientConfig(**pool))
    sketch_gradients(GradientConfig(**pool | {"model_name_or_path": str(tmp_path / "copy")}))


def test_chats_are_tokenized_as_they_were_sampled(options: dict[str, Any], chat_policy: Path, tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": text}] for text in ("one two", "three")]
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps({"prompt": chat}) + "\n" for chat in chats))

    def length(*, completions: list[Any], **columns: Any) -> list[float]:
        return [float(len(completion[0]["content"])) for completion in completions]

    sample(
        SampleConfig(
            **options | {"model_name_or_path": str(chat_policy), "dataset_name": str(data), "reward_funcs": length}
        )
    )
    config = GradientConfig(
        table=options["out"], model_name_or_path=str(chat_policy), out=tmp_path / "gradients", dim=16
    )
    assert sketch_gradients(config)[1].shape == (4, 16)  # log-probabilities agree, or it would be refused
