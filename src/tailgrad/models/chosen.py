"""Log-probabilities of responses, kept while they are generated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

_AFTERWARDS: Final = {
    *("do_sample", "temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("max_new_tokens", "max_time", "eos_token_id"),
}
"""Settings that act on the logits after a processor of the caller's, or not on them."""


class ChosenLogprobs:
    """A logits processor of transformers' `generate` that keeps the log-probability of each token that was chosen.

    They are those of `response_logprobs` up to rounding, and cost no pass of their own. At each step only the logits
    of that step are held.

    Args:
        temperature: Divides the logits; above 0.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._scores: Tensor | None = None
        self._steps: list[Float[Tensor, " b"]] = []
        self.logprobs: list[float] = []
        """In nats, one per response; who generates adds them."""

    @staticmethod
    def sees_logits(settings: Iterable[str]) -> bool:
        """Return whether the model's own logits reach a processor of the caller's under these settings.

        Args:
            settings: Names of what shapes the responses; see `tailgrad.rollouts.generation`.
        """
        return set(settings) <= _AFTERWARDS

    def __call__(self, input_ids: Int[Tensor, "b L"], scores: Float[Tensor, "b V"]) -> Float[Tensor, "b V"]:
        """Keep what belongs to the last token, and these logits for the next one.

        Args:
            input_ids: All tokens so far.
            scores: The next token's logits, in float32.

        Returns:
            The same logits.
        """
        self._keep(input_ids[:, -1])
        self._scores = scores
        return scores

    def end(self, tokens: Int[Tensor, "b T"], lengths: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Sum up a batch that is generated, or as much of it as was generated now.

        Args:
            tokens: What was generated, without the prompts.
            lengths: Tokens of each response.

        Returns:
            In nats, float64, on the CPU.
        """
        self._keep(tokens[:, -1])
        steps = torch.stack(self._steps[: tokens.shape[1]], dim=1).double()
        within = torch.arange(steps.shape[1], device=steps.device) < lengths[:, None]
        self._scores, self._steps = None, []
        return torch.where(within, steps, 0.0).sum(-1).cpu()

    def _keep(self, chosen: Int[Tensor, " b"]) -> None:
        if self._scores is not None:
            logits = self._scores / self._temperature
            self._steps.append(logits.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1))
