"""Policies that did not sample the table, and tables that cannot be differentiated: refused before the work."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from tailgrad.fidelity import gradient_store
from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.rollouts import SampleConfig, read_rollouts, sample
from tailgrad.rollouts.table import read_metadata, write_table


def test_another_policy_is_refused(pool: dict[str, Any], make_policy: Callable[..., Path]) -> None:
    other = make_policy("other", seed=1, pad_token="[PAD]")
    with pytest.raises(ValueError, match=r"is not the policy that sampled .* nats per token"):
        sketch_gradients(GradientConfig(**pool | {"model_name_or_path": str(other)}))


def test_after_a_refusal_the_right_policy_is_taken(pool: dict[str, Any], make_policy: Callable[..., Path]) -> None:
    other = make_policy("other", seed=1, pad_token="[PAD]")
    with pytest.raises(ValueError, match="is not the policy that sampled"):
        sketch_gradients(GradientConfig(**pool | {"model_name_or_path": str(other)}))
    assert len(sketch_gradients(GradientConfig(**pool))) == 5


def change_table(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    columns, metadata = pq.read_table(path).to_pydict(), read_metadata(path)
    change(columns, metadata)
    write_table(path, columns, metadata)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_is_not_another_policy(options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    """Also where single responses are off by much more than most, as short ones are."""
    sample(SampleConfig(**options | {"n": 12, "dtype": dtype}))
    outliers = [0, 17, 30, 44]

    def shift(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
        for i in outliers:
            columns["logprob"][i] += 0.3 * len(columns["token_ids"][i])

    change_table(options["out"], shift)
    config = GradientConfig(
        table=options["out"], model_name_or_path=options["model_name_or_path"], out=tmp_path / "gradients", dim=8
    )
    assert len(sketch_gradients(config)) == 5


def test_an_outlier_in_float32_is_refused(pool: dict[str, Any]) -> None:
    def shift(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
        columns["logprob"][17] += 0.002 * len(columns["token_ids"][17])

    change_table(pool["table"], shift)
    with pytest.raises(ValueError, match=r"by up to 0\.002 nats per token where both are computed in float32"):
        sketch_gradients(GradientConfig(**pool))


def trained_one_step(policy: Path, folder: Path, lr: float) -> Path:
    shutil.copytree(policy, folder)
    model = AutoModelForCausalLM.from_pretrained(policy)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.AdamW(model.parameters(), lr=lr).step()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_another_policy_is_refused_before_the_long_work(
    options: dict[str, Any],
    make_policy: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
) -> None:
    sample(SampleConfig(**options | {"n": 12, "dtype": dtype}))
    monkeypatch.setattr(gradient_store, "gradient_sketches", None)
    policy = Path(options["model_name_or_path"])
    others = [make_policy("seed", seed=1, pad_token="[PAD]"), trained_one_step(policy, tmp_path / "step", 1e-2)]
    config = {"table": options["out"], "out": tmp_path / "gradients", "dim": 8}
    for other in others:
        with pytest.raises(ValueError, match="is not the policy that sampled"):
            sketch_gradients(GradientConfig(model_name_or_path=str(other), **config))
    change_table(options["out"], lambda columns, metadata: metadata["sampling"].update(temperature=0.8))
    with pytest.raises(ValueError, match="is not the policy that sampled"):
        sketch_gradients(GradientConfig(model_name_or_path=str(policy), **config))


def test_what_low_precision_cannot_tell_is_said(options: dict[str, Any], tmp_path: Path) -> None:
    sample(SampleConfig(**options | {"n": 12, "dtype": "bfloat16"}))
    near = trained_one_step(Path(options["model_name_or_path"]), tmp_path / "near", 1e-6)
    config = {"table": options["out"], "dim": 8}
    with pytest.warns(UserWarning, match="as far as bfloat16 can tell, but its files are not those"):
        sketch_gradients(GradientConfig(model_name_or_path=str(near), out=tmp_path / "a", **config))
    shutil.copytree(options["model_name_or_path"], tmp_path / "copy")
    copy = GradientConfig(model_name_or_path=str(tmp_path / "copy"), out=tmp_path / "b", **config)
    sketch_gradients(copy)
    with pytest.warns(UserWarning, match="its files are not those"):
        strict = gradient_store._differentiator(
            replace(copy, parameters="all", model_name_or_path=str(near)), read_rollouts(options["out"])
        ).policy
    loose = gradient_store._differentiator(
        replace(copy, parameters="all"), read_rollouts(options["out"])
    ).policy  # by its files it is
    lengths = np.full(9, 4)
    for factor, policies in ((2.0, []), (5.0, [strict]), (20.0, [strict, loose])):
        for policy in (strict, loose):
            difference = np.full(9, factor * policy.rounding * 2.0)  # sqrt(4) = 2
            with pytest.raises(ValueError, match="is not the policy") if policy in policies else nullcontext():
                policy.check(difference, lengths)


def test_a_prompt_of_another_policy_is_seen(
    options: dict[str, Any], make_policy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The few responses that are looked at first are mostly right; each prompt is looked at once more."""
    sample(SampleConfig(**options | {"n": 12, "dtype": "bfloat16"}))
    other = make_policy("other", seed=1, pad_token="[PAD]")
    sample(
        SampleConfig(
            **options | {"n": 12, "dtype": "bfloat16", "model_name_or_path": str(other), "out": tmp_path / "o.parquet"}
        )
    )
    theirs = pq.read_table(tmp_path / "o.parquet").to_pydict()

    def mix(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
        for name, values in columns.items():
            values[12:24] = theirs[name][12:24]

    change_table(options["out"], mix)
    config = GradientConfig(
        table=options["out"], model_name_or_path=options["model_name_or_path"], out=tmp_path / "gradients", dim=8
    )
    with pytest.raises(ValueError, match="is not the policy that sampled"):
        sketch_gradients(config)
    assert len(list(config.out.glob("prompt-*.npy"))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda columns, metadata: columns.pop("token_ids"), "has no token_ids: sample it again"),
        (lambda columns, metadata: metadata["sampling"].update(top_p=0.9), "was sampled with top_p 0.9:"),
        (lambda columns, metadata: metadata["sampling"].update(top_k=5), "was sampled with top_k 5:"),
        (lambda columns, metadata: metadata["sampling"].update(min_p=0.1), "was sampled with min_p 0.1:"),
        (lambda columns, metadata: metadata.clear(), "does not say at which temperature"),
    ],
)
def test_tables_that_cannot_be_differentiated(
    pool: dict[str, Any], change: Callable[[dict[str, Any], dict[str, Any]], Any], message: str
) -> None:
    change_table(pool["table"], change)
    with pytest.raises(ValueError, match=message):
        sketch_gradients(GradientConfig(**pool))


