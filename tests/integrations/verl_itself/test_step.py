"""One optimizer step of a tiny policy: verl's advantage call and verl's loss. verl's trainer itself needs a GPU.

verl 0.9.1 has engines for training on "cuda" and "npu" alone, and draws rollouts with vLLM, SGLang or TensorRT-LLM.
"""

import numpy as np
import torch
import verl  # noqa: F401 - what loads the plugin
from hydra import compose, initialize_config_module
from tensordict import TensorDict
from verl.protocol import DataProto
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.utils.config import omega_conf_to_dataclass

from tailgrad.estimators import tea

PROMPTS, ROLLOUTS, TOKENS, WORDS = 3, 16, 6, 5


def test_a_step_follows_the_gradient_of_the_advantages() -> None:
    with initialize_config_module("verl.trainer.config", version_base=None):
        lines = ["algorithm.adv_estimator=tea", "+algorithm.deploy_n=64", "actor_rollout_ref.rollout.n=16"]
        config = compose("ppo_trainer", overrides=[*lines, "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=48"])
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    policy = torch.nn.Embedding(PROMPTS, TOKENS * WORDS)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    prompt = torch.arange(PROMPTS).repeat(ROLLOUTS)  # the rollouts of a prompt are not adjacent

    generator = torch.Generator().manual_seed(0)
    logits = policy(prompt).view(-1, TOKENS, WORDS)
    words = torch.multinomial(logits.softmax(-1).flatten(0, 1).detach(), 1, generator=generator).view(-1, TOKENS)
    lengths = torch.randint(1, TOKENS + 1, (len(prompt),), generator=generator)
    mask = (torch.arange(TOKENS) < lengths[:, None]).long()
    rewards = torch.zeros(len(prompt), TOKENS)
    rewards[torch.arange(len(prompt)), lengths - 1] = (words * mask).sum(1).float()
    logprobs = logits.log_softmax(-1).gather(-1, words[..., None])[..., 0]

    uids = np.array([f"prompt-{one}" for one in prompt.tolist()], dtype=object)
    tensors = {"token_level_rewards": rewards, "response_mask": mask}
    batch = DataProto(TensorDict(tensors, batch_size=len(prompt)), {"uid": uids})
    batch = compute_advantage(batch, config.algorithm.adv_estimator, config=config.algorithm)
    loss, _ = get_policy_loss_fn("vanilla")(
        old_log_prob=logprobs.detach(),
        log_prob=logprobs,
        advantages=batch.batch["advantages"],
        response_mask=mask,
        loss_agg_mode=actor.loss_agg_mode,
        config=actor,
    )
    before = policy.weight.detach().clone()
    loss.backward(retain_graph=True)
    optimizer.step()

    advantages = tea(rewards.sum(1).view(ROLLOUTS, PROMPTS).T, deploy_n=64).T.flatten()
    objective = (advantages[:, None] * logprobs * mask).sum() / mask.sum()
    (expected,) = torch.autograd.grad(objective, policy.weight)
    assert actor.loss_agg_mode == "token-mean"
    torch.testing.assert_close(policy.weight - before, expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().max() > 0.01
