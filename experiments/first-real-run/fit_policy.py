"""Fit the small starting policy: a byte-pair tokenizer and a Llama-type model of 2.4 million parameters.

    python experiments/first-real-run/fit_policy.py --data DIR --out DIR

`--out` holds the prompt files of `make_prompts.py` (made first if missing); the policy goes to
`--out`/policy. An interrupted fit is taken up from its last checkpoint, if it was begun with the same
settings.
"""

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from make_prompts import make_prompts
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from unfinished import take_up

from tailgrad.identity import file_sha256

VOCABULARY = 3072
ROWS_A_BATCH = 32
MEAN_TOKENS = 50
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def new_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on these texts, with a chat template of two role tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=special[2:],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def texts_of(rows: Path) -> Iterator[str]:
    """Instructions and answers of the fitting rows."""
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield from (turn["content"] for turn in row["prompt"] + row["completion"])


def new_policy(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama-type model with tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def token_ids(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """Token ids of an instruction and its answer, every one a label."""
    ids = tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"]
    return {"input_ids": ids, "labels": ids}


def nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood summed over the labelled tokens."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


def fitting_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Loss of a batch that weighs every token the same.

    Batches are grouped by length: a mean over each batch would weigh the tokens of short rows more and so
    teach the policy to end too early.
    """
    return nats(outputs.logits, labels) / (ROWS_A_BATCH * MEAN_TOKENS)


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Path) -> float:
    """Nats per response token (its end token included) of the held-out answers."""
    total, tokens = 0.0, 0
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"]
        ids = torch.tensor([whole])
        labels = ids.clone()
        labels[0, : len(prompt)] = -100
        total += nats(model(ids).logits, labels).item()
        tokens += len(whole) - len(prompt)
    return total / tokens


def fitting_settings(out: Path, steps: int, seed: int) -> TrainingArguments:
    """Settings of the fit; the loss is on instructions and answers."""
    return TrainingArguments(
        output_dir=str(out / "fit"),
        max_steps=steps,
        per_device_train_batch_size=ROWS_A_BATCH,
        train_sampling_strategy="group_by_length",
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=100,
        weight_decay=0.1,
        adam_beta2=0.98,
        use_cpu=True,
        logging_steps=50,
        save_steps=300,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )


def fit_policy(data: Path, out: Path, *, steps: int, seed: int) -> None:
    """Fit tokenizer and model, save them to `out`/policy with the held-out loss in fit.json."""
    if not (out / "fit.jsonl").exists():
        make_prompts(data, out, seed)
    last = take_up(out / "fit", {"steps": steps, "seed": seed, "rows": file_sha256(out / "fit.jsonl")})
    set_seed(seed)
    tokenizer = new_tokenizer(texts_of(out / "fit.jsonl"), VOCABULARY)
    rows = load_dataset("json", data_files=str(out / "fit.jsonl"), split="train")
    trainer = Trainer(
        model=new_policy(tokenizer),
        args=fitting_settings(out, steps, seed),
        train_dataset=rows.map(lambda row: token_ids(row, tokenizer), remove_columns=rows.column_names),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
        compute_loss_func=fitting_loss,
    )
    trainer.train(resume_from_checkpoint=last)
    loss = held_out_loss(trainer.model.eval(), tokenizer, out / "eval.jsonl")
    trainer.save_model(str(out / "policy"))
    record = {
        "parameters": trainer.model.num_parameters(),
        "steps": steps,
        "seed": seed,
        "fit_rows": len(rows),
        "held_out_loss": loss,
        "held_out_perplexity": math.exp(loss),
        "log": trainer.state.log_history,
    }
    (out / "policy" / "fit.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"held-out loss {loss:.3f}, perplexity {math.exp(loss):.1f}, {record['parameters']:,} parameters")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with alpaca.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for prompts and policy")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    fit_policy(args.data, args.out, steps=args.steps, seed=args.seed)


if __name__ == "__main__":
    main()
