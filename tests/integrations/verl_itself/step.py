"""Take a step of verl's own training worker on a CPU, and hold it against the gradient of the advantages.

Usage: VERL_USE_EXTERNAL_MODULES=cpu_platform VERL_PLATFORM=cpu python step.py POLICY
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from tensordict import TensorDict
from transformers import AutoModelForCausalLM
from verl.protocol import DataProto
from verl.trainer.ppo.ray_trainer import RayPPOTrainer, compute_advantage
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine_workers import ActorRolloutRefWorker

from tailgrad.estimators import tea

PROMPTS, ROLLOUTS, LONGEST, TOKENS, WORDS = 3, 16, 4, 6, 12
SETTINGS = {
    "algorithm.adv_estimator": "tea",
    "algorithm.deploy_n": 64,
    "rollout.n": ROLLOUTS,
    "rollout.log_prob_micro_batch_size_per_gpu": 16,
    "model.use_remove_padding": False,
    "model.enable_gradient_checkpointing": False,
    "model.override_config.attn_implementation": "sdpa",
    "actor.strategy": "fsdp2",
    "actor.fsdp_config.model_dtype": "fp32",
    "actor.fsdp_config.mixed_precision": "{param_dtype:fp32,reduce_dtype:fp32}",
    "actor.use_torch_compile": False,
    "actor.ppo_mini_batch_size": PROMPTS,
    "actor.ppo_micro_batch_size_per_gpu": 16,  # a third of the rollouts: gradients are summed
    "actor.optim.optimizer": "SGD",
    "actor.optim.lr": 1.0,  # the step is the gradient
    "actor.optim.weight_decay": 0.0,
    "actor.optim.clip_grad": 1e9,
}


def configured(policy: Path) -> DictConfig:
    """verl's configuration of a training with TEA."""
    settings = {**SETTINGS, "model.path": policy}
    names = {name: name if name.startswith("algorithm.") else f"actor_rollout_ref.{name}" for name in settings}
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=[f"++{names[name]}={value}" for name, value in settings.items()])


def rollouts() -> dict[str, torch.Tensor]:
    """Prompts that are padded at the left and responses that are padded at the right; a prompt's are not adjacent."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.arange(PROMPTS).repeat(ROLLOUTS)
    prompts = torch.randint(5, WORDS, (PROMPTS, LONGEST), generator=generator)[prompt]
    responses = torch.randint(5, WORDS, (len(prompt), TOKENS), generator=generator)
    lengths = torch.randint(1, TOKENS + 1, (len(prompt),), generator=generator)
    mask = (torch.arange(TOKENS) < lengths[:, None]).long()
    attended = torch.cat([(torch.arange(LONGEST) >= prompt[:, None]).long(), mask], dim=1)
    rewards = torch.zeros(len(prompt), TOKENS)
    rewards[torch.arange(len(prompt)), lengths - 1] = (responses * mask).sum(1).float()
    return {
        "prompts": prompts,
        "responses": responses,
        "response_mask": mask,
        "token_level_rewards": rewards,
        "input_ids": torch.cat([prompts, responses], dim=1),
        "attention_mask": attended,
        "position_ids": (attended.cumsum(1) - 1).clamp(min=0),
    }


def check(path: Path) -> None:
    """Take the step; an AssertionError says where it is another one."""
    config, batch = configured(path), rollouts()
    policy = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    logprobs = policy(**inputs).logits[:, LONGEST - 1 : -1].log_softmax(-1)
    logprobs = logprobs.gather(-1, batch["responses"][..., None])[..., 0]

    EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device=["cpu"])(FSDPEngineWithLMHead)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    worker = ActorRolloutRefWorker(config.actor_rollout_ref, role="actor")
    worker.init_model()
    trained = worker.actor.engine.module
    before = {name: weights.full_tensor().detach().clone() for name, weights in trained.named_parameters()}
    uids = np.array([f"prompt-{row % PROMPTS}" for row in range(PROMPTS * ROLLOUTS)], dtype=object)
    old = (logprobs * batch["response_mask"]).detach()
    data = DataProto(TensorDict({**batch, "old_log_probs": old}, batch_size=len(uids)), {"uid": uids})
    data = compute_advantage(data, config.algorithm.adv_estimator, config=config.algorithm)
    trainer = SimpleNamespace(config=config, actor_rollout_wg=worker, distillation_config=None)
    RayPPOTrainer._update_actor(trainer, data)

    rewards = batch["token_level_rewards"].sum(1).view(ROLLOUTS, PROMPTS).T
    advantages = tea(rewards, deploy_n=64).T.flatten()
    mask = batch["response_mask"]
    objective = (advantages[:, None] * logprobs * mask).sum() / mask.sum()
    objective.backward()
    assert config.actor_rollout_ref.actor.loss_agg_mode == "token-mean"
    after = dict(trained.named_parameters())
    for name, weights in policy.named_parameters():
        step = after[name].full_tensor().detach() - before[name]
        torch.testing.assert_close(step, weights.grad, rtol=1e-5, atol=1e-6)
        assert weights.grad.abs().max() > 0.1


if __name__ == "__main__":
    check(Path(sys.argv[1]))
