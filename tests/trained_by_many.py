"""Small trainings in which each process writes down its rollouts, their advantages and what its loss read of them.

torchrun --nproc_per_node 2 tests/trained_by_many.py POLICY FOLDER CASE ...
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig

from tailgrad.quickstart.task import build_prompts, verifier
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer

GROUP, BATCH = 8, 4  # with two processes a group lies on both


def uneven(*, completions: list[str], **_: Any) -> list[float]:
    """A reward with no short binary form, so that sums of it round."""
    return [sum(map(ord, text)) / 977 for text in completions]


def gaps(*, completions: list[str], **_: Any) -> list[float | None]:
    """A reward that leaves some unscored."""
    return [None if len(text) % 3 == 0 else len(text) / 7 for text in completions]


LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")
EVALUATION = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 16, "per_device_eval_batch_size": 8}
SEVERAL = {"gradient_accumulation_steps": 2, "num_iterations": 2, "max_steps": 4}
REWARDS: dict[str, list[Any]] = {"weighted": [verifier, uneven], "unscored": [gaps], "everything": [gaps, uneven]}

CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "accumulation": {"gradient_accumulation_steps": 2, "max_steps": 2},
    "iterations": {"num_iterations": 2, "max_steps": 4},
    "evaluation": EVALUATION,
    "weighted": {"reward_weights": [0.3, 1.7]},
    "unscored": {},
    "long": {"max_completion_length": 40},  # ends at another token in each process
    "everything": SEVERAL | EVALUATION | {"reward_weights": [0.3, 1.7], "advantage_scaling": "batch", "beta": 0.05},
    **{f"loss-{name}": {"loss_type": name} for name in LOSSES},
}
CASES["loss-luspo"]["importance_sampling_level"] = "sequence"


def configured(case: str, folder: Path, **changes: Any) -> TailGRPOConfig:
    """The configuration of a case."""
    common = {"output_dir": str(folder / case), "num_generations": GROUP, "per_device_train_batch_size": BATCH}
    common |= {"max_completion_length": 6, "max_steps": 1, "deploy_n": 64, "estimator": "tea", "report_to": "none"}
    common |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True}
    common |= {"save_strategy": "no", "learning_rate": 1e-2, "ddp_backend": "gloo"}
    return TailGRPOConfig(**common | CASES[case] | changes)


def make(case: str, policy: str, config: TailGRPOConfig, kind: type[TailGRPOTrainer]) -> TailGRPOTrainer:
    """The trainer of a case."""
    rows = Dataset.from_list(build_prompts("train")[:16])
    adapter = LoraConfig(r=2, task_type="CAUSAL_LM") if case in ("lora", "everything") else None
    rewards = REWARDS.get(case, [uneven])
    return kind(policy, rewards, config, rows, rows.select(range(4)), peft_config=adapter)


def tokens(batch: dict[str, Any]) -> list[str]:
    """The tokens of each rollout of a batch, as text."""
    rows = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    masks = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1).bool()
    return [" ".join(map(str, row[mask].tolist())) for row, mask in zip(rows, masks, strict=True)]


class Recorder(TailGRPOTrainer):
    """Writes down what each batch of rollouts was given, and what the loss read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.batches: list[dict[str, Any]] = []
        super().__init__(*args, **kwargs)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> Any:
        self.texts = list(completions)
        return super()._calculate_rewards(inputs, prompts, completions, ids)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        group = self.num_generations if self.model.training else self.num_generations_eval
        exact = self.estimate_advantages(self._gathered_rewards.double(), group)
        seen = {"inputs": inputs, "texts": self.texts, "group": group, "training": self.model.training, "read": []}
        seen |= {"advantages": output["advantages"].tolist(), "exact": exact.tolist(), "tokens": tokens(output)}
        self.batches.append(seen)
        return output

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        pairs = zip(tokens(inputs), inputs["advantages"].tolist(), strict=True)
        batch = next(one for one in reversed(self.batches) if one["training"] == self.model.training)
        batch["read"] += [[row, advantage] for row, advantage in pairs]
        return super().compute_loss(model, inputs, *args, **kwargs)


def train(case: str, policy: str, folder: str) -> TailGRPOTrainer:
    """Train a case and write down what this process saw."""
    trainer = make(case, policy, configured(case, Path(folder)), Recorder)
    trainer.train()
    Path(folder, f"{case}-{os.environ['RANK']}.json").write_text(json.dumps(trainer.batches))
    trainer.accelerator.wait_for_everyone()
    return trainer


def check(case: str, policy: str, folder: Path, processes: int) -> None:
    """Compare what the processes saw with one process's advantages of the same rollouts."""
    seen = [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in range(processes)]
    sizes: dict[str, Any] = {"per_device_train_batch_size": BATCH * processes, "ddp_backend": None}
    sizes |= {"per_device_eval_batch_size": 2 * BATCH * processes} if "eval_steps" in CASES[case] else {}
    one = make(case, policy, configured(case, folder / "one", **sizes), TailGRPOTrainer)
    one.model.train()
    for batches in zip(*seen, strict=True):
        rows = [row for batch in batches for row in batch["inputs"]]
        group = batches[0]["group"]
        assert all(len({row["prompt"] for row in rows[at : at + group]}) == 1 for at in range(0, len(rows), group))
        texts = [text for batch in batches for text in batch["texts"]]
        columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
        scored = [reward(completions=texts, **columns) for reward in REWARDS.get(case, [uneven])]
        nan = float("nan")
        rewards = torch.tensor([[nan if value is None else value for value in values] for values in scored]).T
        exact = one.estimate_advantages(rewards.double(), group)
        assert exact.any()
        assert [batch["exact"] for batch in batches] == [exact.tolist()] * processes
        given = [value for batch in batches for value in batch["advantages"]]
        assert given == one.estimate_advantages(rewards, group).tolist()
        for batch in batches:
            times = one.args.num_iterations if batch["training"] else 1
            generated = [[row, value] for row, value in zip(batch["tokens"], batch["advantages"], strict=True)]
            assert sorted(batch["read"]) == sorted(generated * times)
    assert {batch["training"] for batch in seen[0]} == ({True, False} if "eval_steps" in CASES[case] else {True})


if __name__ == "__main__":
    for name in sys.argv[3:]:
        train(name, *sys.argv[1:3])
    os._exit(0)  # all is written; gloo's threads now and then abort a process that tears them down
