"""Train a Bradley-Terry reward model on human preference pairs, from the policy's own folder.

    python experiments/smollm2/reward_model.py --data DIR|Anthropic/hh-rlhf [--exclude FILE ...]

TRL's `RewardTrainer` with LoRA on every linear layer and a new score head; the adapter is merged at the end. Length is
held level in the training pairs (`preference_pairs.py`); the held-out pairs are as they come. `--out` becomes a reward
model as `tailgrad train|sample|score --reward_model_name_or_path` take it, with accuracy.md and accuracy.json: how
often it is right on the held-out pairs, beside "the longer answer wins". No pair's first question is one of the prompts
in the files of `--exclude`. An interrupted training is taken up from its last checkpoint, in `--out`/fit; one that was
begun with other pairs or settings is refused.
"""

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from pair_report import accuracies, as_json, length_correlation, table
from peft import LoraConfig
from preference_pairs import Pair, counted, level, normalised, read_pairs, split_by_prompt
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer
from unfinished import take_up

from tailgrad.display.cells import interval_cell, interval_numbers
from tailgrad.identity import model_sha256, sha256_of
from tailgrad.rewards import RewardModel
from tailgrad.training.resume import step_of

HERE = Path(__file__).resolve().parent
DECIDES = ("epochs", "learning_rate", "dtype", "seed")
"""Options that decide a fit, besides the model and the pairs."""
MOST_TOKENS = 256
"""Of a chat with its answer."""
PAIRS_PER_STEP, PAIRS_AT_ONCE = 16, 4
SAVED_EVERY = 20
"""Steps between checkpoints."""


def excluded_prompts(files: list[Path]) -> set[str]:
    """Last user turns of prompt files, without the constraints behind them."""
    rows = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return {normalised(row.get("instruction") or row["prompt"][-1]["content"]) for row in rows}


def padding_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's padding, or where that also ends a text, its token for what is unknown."""
    apart = tokenizer.pad_token is not None and tokenizer.pad_token != tokenizer.eos_token
    return str(tokenizer.pad_token if apart else tokenizer.unk_token)


def prepared(
    data: str, tokenizer: PreTrainedTokenizerBase, excluded: set[str], *, seed: int, limit: int | None
) -> tuple[list[Pair], list[Pair]]:
    """Level training pairs and held-out pairs.

    Raises:
        ValueError: No pair is left on one side.
    """

    def tokens_of(chat: list[dict[str, str]]) -> int:
        return len(tokenizer.apply_chat_template(chat)["input_ids"])

    generator = random.Random(seed)
    usable = [pair for pair in read_pairs(data) if pair.first not in excluded]
    train, held_out = split_by_prompt(counted(usable, tokens_of, MOST_TOKENS), generator)
    train = level(train, generator)[:limit]
    held_out = held_out[:limit]
    if not train or not held_out:
        raise ValueError(f"{data} has no pairs left: {len(usable)} usable ones, {len(train)} to train on.")
    return train, held_out


def as_dataset(pairs: list[Pair]) -> Dataset:
    """The pairs in TRL's conversational preference format."""
    return Dataset.from_list([{which: pair.chat(which) for which in ("chosen", "rejected")} for pair in pairs])


def reward_settings(args: argparse.Namespace) -> RewardConfig:
    """Settings of TRL's `RewardTrainer`."""
    return RewardConfig(
        output_dir=str(args.out / "fit"),
        num_train_epochs=args.epochs,
        learning_rate=args.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=10,
        per_device_train_batch_size=PAIRS_AT_ONCE,
        gradient_accumulation_steps=PAIRS_PER_STEP // PAIRS_AT_ONCE,
        center_rewards_coefficient=0.01,
        max_length=None,  # long pairs are gone already
        logging_steps=10,
        save_steps=SAVED_EVERY,
        save_total_limit=1,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=args.dtype == "bfloat16",
        gradient_checkpointing=False,
        seed=args.seed,
    )


def what_decides(args: argparse.Namespace, pairs: list[Pair]) -> dict[str, Any]:
    """What two fits must share for one to go on with the other's checkpoints."""
    turns = [[pair.chat("chosen"), pair.chat("rejected")] for pair in pairs]
    model = {"model": str(args.model_name_or_path), "model_files": model_sha256(args.model_name_or_path)}
    return {**model, "pairs": sha256_of(turns), **{name: getattr(args, name) for name in DECIDES}}


def fit(
    args: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, pairs: list[Pair], last: str | None
) -> float | None:
    """Train from the last checkpoint on, if there is one, and save; the seconds per step are returned."""
    adapter = LoraConfig(
        task_type="SEQ_CLS", r=16, lora_alpha=32, target_modules="all-linear", modules_to_save=["score"]
    )
    trainer = RewardTrainer(
        model=str(args.model_name_or_path),
        args=reward_settings(args),
        train_dataset=as_dataset(pairs),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    done = step_of(last)  # before the checkpoint is removed
    result = trainer.train(resume_from_checkpoint=last)
    steps = trainer.state.max_steps - done
    trainer.model.merge_and_unload().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    return float(result.metrics["train_runtime"]) / steps if steps else None


def scores_of(model: RewardModel, pairs: list[Pair]) -> np.ndarray:
    """Scores of the chosen and the rejected answer of each pair."""
    prompts = [pair.prompt for pair in pairs]
    given = ([pair.answer(which) for pair in pairs] for which in ("chosen", "rejected"))
    return np.stack([model(prompts=prompts, completions=answers) for answers in given], axis=1)


def report(out: Path, train: list[Pair], held_out: list[Pair], seconds: float | None) -> str:
    """Score the held-out pairs, and write accuracy.md and accuracy.json."""
    scores = scores_of(RewardModel(str(out)), held_out)
    found = accuracies(held_out, scores[:, 0] - scores[:, 1])
    correlation = length_correlation(held_out, scores)
    text = (
        f"{table(found)}\n\nSpearman's correlation of score and tokens over the held-out answers: "
        f"{interval_cell(correlation, 0, 2)}. Trained on {len(train):,} pairs.\n"
    )
    numbers = {
        "held_out": as_json(found),
        "length_correlation": interval_numbers(correlation, 0),
        "train_pairs": len(train),
        "seconds_per_step": seconds,
    }
    (out / "accuracy.md").write_text(text, encoding="utf-8")
    (out / "accuracy.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return text


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the pairs, or a data set of the hub")
    parser.add_argument("--model_name_or_path", type=Path, default=HERE / "artifacts" / "policy", help="where to start")
    parser.add_argument("--out", type=Path, default=HERE / "artifacts" / "reward-model", help="folder for the model")
    parser.add_argument("--exclude", type=Path, nargs="+", default=[], help="prompt files that no pair may be from")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--limit", type=int, help="most pairs to train on, and to hold out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path, padding_side="right")
    tokenizer.pad_token = padding_token(tokenizer)
    try:
        excluded = excluded_prompts(args.exclude)
        train, held_out = prepared(args.data, tokenizer, excluded, seed=args.seed, limit=args.limit)
        last = take_up(args.out / "fit", what_decides(args, train))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{len(train):,} pairs to train on, {len(held_out):,} held out", flush=True)
    seconds = fit(args, tokenizer, train, last)
    print(report(args.out, train, held_out, seconds))
    shutil.rmtree(args.out / "fit")


if __name__ == "__main__":
    main()
