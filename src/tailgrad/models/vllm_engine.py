"""The engine of vLLM in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tailgrad.models.engine import Response
from tailgrad.models.loading import model_errors, model_path

_NAMES: Final = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
"""Settings by transformers' names and by vLLM's, where they differ."""

_KNOWN: Final = ("temperature", "top_p", "top_k", "max_new_tokens", "min_p", "repetition_penalty", "min_new_tokens")


def vllm_settings(shaping: Mapping[str, Any]) -> dict[str, Any]:
    """Return what shapes a response as vLLM's `SamplingParams` say it.

    Args:
        shaping: As `tailgrad.rollouts.generation.shaping` gives it.

    Returns:
        Arguments of `SamplingParams`.

    Raises:
        ValueError: A setting that vLLM does not have acts.

    Examples:
        >>> vllm_settings({"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8})
        {'temperature': 1.0, 'top_p': 1.0, 'top_k': 0, 'max_tokens': 8}
    """
    for name in shaping:
        if name not in _KNOWN:
            raise ValueError(
                f"{name} is {shaping[name]!r}, which vLLM does not have; allowed are {', '.join(_KNOWN)}. Use --engine "
                "transformers, or set it off in --generation_kwargs."
            )
    return {_NAMES.get(name, name): value for name, value in shaping.items()}


class VllmEngine:
    """Samples with vLLM, in this process.

    Args:
        model: The policy: hub name or local folder, not of an adapter.
        tokenizer: Its tokenizer.
        prompt_token_ids: The tokens of the data set's prompts.
        n: Responses per prompt.
        settings: What shapes a response; see `vllm_settings`.
        logprobs: Whether log-probabilities are kept.
        options: Arguments of `vllm.LLM`.

    Raises:
        ValueError: vLLM is not installed, or cannot load the policy.
        FileNotFoundError: The hub does not give the policy.
    """

    def __init__(
        self,
        model: str,
        tokenizer: Any,
        prompt_token_ids: Sequence[list[int]],
        *,
        n: int,
        settings: Mapping[str, Any],
        logprobs: bool,
        options: Mapping[str, Any],
    ) -> None:
        path = model_path(model)
        if (Path(path) / "adapter_config.json").is_file():
            raise ValueError(f"model {model!r} is an adapter: merge it into its base for vLLM, or use another engine.")
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:
            raise ValueError(
                f"engine vllm needs vLLM in this environment ({error}): pip install vllm, or run `vllm serve` "
                "elsewhere and use --engine openai."
            ) from None
        with model_errors(model, "model"):
            self._llm = LLM(model=path, **options)
        self._decode, self._token_ids = tokenizer.decode, prompt_token_ids
        self._params = SamplingParams(n=n, **settings, logprobs=0 if logprobs else None)
        self.config = self._llm.llm_engine.model_config.hf_config

    def responses(self, parts: Sequence[range]) -> Iterator[tuple[int, list[Response]]]:
        """Sample these rows of the data set, one part after the other; see `Engine`."""
        for part in parts:
            prompts = [{"prompt_token_ids": list(self._token_ids[row])} for row in part]
            outputs = self._llm.generate(prompts, self._params, use_tqdm=False)
            for row, output in zip(part, outputs, strict=True):
                yield row, [self._response(one) for one in output.outputs]

    def _response(self, output: Any) -> Response:
        ids, finished = list(output.token_ids), output.finish_reason == "stop"
        return Response(
            text=self._decode(ids, skip_special_tokens=True),
            finished=finished,
            num_tokens=len(ids) - finished,
            logprob=output.cumulative_logprob,
            token_ids=ids,
        )
