"""A step of verl's own training worker, FSDP2 and all, follows the gradient of the advantages.

verl 0.9.1 draws rollouts with vLLM, SGLang or TensorRT-LLM, for which it wants GPUs; here they are random.
"""

import os
import subprocess
import sys
from pathlib import Path

from tiny_policies import save_policy


def test_a_step_of_verls_worker_follows_the_gradient_of_the_advantages(tmp_path: Path) -> None:
    policy = save_policy(tmp_path / "policy", pad_token="[PAD]")
    step = [sys.executable, str(Path(__file__).with_name("step.py")), str(policy)]
    one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    one |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}  # which verl's worker wants to know, and does not use
    one |= {"VERL_USE_EXTERNAL_MODULES": "cpu_platform", "VERL_PLATFORM": "cpu"}
    ended = subprocess.run(step, env={**os.environ, **one}, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