@pytest.mark.parametrize(("option", "least"), [("dim", 1), ("batch_size", 1), ("seed", 0)])
def test_options_out_of_range(option: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"{option} is {least - 1}; it must be at least {least}"):
        GradientConfig(table="t", model_name_or_path="m", out="o", **{option: least - 1})


def first_token_changed(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    columns["token_ids"][7] = [columns["token_ids"][7][0] + 1, *columns["token_ids"][7][1:]]


def end_of_a_response_moved(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    """To the beginning of the next one, so that all tokens in a row are the same."""
    columns["token_ids"][7], last = columns["token_ids"][7][:-1], columns["token_ids"][7][-1:]
    columns["token_ids"][8] = last + columns["token_ids"][8]


def logprob_changed(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    columns["logprob"][7] += 1e-3


def prompt_changed(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    first = columns["prompt"][0]
    columns["prompt"] = [f"{text}." if text == first else text for text in columns["prompt"]]


def temperature_changed(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    metadata["sampling"]["temperature"] *= 1.01


def template_changed(columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    metadata["chat_template_kwargs"] = {"enable_thinking": True}


@pytest.mark.parametrize(
    "change",
    [
        first_token_changed,
        end_of_a_response_moved,
        logprob_changed,
        prompt_changed,
        temperature_changed,
        template_changed,
    ],
)
def test_gradients_of_other_responses_are_not_taken(
    pool: dict[str, Any], change: Callable[[dict[str, Any], dict[str, Any]], Any]
) -> None:
    sketch_gradients(GradientConfig(**pool))
    change_table(pool["table"], change)
    with pytest.raises(ValueError, match="another responses"):
        sketch_gradients(GradientConfig(**pool))
