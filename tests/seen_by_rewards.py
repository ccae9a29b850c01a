"""What a reward sees of a training and of a sampling."""

from pathlib import Path
from typing import Any

import pytest

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system messages here') }}{% endif %}"
    "<{{ m['role'] }}> {{ m['content'] }} "
    "{% for call in m['tool_calls'] or [] %}"
    "{% for name, value in call['function']['arguments'].items() %}{{ name }} {{ value }} {% endfor %}{% endfor %}"
    "</s> {% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)

REWARD = """
SEEN = []

def reward(*, prompts, completions, completion_ids, trainer_state=None, log_extra=None, log_metric=None, **columns):
    SEEN.extend(dict(zip(["prompt", *columns], row)) for row in zip(prompts, *columns.values()))
    return [float(len(ids)) for ids in completion_ids]
"""


def called(**arguments: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": arguments}}],
    }


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the reward `kept.reward` is passed, and the rows of tokens that models generate from."""
    for module in ("training.cautions", "rollouts.sampling"):  # which generates a little before
        monkeypatch.setattr(f"tailgrad.{module}.check_batches", lambda *_, **__: None)
    from transformers import GenerationMixin

    (tmp_path / "kept.py").write_text(REWARD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delitem(__import__("sys").modules, "kept", raising=False)
    inputs: list[list[int]] = []
    generate = GenerationMixin.generate

    def kept(self: Any, *args: Any, **kwargs: Any) -> Any:
        for ids, mask in zip(kwargs["input_ids"].tolist(), kwargs["attention_mask"].tolist(), strict=True):
            inputs.append([i for i, m in zip(ids, mask, strict=True) if m])
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", kept)

    def take() -> tuple[set[str], set[str]]:
        import kept as module  # type: ignore[import-not-found]

        rows = {repr(sorted(row.items())) for row in module.SEEN}
        tokens = {repr(row) for row in inputs}
        module.SEEN.clear()
        inputs.clear()
        return rows, tokens

    return take


def words_of(options: dict[str, Any]) -> list[str]:
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def train_arguments(policy: Path, data: Path, out: Path, *more: str) -> list[str]:
    options = {
        "model_name_or_path": policy,
        "dataset_name": data,
        "reward_funcs": "kept.reward",
        "output_dir": out / "trained",
        "num_generations": 2,
        "per_device_train_batch_size": 4,
        "max_completion_length": 4,
        "max_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "estimator": "grpo",
    }
    return ["train", *words_of(options), "--use_cpu", "--bf16", "false", "--gradient_checkpointing", "false", *more]


def sample_arguments(policy: Path, data: Path, out: Path, *more: str) -> list[str]:
    options = {
        "model_name_or_path": policy,
        "dataset_name": data,
        "reward_funcs": "kept.reward",
        "out": out / "table.parquet",
        "n": 2,
    }
    return ["sample", *words_of(options), "--max_completion_length", "4", *more]
