"""The one file that touches TRL's internals: our advantages in the place of the host's.

TRL's `GRPOTrainer` computes advantages in the middle of `_generate_and_score_completions` and offers no hook. The seam
keeps the rewards that `_calculate_rewards` gathers over all processes, and replaces the advantages afterwards: this
process's slice in the returned batch, all of them in the log of completions. Where the host calls
`_transform_advantages` (proposed in TRL's pull request 7298), the seam uses that and replaces nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from tailgrad.rollouts.prompts import tokenize_prompts

if TYPE_CHECKING:
    from trl import GRPOTrainer as _Host
else:
    _Host = object


class AdvantageSeam(_Host):
    """Mixin that stands before `trl.GRPOTrainer`; a subclass says what the advantages are."""

    _gathered_rewards: Tensor | None = None
    _host_transformed: bool = False

    def estimate_advantages(self, rewards_per_func: Float[Tensor, "B F"], num_generations: int) -> Float[Tensor, " B"]:
        """Return the advantages of all processes' rollouts, given their rewards (NaN where not scored)."""
        raise NotImplementedError

    def record_metric(self, name: str, value: float) -> None:
        """Log a scalar with the host's own metrics of this step; the host averages them, NaN left out."""
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._gathered_rewards = super()._calculate_rewards(*args, **kwargs)
        return self._gathered_rewards

    def _transform_advantages(self, advantages: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The hook of TRL's pull request 7298: called on the gathered advantages, before logging and slicing."""
        self._host_transformed = True
        return self._our_advantages().to(advantages)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._gathered_rewards, self._host_transformed = None, False
        output = super()._generate_and_score_completions(inputs)
        if not self._host_transformed:
            advantages = self._our_advantages().to(output["advantages"])
            start = self.accelerator.process_index * len(inputs)
            output["advantages"] = advantages[start : start + len(inputs)]
            self._rewrite_log(advantages)
        return output

    def _our_advantages(self) -> Float[Tensor, " B"]:
        if self._gathered_rewards is None:
            raise RuntimeError(
                "This TRL did not compute rewards through GRPOTrainer._calculate_rewards, so tailgrad cannot compute "
                "advantages. Install a supported version: pip install 'tailgrad[train]'."
            )
        num_generations = self.num_generations if self.model.training else self.num_generations_eval
        return self.estimate_advantages(self._gathered_rewards, num_generations)

    def _rewrite_log(self, advantages: Float[Tensor, " B"]) -> None:
        """Put our advantages in the place of the host's last ones in the log of completions."""
        log = self._logs["advantages"]
        for _ in range(min(len(log), len(advantages))):
            log.pop()
        log.extend(advantages.tolist())


class PromptSeam(_Host):
    """Mixin that stands before `trl.GRPOTrainer`: prompts become tokens as in `tailgrad sample`.

    TRL asks every message for its content, also one that only calls tools and has none.
    """

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if self._is_vlm or self.tools or self.environment_factories is not None:
            return super()._tokenize_prompts(prompts)
        token_ids = tokenize_prompts(self._tokenizer, prompts, self.chat_template_kwargs, source="this batch")
        return list(token_ids), None, {}
