"""Trainings that FSDP or DeepSpeed shard, on a CPU: those of `trained_by_many`, and the command.

accelerate launch --config_file recipes/accelerate/KIND.yaml tests/trained_sharded.py POLICY FOLDER CASE ...
accelerate launch --config_file recipes/accelerate/KIND.yaml tests/trained_sharded.py train --config FILE
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from accelerate.state import DistributedType, PartialState

import trained_by_many
from tailgrad.cli.main import main as tailgrad
from tailgrad.training import TailGRPOTrainer

set_device = PartialState.set_device


def as_if_gpus(state: PartialState) -> None:
    """Calls the processes ones with GPUs after their devices are set, which is what accelerate asks for before FSDP."""
    set_device(state)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        state.distributed_type = DistributedType.MULTI_GPU


def held(trainer: TailGRPOTrainer) -> dict[str, Any]:
    """What shards the training, and how many of the weights and of the optimizer's values this process holds."""
    weights = [getattr(one, "ds_tensor", one) for one in trainer.model_wrapped.parameters()]
    weights = [one.to_local() if hasattr(one, "to_local") else one for one in weights]
    optimizer = trainer.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    moments = [one.to_local() if hasattr(one, "to_local") else one for one in moments]
    counts = {"weights": sum(one.numel() for one in weights), "moments": sum(one.numel() for one in moments)}
    return counts | {"kind": trainer.accelerator.distributed_type.value}


def train_cases(policy: str, folder: str, *cases: str) -> int:
    """Train the cases, write down what each process saw and holds, and give the exit code."""
    for case in cases:
        trainer = trained_by_many.train(case, policy, folder)
        Path(folder, f"{case}-{os.environ['RANK']}.held.json").write_text(json.dumps(held(trainer)))
        trainer.save_model(f"{folder}/{case}/policy")
        trainer.accelerator.wait_for_everyone()
    return 0


if __name__ == "__main__":
    PartialState.set_device = as_if_gpus
    code = tailgrad(sys.argv[1:]) if sys.argv[1] == "train" else train_cases(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written; gloo's threads now and then abort a process that tears them down
