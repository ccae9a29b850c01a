"""The same question on the quickstart's task: four steps on each batch of rollouts, `max_at_k` with k = 4, 100 steps.

    python -m tailgrad.quickstart.policy BASE
    python experiments/off-policy/language_model.py --base BASE --out DIR

Prints, for each further step on a batch, how far the policy has moved (standard deviation of the log-ratios of a group)
and how much the correction changes (the cosine of what the loss has with and without it); then V_N on the test prompts
of the policies trained with and without.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from tailgrad.quickstart.corpus import MAX_RESPONSE_TOKENS
from tailgrad.quickstart.task import build_prompts, verifier
from tailgrad.tails import max_at_k_forecast
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer

ITERATIONS, STEPS, RESPONSES = 4, 100, 192
SEEDS = (0, 1)


class Watching(TailGRPOTrainer):
    """Keeps the spread of the log-ratios and the cosine at each further step; trains with or without the correction."""

    corrects: bool
    seen: list[tuple[float, float]]

    def estimate_advantages(
        self, rewards_per_func: Tensor, num_generations: int, log_ratios: Tensor | None = None
    ) -> Tensor:
        """Estimate as the trainer does, or leave the advantages as they were when the rollouts were drawn."""
        drawn = super().estimate_advantages(rewards_per_func, num_generations, None)
        if log_ratios is None:
            return drawn
        now = super().estimate_advantages(rewards_per_func, num_generations, log_ratios)
        weighted = (log_ratios.exp() * advantages for advantages in (now, drawn))
        spread = log_ratios.view(-1, num_generations).std(dim=1).mean()
        self.seen.append((float(spread), float(torch.cosine_similarity(*weighted, dim=0))))
        return now if self.corrects else drawn


def train(base: str, out: Path, seed: int, corrects: bool) -> list[tuple[float, float]]:
    """Train into `out` with the settings of the quickstart."""
    args = TailGRPOConfig(
        output_dir=str(out),
        estimator="max_at_k:k=4",
        num_generations=16,
        deploy_n=128,
        advantage_scaling="batch",
        beta=0.02,
        learning_rate=3e-4,
        warmup_steps=5,
        max_steps=STEPS,
        lr_scheduler_type="constant_with_warmup",
        per_device_train_batch_size=128,
        seed=seed,
        num_iterations=ITERATIONS,
        off_policy_correction=True,
        max_completion_length=MAX_RESPONSE_TOKENS,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        gradient_checkpointing=False,
        logging_steps=STEPS,
    )
    trainer = Watching(base, verifier, args, Dataset.from_list(build_prompts("train")))
    trainer.corrects, trainer.seen = corrects, []
    trainer.train()
    trainer.save_model(str(out))
    return trainer.seen


def test_rewards(policy: str) -> Tensor:
    """Rewards of sampled responses to the test prompts, `[P, RESPONSES]`."""
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    model = AutoModelForCausalLM.from_pretrained(policy).eval()
    rewards: list[float] = []
    for row in build_prompts("test"):
        tokens = tokenizer([row["prompt"]], return_tensors="pt")["input_ids"].expand(RESPONSES, -1)
        found = model.generate(tokens, do_sample=True, top_k=0, max_new_tokens=MAX_RESPONSE_TOKENS)
        texts = tokenizer.batch_decode(found[:, tokens.shape[1] :], skip_special_tokens=True)
        rewards += verifier(completions=texts, **{name: [value] * RESPONSES for name, value in row.items()})
    return torch.tensor(rewards).view(-1, RESPONSES)


def main() -> None:
    """Train, watch, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="folder of the quickstart's base policy")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained policies")
    given = parser.parse_args()
    for seed in SEEDS:
        values = []
        for corrects in (False, True):
            folder = given.out / f"{'corrected' if corrects else 'plain'}-{seed}"
            seen = train(given.base, folder, seed, corrects)
            for step in range(ITERATIONS - 1):
                spread, cosine = torch.tensor(seen[step :: ITERATIONS - 1]).mean(dim=0).tolist()
                print(f"{folder.name}, step {step + 2} of {ITERATIONS}: spread {spread:.2f}, cosine {cosine:.3f}")
            values.append(max_at_k_forecast(test_rewards(str(folder)), deploy_n=128))
            print(f"{folder.name}: V_128 {values[-1].mean():.2f}", flush=True)
        difference = values[1] - values[0]
        half_width = 1.96 * difference.std() / len(difference) ** 0.5
        print(f"seed {seed}: {difference.mean():+.2f} +- {half_width:.2f} over prompts")


if __name__ == "__main__":
    main()
