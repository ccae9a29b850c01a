"""Train a small Bradley-Terry reward model on human preference pairs, with both answers cut to the same length.

    python experiments/first-real-run/reward_model.py --data DIR --out DIR [--policy DIR] [--exclude FILE ...]

The longer answer is the preferred one so often that a model trained on whole answers learns to count words. Here
both answers of a pair are cut to as many tokens as the shorter one has. The model starts from `--policy` (default:
`--out`/policy of `fit_policy.py`) and goes to `--out`/reward-model with accuracy.json: accuracy on held-out pairs, cut
and whole, beside that of "the longer answer wins". No pair shares its instruction with the prompt files of `--exclude`
(default: those of `make_prompts.py` in `--out`).
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from make_prompts import count, normalised, read_lines
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from tailgrad.rewards import RewardModel

HELD_OUT_SHARE = 0.2
MOST_TOKENS = 48
LEAST_TOKENS = 4
Pair = dict[str, str]


def read_pairs(data: Path) -> list[Pair]:
    """Human pairs with a clear majority: `prompt` (the last human turn, at most 60 words), `first` turn, answers."""
    pairs = [
        {
            "prompt": row["turns"][-1][1],
            "first": row["first_prompt"],
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
        for row in read_lines(data, "hh_helpful_pairs")
    ]
    for row in read_lines(data, "human_pairs_misc"):
        for_a, for_b = row["votes"].count(1), row["votes"].count(2)
        if for_a != for_b:
            chosen, rejected = ("a", "b") if for_a > for_b else ("b", "a")
            asked = {"prompt": row["prompt"], "first": row["prompt"]}
            pairs.append(asked | {"chosen": row[chosen], "rejected": row[rejected]})
    return [pair for pair in pairs if all(pair.values()) and count(pair["prompt"]) <= 60]


def cut(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> Pair | None:
    """The pair with both answers as long as the shorter one, or None where too little is left to tell them apart."""
    chosen, rejected = (tokenizer(pair[name].strip())["input_ids"] for name in ("chosen", "rejected"))
    length = min(len(chosen), len(rejected), MOST_TOKENS)
    if length < LEAST_TOKENS or chosen[:length] == rejected[:length]:
        return None
    texts = (tokenizer.decode(ids[:length]) for ids in (chosen, rejected))
    return {"prompt": pair["prompt"], **dict(zip(("chosen", "rejected"), texts, strict=True))}


def split_by_prompt(pairs: list[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; a prompt's pairs are all on one side."""
    prompts = sorted({normalised(pair["prompt"]) for pair in pairs})
    random.Random(seed).shuffle(prompts)
    held_out = set(prompts[: round(HELD_OUT_SHARE * len(prompts))])
    parts: tuple[list[Pair], list[Pair]] = [], []
    for pair in pairs:
        parts[normalised(pair["prompt"]) in held_out].append(pair)
    return parts


def as_messages(pair: Pair) -> dict[str, list[Pair]]:
    """The pair in TRL's conversational preference format."""
    return {
        "prompt": [{"role": "user", "content": pair["prompt"]}],
        "chosen": [{"role": "assistant", "content": pair["chosen"]}],
        "rejected": [{"role": "assistant", "content": pair["rejected"]}],
    }


def right_share(margins: np.ndarray) -> list[float]:
    """Share of positive margins (half of the zeros with them), and its standard error."""
    right = np.where(margins == 0, 0.5, margins > 0)
    return [round(float(right.mean()), 4), round(float(right.std(ddof=1) / len(right) ** 0.5), 4)]


def margins_of(model: RewardModel, pairs: list[Pair]) -> np.ndarray:
    """Score of the chosen answer less that of the rejected one."""
    messages = [as_messages(pair) for pair in pairs]
    prompts = [row["prompt"] for row in messages]
    chosen, rejected = (
        np.array(model(prompts=prompts, completions=[row[name] for row in messages])) for name in ("chosen", "rejected")
    )
    return chosen - rejected


def word_margins(pairs: list[Pair]) -> np.ndarray:
    """Words of the chosen answer less those of the rejected one."""
    return np.array([count(pair["chosen"]) - count(pair["rejected"]) for pair in pairs])


def reward_settings(out: Path, *, epochs: int, learning_rate: float, seed: int) -> RewardConfig:
    """Settings of TRL's `RewardTrainer`."""
    return RewardConfig(
        output_dir=str(out / "reward-model" / "fit"),
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        per_device_train_batch_size=32,
        warmup_steps=20,
        weight_decay=0.1,
        center_rewards_coefficient=0.01,
        logging_steps=20,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        seed=seed,
    )


def train_reward_model(
    data: Path, out: Path, policy: Path, excluded: list[Path], *, epochs: int, learning_rate: float, seed: int
) -> None:
    """Train, save to `out`/reward-model and write accuracy.json there."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    lines = [line for path in excluded for line in path.read_text(encoding="utf-8").splitlines()]
    taken = {normalised(json.loads(line)["instruction"]) for line in lines}
    whole = [pair for pair in read_pairs(data) if not taken & {normalised(pair["prompt"]), normalised(pair["first"])}]
    train, held_out = split_by_prompt([pair for pair in whole if cut(pair, tokenizer)], seed)
    cut_train, cut_held_out = ([cut(pair, tokenizer) for pair in part] for part in (train, held_out))
    settings = reward_settings(out, epochs=epochs, learning_rate=learning_rate, seed=seed)
    torch.manual_seed(seed)  # the score head starts at random
    model = AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1)
    dataset = Dataset.from_list([as_messages(pair) for pair in cut_train])
    trainer = RewardTrainer(model=model, args=settings, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(out / "reward-model"))
    reward = RewardModel(str(out / "reward-model"), device="cpu")
    accuracy = {
        "train_pairs": len(train),
        "held_out_pairs": len(held_out),
        "model_cut_train": right_share(margins_of(reward, cut_train)),
        "model_cut": right_share(margins_of(reward, cut_held_out)),
        "model_whole": right_share(margins_of(reward, held_out)),
        "longer_wins_cut": right_share(word_margins(cut_held_out)),
        "longer_wins_whole": right_share(word_margins(held_out)),
    }
    (out / "reward-model" / "accuracy.json").write_text(json.dumps(accuracy, indent=1) + "\n")
    print(json.dumps(accuracy, indent=1))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with hh_helpful_pairs and human_pairs_misc")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reward model")
    parser.add_argument("--policy", type=Path, help="the model to start from")
    parser.add_argument("--exclude", type=Path, nargs="+", help="prompt files whose instructions no pair may share")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    excluded = args.exclude or [args.out / f"{name}.jsonl" for name in ("rl", "choose", "test")]
    options = {key: getattr(args, key) for key in ("epochs", "learning_rate", "seed")}
    train_reward_model(args.data, args.out, args.policy or args.out / "policy", excluded, **options)


if __name__ == "__main__":
    main()
