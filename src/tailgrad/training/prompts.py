"""The prompts of a training: the rows and the checks of `tailgrad sample`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import AutoConfig, AutoProcessor, PreTrainedTokenizerBase
from trl import DatasetMixtureConfig, get_dataset

from tailgrad.models.loading import model_errors
from tailgrad.models.token_ids import check_fit
from tailgrad.rollouts.chats import check_prompt, check_prompts
from tailgrad.rollouts.data_sets import local_path, reading, stream_rows, without_guessed_dates
from tailgrad.rollouts.prompts import load_prompts, split_of, tokenize_prompts, with_prompt_column
from tailgrad.training.config import TailGRPOConfig

if TYPE_CHECKING:
    from tailgrad.training.launch import TrainArguments


def load_split(
    script: TrainArguments,
    config: TailGRPOConfig,
    mixture: DatasetMixtureConfig,
    policy: str,
    revision: str | None,
    split: str,
) -> Any:
    """Return one split of the data set, its prompts in the column `prompt`, checked for the policy before it is loaded.

    A stream from the hub is checked prompt by prompt when it becomes rollouts.

    Args:
        script: Names the data set.
        config: The training's configuration.
        mixture: Data sets to mix; they come before the one that `script` names.
        policy: Hub name or local folder.
        revision: The policy's branch, tag or commit of the hub.
        split: The split.

    Returns:
        A memory-mapped `datasets.Dataset`, the one that `tailgrad sample` reads; of a stream from the hub a
        `datasets.IterableDataset`.

    Raises:
        FileNotFoundError: The data set or the policy is not there.
        ValueError: No data set is named, or the policy cannot take a prompt.
    """
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": config.trust_remote_code}
    with model_errors(policy, "policy"):
        processor = AutoProcessor.from_pretrained(policy, **options)
        model_config = AutoConfig.from_pretrained(policy, **options)
    reads_text_alone = isinstance(processor, PreTrainedTokenizerBase)
    rows, source = _read(script, mixture, split, pictures=not reads_text_alone)
    if isinstance(rows, Dataset) and reads_text_alone:
        check_fit(
            tokenize_prompts(processor, rows["prompt"], config.chat_template_kwargs, source=source),
            processor,
            model_config,
            model=policy,
            new_tokens=config.max_completion_length,
            source=source,
        )
    return rows


def streamed(script: TrainArguments, rows: Any) -> Any:
    """Return the rows as a stream where one is asked for: of a local file that is read whole, to be checked whole.

    Args:
        script: Says so.
        rows: From `load_split`; None is none.
    """
    return rows.to_iterable_dataset() if script.dataset_streaming and isinstance(rows, Dataset) else rows


def _check_one_source(script: TrainArguments, mixture: DatasetMixtureConfig) -> None:
    """Refuse two names of data, and a way to read the other one."""
    if mixture.datasets and script.dataset_name:
        raise ValueError(
            f"datasets (of the config file) and dataset_name = {script.dataset_name!r} are both given, and a training "
            "takes one: leave one out."
        )
    if mixture.datasets and script.dataset_streaming:
        raise ValueError("dataset_streaming is for dataset_name; for datasets of a config file give streaming: true.")
    if mixture.streaming and not mixture.datasets:
        raise ValueError("streaming is for datasets of a config file; for dataset_name give --dataset_streaming true.")


def _read(script: TrainArguments, mixture: DatasetMixtureConfig, split: str, *, pictures: bool) -> tuple[Any, str]:
    """The rows and what error messages call them."""
    _check_one_source(script, mixture)
    options: dict[str, Any] = {"prompt_column": script.prompt_column, "pictures": pictures}
    split_option = "dataset_train_split" if split == script.dataset_train_split else "dataset_test_split"
    if mixture.datasets:
        source = "the mixture of data sets"
        with reading("a data set of the mixture"):
            splits = get_dataset(replace(mixture, test_split_size=None))  # TRL's own hold-out follows no seed
        rows = split_of(without_guessed_dates(splits, source), split, source, split_option)
        rows = with_prompt_column(rows, source, **options)
        if not isinstance(rows, Dataset):
            return _checked_stream(rows, source, pictures), source
        check_prompts(rows["prompt"], source, pictures=pictures)
        return rows, source
    if not script.dataset_name:
        raise ValueError("No prompts given. Use --dataset_name with a hub name, a folder or a file.")
    source = f"data set {script.dataset_name!r}"
    if script.dataset_streaming and local_path(script.dataset_name) is None:
        rows = with_prompt_column(stream_rows(script.dataset_name, script.dataset_config, split), source, **options)
        return _checked_stream(rows, source, pictures), source
    options |= {"split": split, "split_option": split_option}
    return load_prompts(script.dataset_name, config=script.dataset_config, **options).rows, source


def _checked_stream(rows: Any, source: str, pictures: bool) -> Any:
    return rows.filter(_is_prompt, with_indices=True, fn_kwargs={"source": source, "pictures": pictures})


def _is_prompt(row: dict[str, Any], number: int, source: str, pictures: bool) -> bool:
    """True; what is no prompt is an error when it passes."""
    check_prompt(row["prompt"], f"{source}: the prompt in row {number} (counted from 0)", pictures=pictures)
    return True
