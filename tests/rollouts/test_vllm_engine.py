"""`tailgrad sample --engine vllm` with a stand-in for vLLM; `make check-engines` runs it with vLLM itself."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer

from tailgrad.rollouts import SampleConfig, ScoreConfig, read_rollouts, rescore, sample
from tiny_policies import PROMPTS

ENGINE = {"engine": "vllm", "seed": 3}


class LLM:
    """Answers a prompt of k tokens with a first response of k tokens, a second of k + 1, ..., every other one ended."""

    def __init__(self, **options: Any) -> None:
        LLM.options, LLM.calls = options, []
        config = AutoConfig.from_pretrained(options["model"])
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(hf_config=config))

    def generate(self, prompts: list[dict[str, Any]], params: Any, *, use_tqdm: bool) -> list[Any]:
        LLM.calls.append((prompts, params, use_tqdm))
        return [SimpleNamespace(outputs=self._outputs(one["prompt_token_ids"], params)) for one in prompts]

    def _outputs(self, prompt: list[int], params: Any) -> list[Any]:
        ended = [(prompt + [5] * i + [2], "stop") if i % 2 else (prompt + [5] * i, "length") for i in range(params.n)]
        logprob = None if params.logprobs is None else -1.5
        return [
            SimpleNamespace(token_ids=tuple(ids), finish_reason=why, cumulative_logprob=logprob) for ids, why in ended
        ]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    module: Any = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    return LLM


def test_a_table_is_what_vllm_gave(options: dict[str, Any], vllm: Any, tmp_path: Path) -> None:
    options |= ENGINE | {"engine_kwargs": {"max_model_len": 32}, "top_k": 5}
    table = read_rollouts(sample(SampleConfig(**options)))
    tokenizer = AutoTokenizer.from_pretrained(options["model_name_or_path"])
    prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    assert [len(call[0]) for call in vllm.calls] == [2, 2, 1]
    assert [one["prompt_token_ids"] for call in vllm.calls for one in call[0]] == prompts
    expected = {"n": 4, "temperature": 1.0, "top_p": 1.0, "top_k": 5, "max_tokens": 8, "logprobs": None}
    assert vars(vllm.calls[0][1]) == expected
    assert (vllm.options["max_model_len"], vllm.options["load_format"]) == (32, "safetensors")
    assert (vllm.options["seed"], vllm.options["dtype"], vllm.options["revision"]) == (3, "float32", None)
    for i, prompt in enumerate(prompts):
        assert table.responses[i][1] == tokenizer.decode([*prompt, 5])
        assert table.token_ids[i, 1].tolist() == [*prompt, 5, 2]
    np.testing.assert_array_equal(table.num_tokens, [[len(prompt) + i for i in range(4)] for prompt in prompts])
    np.testing.assert_array_equal(table.finished, [[False, True, False, True]] * 5)
    assert table.logprobs is None
    known = {"engine": "vllm", "seed": 3, "dtype": "float32", "device": None, "model": options["model_name_or_path"]}
    assert {name: table.metadata[name] for name in known} == known
    assert table.metadata["model_files"] is not None
    again = rescore(ScoreConfig(table=options["out"], reward_funcs=options["reward_funcs"], out=tmp_path / "s.parquet"))
    np.testing.assert_array_equal(read_rollouts(again).rewards, table.rewards)


def test_a_run_that_goes_on_draws_other_random_numbers_and_from_the_same_engine(
    options: dict[str, Any], vllm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options |= ENGINE | {"engine_kwargs": {"quantization": "fp8"}}
    generate, seeds = vllm.generate, []

    def dying(self: Any, prompts: list[dict[str, Any]], params: Any, *, use_tqdm: bool) -> list[Any]:
        seeds.append(self.options["seed"])
        if len(self.calls) == 1:
            raise KeyboardInterrupt
        found: list[Any] = generate(self, prompts, params, use_tqdm=use_tqdm)
        return found

    monkeypatch.setattr(vllm, "generate", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sample(SampleConfig(**options))
    with pytest.raises(ValueError, match=r"another engine_kwargs: \{'quantization': 'fp8'\} there, \{\} now"):
        sample(SampleConfig(**options | {"engine_kwargs": {}}))
    options["engine_kwargs"] |= {"gpu_memory_utilization": 0.5}  # what it may have died of
    table = read_rollouts(sample(SampleConfig(**options)))
    begun = [seed for before, seed in zip([None, *seeds], seeds, strict=False) if seed != before]
    assert begun[0] == 3
    assert len(set(begun)) == len(begun) == 3
    assert table.metadata["engine_kwargs"] == {"quantization": "fp8", "gpu_memory_utilization": 0.5}
    assert table.metadata["seed"] == 3


def test_log_probabilities_are_kept_where_nothing_but_the_policy_acts(options: dict[str, Any], vllm: Any) -> None:
    table = read_rollouts(sample(SampleConfig(**options, **ENGINE)))
    assert vllm.calls[0][1].logprobs == 0
    np.testing.assert_array_equal(table.logprobs, np.full((5, 4), -1.5))
    Path(options["out"]).unlink()
    without = read_rollouts(sample(SampleConfig(**options, **ENGINE, logprobs=False)))
    assert (vllm.calls[-1][1].logprobs, without.logprobs) == (None, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": "http://h"}, "engine vllm and a base_url"),
        ({"reference_model": "m"}, "reference_model with engine vllm"),
        ({"engine": "transformers", "engine_kwargs": {"a": 1}}, "engine_kwargs with engine transformers"),
        ({"engine_kwargs": {"dtype": "bfloat16"}}, "engine_kwargs has dtype, which is an option here: give --dtype"),
        ({"engine_kwargs": {"model": "m"}}, "give --model_name_or_path"),
        ({"generation_kwargs": {"no_repeat_ngram_size": 2}}, "no_repeat_ngram_size is 2, which vLLM does not have"),
        ({"max_completion_length": 63}, "more than the 64 positions"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], vllm: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample(SampleConfig(**{**options, **ENGINE, **changes}))


def test_without_vllm_it_says_what_to_do(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ValueError, match=r"engine vllm needs vLLM.*pip install vllm"):
        sample(SampleConfig(**options, **ENGINE))


def test_an_adapter_is_refused(options: dict[str, Any], vllm: Any, tmp_path: Path) -> None:
    adapter = shutil.copytree(options["model_name_or_path"], tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": options["model_name_or_path"]}))
    with pytest.raises(ValueError, match="is an adapter: merge it"):
        sample(SampleConfig(**{**options, **ENGINE, "model_name_or_path": str(adapter)}))
