"""The quickstart's base policy: a word tokenizer and a causal language model of 0.4 million parameters, fitted here."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from tailgrad._version import __version__
from tailgrad.files import replacing_folder, restore_folder
from tailgrad.quickstart.corpus import MAX_RESPONSE_TOKENS, build_corpus
from tailgrad.quickstart.lexicon import CLASS_OF, TOPICS
from tailgrad.quickstart.task import LENGTHS, LETTERS, LIST_LENGTHS, TEMPLATES

FIT: Final[dict[str, Any]] = {
    "pairs": 24_000,
    "epochs": 1,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "seed": 0,
}
"""How the base policy is fitted; part of the cache's key."""
FIT_STEPS: Final[int] = FIT["pairs"] * FIT["epochs"] // FIT["batch_size"]
_RECORD: Final = "tailgrad_fit.json"


def is_fitted(folder: Path, *, fit: dict[str, Any] = FIT) -> bool:
    """Return whether `folder` holds a base policy fitted in this way by this version."""
    try:
        found = json.loads((folder / _RECORD).read_text())
    except (OSError, ValueError):
        return False
    return bool(found == {"tailgrad_version": __version__, **fit})


def check_place(folder: Path) -> None:
    """Refuse a folder that holds something else than a base policy that was fitted here: a fit would replace it.

    Args:
        folder: Where a base policy is to be fitted.

    Raises:
        ValueError: The folder is a file, or has files and no record of a fit.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / _RECORD).is_file()):
        raise ValueError(
            f"{str(folder)!r} holds something else than a base policy of the quickstart, which would be fitted in its "
            "place. Give --base an empty or a new folder."
        )


def fit_base_policy(folder: Path, *, fit: dict[str, Any] = FIT) -> Path:
    """Fit the base policy to the reference corpus, unless `folder` holds one fitted in the same way.

    Args:
        folder: Where the model and its tokenizer are kept, in the Hugging Face layout.
        fit: `pairs` of the corpus, `epochs`, `batch_size`, `learning_rate` and `seed`.

    Returns:
        `folder`.

    Raises:
        ValueError: `folder` holds something else, which the fit would replace.
    """
    restore_folder(folder)
    if is_fitted(folder, fit=fit):
        return folder
    check_place(folder)
    with replacing_folder(folder) as unfinished:
        _fit(unfinished, fit)
        (unfinished / _RECORD).write_text(json.dumps({"tailgrad_version": __version__, **fit}))
    return folder


def _fit(folder: Path, fit: dict[str, Any]) -> None:
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    from tailgrad.training.progress import StepBar

    set_seed(fit["seed"])
    tokenizer = build_tokenizer()
    config = SFTConfig(
        output_dir=str(folder / "fit"),
        per_device_train_batch_size=fit["batch_size"],
        num_train_epochs=fit["epochs"],
        learning_rate=fit["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=50,
        adam_beta2=0.95,
        seed=fit["seed"],
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        disable_tqdm=True,
    )
    corpus = Dataset.from_list(build_corpus(fit["pairs"], fit["seed"]))
    trainer = SFTTrainer(build_model(tokenizer), config, train_dataset=corpus, processing_class=tokenizer)
    trainer.add_callback(StepBar())
    trainer.train()
    shutil.rmtree(folder / "fit", ignore_errors=True)
    trainer.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build_tokenizer() -> Any:
    """Return the task's tokenizer: one entry a word, lower case, at most 512 entries."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain_words = re.findall(r"[a-z]+", " ".join(re.sub(r"\{\w+\}", " ", text) for text in TEMPLATES.values()))
    numbers = [str(n) for n in sorted({*LENGTHS, *LIST_LENGTHS})]
    words = [*TOPICS, *CLASS_OF, *plain_words, *numbers, *LETTERS, "answer", ":"]
    entries = list(dict.fromkeys(["<pad>", "<end>", "<unk>", *words]))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(entries)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        padding_side="left",
    )


def build_model(tokenizer: Any) -> Any:
    """Return the policy with fresh weights: a Llama-type model for this tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        initializer_range=0.1,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64 + MAX_RESPONSE_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


if __name__ == "__main__":  # `tailgrad quickstart` fits in a process of its own, whose memory goes back when it ends
    fit_base_policy(Path(sys.argv[1]))
