"""Fit a policy from scratch: first on plain text, then on instructions and answers.

    python experiments/small-instruct/policy.py --name small|large --out DIR

`--out` holds the text of `prompts.py`. `small` is of Llama type with 1.0 million parameters, `large` of Qwen3 type
with 4.0 million. The text is packed into windows of 128 tokens and read once in order (`plain.jsonl` once, `tune.jsonl`
as often as `--epochs` says), with one cosine schedule. The policy goes to `--out`/policies/NAME with fit.json (losses)
and samples.md. An interrupted fit is taken up from its last checkpoint, if it was begun with the same
settings.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from tailgrad.files import replacing_folder
from tailgrad.identity import file_sha256
from tailgrad.training.progress import StepBar

sys.path.append(str(Path(__file__).resolve().parents[1] / "first-real-run"))
from fit_policy import held_out_loss, new_tokenizer
from fit_policy import texts_of as instruction_texts
from unfinished import take_up

VOCABULARY = 2048
WINDOW = 128
WINDOWS_A_BATCH = 64
IGNORED = -100
SAMPLES = 8


def policy_of(name: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """An untrained policy with tied embeddings."""
    common = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if name == "small":
        sizes = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(**common, **sizes, num_key_value_heads=1))
    sizes = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 5, "num_attention_heads": 4}
    return Qwen3ForCausalLM(Qwen3Config(**common, **sizes, num_key_value_heads=2, head_dim=64))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts_of(out: Path) -> Iterator[str]:
    """All text, for the tokenizer."""
    yield from (row["text"] for row in read_rows(out / "plain.jsonl"))
    yield from instruction_texts(out / "tune.jsonl")


def shared_tokenizer(out: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of both policies; made by whichever is fitted first."""
    folder = out / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        with replacing_folder(folder) as unfinished:
            new_tokenizer(texts_of(out), VOCABULARY).save_pretrained(unfinished)
    return AutoTokenizer.from_pretrained(folder)


def plain_windows(out: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Plain text as one stream of tokens, cut into windows."""
    stream: list[int] = []
    for row in read_rows(out / "plain.jsonl"):
        stream += [*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]
        while len(stream) >= WINDOW:
            yield stream[:WINDOW]
            stream = stream[WINDOW:]


def chat_windows(rows: Iterable[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Whole chats, as many to a window as fit; a window begins with a chat, as a prompt does."""
    window: list[int] = []
    for row in rows:
        ids = tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"][:WINDOW]
        if len(window) + len(ids) > WINDOW:
            yield window
            window = []
        window = window + ids
    yield window


def fitting_windows(
    out: Path, tokenizer: PreTrainedTokenizerBase, *, plain_share: float, epochs: int, seed: int
) -> Dataset:
    """Windows in the order in which they are read; the rest of a window is padding without a label."""
    windows = list(plain_windows(out, tokenizer))
    windows = windows[: round(plain_share * len(windows))]
    rows = read_rows(out / "tune.jsonl")
    for epoch in range(epochs):
        random.Random(seed + epoch).shuffle(rows)
        windows += chat_windows(rows, tokenizer)
    missing = [WINDOW - len(ids) for ids in windows]
    return Dataset.from_dict(
        {
            "input_ids": [ids + [tokenizer.pad_token_id] * gap for ids, gap in zip(windows, missing, strict=True)],
            "labels": [ids + [IGNORED] * gap for ids, gap in zip(windows, missing, strict=True)],
        }
    )


def settings(folder: Path, learning_rate: float, seed: int, precision: str) -> TrainingArguments:
    """One pass in order."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=WINDOWS_A_BATCH,
        train_sampling_strategy="sequential",
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        weight_decay=0.1,
        adam_beta2=0.98,
        bf16=precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=20,
        save_steps=100,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )


@torch.no_grad()
def write_samples(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, path: Path) -> None:
    """Greedy and sampled answers to the first held-out instructions of both prompt sets, without constraints."""
    lines = ["| instruction | most likely answer | sampled answer |", "|---|---|---|"]
    asked = [row["instruction"] for name in ("alpaca", "hh") for row in read_rows(out / f"{name}-test.jsonl")[:SAMPLES]]
    for instruction in asked:
        prompt = [{"role": "user", "content": instruction}]
        given = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt")
        answers = [
            model.generate(**given, max_new_tokens=40, do_sample=sampled)[0, given["input_ids"].shape[1] :]
            for sampled in (False, True)
        ]
        texts = (tokenizer.decode(ids, skip_special_tokens=True).replace("|", " ").strip() for ids in answers)
        lines.append(f"| {instruction} | {' | '.join(texts)} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def fit(
    name: str, out: Path, *, plain_share: float, epochs: int, learning_rate: float, seed: int, precision: str
) -> None:
    """Fit one policy and save it with its losses and samples."""
    folder, texts = out / "policies" / name, {part: file_sha256(out / f"{part}.jsonl") for part in ("plain", "tune")}
    given = {"plain_share": plain_share, "epochs": epochs, "learning_rate": learning_rate, "precision": precision}
    last = take_up(folder / "fit", {"seed": seed, **given, **texts})
    set_seed(seed)
    tokenizer = shared_tokenizer(out)
    windows = fitting_windows(out, tokenizer, plain_share=plain_share, epochs=epochs, seed=seed)
    trainer = Trainer(
        model=policy_of(name, tokenizer),
        args=settings(folder / "fit", learning_rate, seed, precision),
        train_dataset=windows,
        data_collator=default_data_collator,
        processing_class=tokenizer,
        callbacks=[StepBar()],
    )
    trainer.train(resume_from_checkpoint=last)
    model = trainer.model.cpu().eval()
    loss = held_out_loss(model, tokenizer, out / "eval.jsonl")
    trainer.save_model(str(folder))
    write_samples(model, tokenizer, out, folder / "samples.md")
    record = {
        "parameters": model.num_parameters(),
        "tokens": sum(label != IGNORED for labels in windows["labels"] for label in labels),
        "held_out_loss": loss,
        "held_out_perplexity": math.exp(loss),
        "seed": seed,
        "precision": precision,
        "log": trainer.state.log_history,
    }
    (folder / "fit.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"held-out loss {loss:.3f}, perplexity {math.exp(loss):.1f}, {record['parameters']:,} parameters")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", choices=("small", "large"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder with the text of prompts.py")
    parser.add_argument("--plain_share", type=float, default=1.0, help="share of the plain text that is read")
    parser.add_argument("--epochs", type=int, default=2, help="passes over the instructions")
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the products; weights are float32"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {key: getattr(args, key) for key in ("plain_share", "epochs", "learning_rate", "seed", "precision")}
    fit(args.name, args.out, **options)


if __name__ == "__main__":
    main()
