"""The one file that touches TRL's internals: our advantages in the place of the host's.

TRL's `GRPOTrainer` computes advantages in the middle of `_generate_and_score_completions` and offers no hook. The seam
keeps the rewards that `_calculate_rewards` gathers over all processes, and replaces the advantages afterwards: this
process's slice in the returned batch, all of them in the log of completions. Where the host calls
`_transform_advantages` (proposed in TRL's pull request 7298), the seam uses that and replaces nothing by itself.

With `corrects_old_rollouts` it also puts new advantages in the place of the old ones before each further step on the
same rollouts: those of the estimator at the ratios of the policy now to the one that drew them.

On a CPU the seam has the host compute the logits of responses only, as it does on a GPU, read each prompt of a batch
once for all of its rollouts (`tailgrad.models.shared_prompts`) and generate with less work (`tailgrad.models.tokens`).

A loss that is NaN or infinite stops the training before it reaches the weights; the host would go on, and log 0.

Once per training the seam looks whether the loss was computed from our advantages, so that a new TRL that takes them
from elsewhere fails at the first step. It also winds the host's order of prompts forward when a training is resumed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import torch
import trl
from jaxtyping import Float
from torch import Tensor
from trl.models.utils import disable_gradient_checkpointing

from tailgrad.models.probabilities import probabilities_are_numbers
from tailgrad.models.shared_prompts import once_per_prompt
from tailgrad.models.tokens import quick_generate
from tailgrad.rollouts.prompts import tokenize_prompts
from tailgrad.training.dropout import dropout_of
from tailgrad.training.sharding import in_parts

if TYPE_CHECKING:
    from trl import GRPOTrainer as _Host
else:
    _Host = object


_MODEL_INPUTS: Final = (
    *("pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes", "num_tiles"),
    *("image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids"),
)
"""What the host hands to the model beside the tokens, where a batch has it."""


class _ReadBatch(dict[str, Any]):
    """A batch that remembers which of its entries were read."""

    def __init__(self, batch: dict[str, Any]) -> None:
        super().__init__(batch)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


class AdvantageSeam(_Host):
    """Mixin that stands before `trl.GRPOTrainer`; a subclass says what the advantages are."""

    _gathered_rewards: Tensor | None = None
    _host_transformed: bool = False
    _epochs_behind: int = 0
    _estimated: Tensor
    _awaited: Tensor | None = None
    _loss_is_ours: bool = False
    corrects_old_rollouts: bool = False
    _rewards_of_batch: Tensor | None = None
    _estimated_at: int = -1
    _evaluated: tuple[int, ...] = ()

    def estimate_advantages(
        self,
        rewards_per_func: Float[Tensor, "B F"],
        num_generations: int,
        log_ratios: Float[Tensor, " B"] | None = None,
    ) -> Float[Tensor, " B"]:
        """Return the advantages of all processes' rollouts.

        Args:
            rewards_per_func: Their rewards, NaN where not scored.
            num_generations: Rollouts of a group.
            log_ratios: log pi(y) - log mu(y) of rollouts that an older policy mu drew; None for the policy's own.
        """
        raise NotImplementedError

    def name_on_cards(self, name: str, source: str) -> None:
        """Name the method on model cards, and cite its source (BibTeX) beside the host's own."""
        theirs = getattr(self, "_paper", {}).get("citation", "")
        self._name, self._paper = name, {"citation": f"{theirs}\n\n{source}"}

    def record_metric(self, name: str, value: float) -> None:
        """Log a scalar with the host's own metrics of this step; the host averages them, NaN left out."""
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; in an evaluation every rollout counts once, where the host averages batches of different sizes."""
        if not self.model.training:
            metrics, sizes = self._metrics["eval"], self._evaluated
            for name in [name for name, values in metrics.items() if len(values) == len(sizes)]:
                metrics[name] = [_weighted_mean(metrics[name], sizes)]
            self._evaluated = ()
        super().log(logs, start_time)

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
        if not self.model.training and self._gathered_rewards is not None:
            self._evaluated += (len(self._gathered_rewards),)
        start = self.accelerator.process_index * len(inputs)
        if not self._host_transformed:
            advantages = self._our_advantages().to(output["advantages"])
            output["advantages"] = advantages[start : start + len(inputs)]
            self._rewrite_log(advantages)
        if self.model.training and self.corrects_old_rollouts:
            self._rewards_of_batch, self._estimated_at = self._gathered_rewards, self.state.global_step
            output["place"] = torch.arange(start, start + len(inputs), device=output["advantages"].device)
        if self.model.training and not self._loss_is_ours:
            self._awaited = self._estimated[start : start + len(inputs)].to(output["advantages"])
        return output

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        drawn_now = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        if self.corrects_old_rollouts and self.model.training and not drawn_now:
            self._correct_advantages(self._buffered_inputs)
        return super()._prepare_inputs(generation_batch)

    def _correct_advantages(self, batches: list[dict[str, Any]]) -> None:
        """Put the advantages at the policy now in the place of those before, once for each step."""
        if self.state.global_step == self._estimated_at or self._rewards_of_batch is None:
            return
        places = torch.cat([batch["place"] for batch in batches])
        log_ratios = torch.cat([self._log_ratios(batch) for batch in batches])
        places, log_ratios = self.accelerator.gather(places), self.accelerator.gather(log_ratios)
        ordered = torch.empty_like(log_ratios).scatter_(0, places, log_ratios)
        estimated = self.estimate_advantages(self._rewards_of_batch, self.num_generations, ordered)
        for batch in batches:
            batch["advantages"] = estimated[batch["place"]].to(batch["advantages"])
        self._awaited = torch.cat([batch["advantages"] for batch in batches])
        self._estimated_at = self.state.global_step

    @torch.no_grad()
    def _log_ratios(self, batch: dict[str, Any]) -> Float[Tensor, " B"]:
        """Log of each rollout's probability now over that when it was drawn: a forward pass without gradient."""
        tokens = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        others = {name: batch.get(name) for name in _MODEL_INPUTS}
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):  # as the host
            now, _, _ = self._get_per_token_logps_and_entropies(
                self.model, tokens, attention, batch["completion_ids"].size(1), **others
            )
        counted = batch["completion_mask"] * batch.get("tool_mask", 1)
        return ((now.double() - batch["old_per_token_logps"].double()) * counted).sum(dim=1)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        quick = quick_generate(self.model) if self._rows_are_alike() else nullcontext()
        with probabilities_are_numbers(), quick:
            return super()._generate_single_turn(*args, **kwargs)

    def _rows_are_alike(self) -> bool:
        """Whether one reading of a prompt serves all of its rollouts, as we do on a CPU: dropout differs by rollout.

        Processes that hold parts of the policy have to read as often as one another, and so read all.
        """
        return self.accelerator.device.type == "cpu" and dropout_of(self.model) == 0 and not in_parts(self)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        recomputes = torch.is_grad_enabled() and self.args.gradient_checkpointing  # and keeps no keys and values
        if self._rows_are_alike() and not recomputes and self.accelerator.num_processes == 1:
            model = once_per_prompt(model, logits_to_keep)
        given = (model, input_ids, attention_mask, logits_to_keep, *args)
        with _logits_of_responses_only():
            return super()._get_per_token_logps_and_entropies(*given, **kwargs)

    def start_after(self, epochs: int) -> None:
        """Begin a training, with so many epochs behind it, at fresh rollouts."""
        self._epochs_behind, self._step = epochs, 0
        self._awaited, self._loss_is_ours = None, False

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """The host's order of prompts, at the permutation of the epoch: each one is drawn after the one before."""
        sampler = super()._get_train_sampler(dataset)
        for _ in range(self._epochs_behind):
            next(iter(sampler), None)
        return sampler

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Compute the host's loss, refuse one that is no number, and look once whether it is of our advantages."""
        if not self.model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        batch = inputs if self._loss_is_ours else _ReadBatch(inputs)
        loss = super().compute_loss(model, batch, *args, **kwargs)
        if not bool(loss.isfinite()):  # the host has waited for the device already
            raise ValueError(
                f"the loss of step {self.state.global_step + 1} is {loss.item()}: the policy has diverged, or has "
                "weights that are no numbers. No step was taken on it, and the checkpoints stay. Start anew in another "
                "output_dir with a smaller learning_rate or max_grad_norm; model_name_or_path may be a checkpoint."
            )
        if isinstance(batch, _ReadBatch):
            self._check_what_the_loss_read(batch)
        return loss

    def _check_what_the_loss_read(self, batch: _ReadBatch) -> None:
        """Refuse a loss that did not read our advantages: of a chunk of the shuffled batch, exactly those values."""
        ours = Counter() if self._awaited is None else Counter(self._awaited.tolist())
        seen = batch.get("advantages")
        if "advantages" not in batch.read or seen is None or Counter(seen.flatten().tolist()) - ours:
            raise RuntimeError(
                f"The loss of TRL {trl.__version__} was not computed from tailgrad's advantages, so this training "
                "would be another one. Install a version of TRL that is supported: pip install 'tailgrad[train]'."
            )
        self._loss_is_ours = bool(seen.any())  # zeros alone prove nothing

    def _our_advantages(self) -> Float[Tensor, " B"]:
        if self._gathered_rewards is None:
            raise RuntimeError(
                "This TRL did not compute rewards through GRPOTrainer._calculate_rewards, so tailgrad cannot compute "
                "advantages. Install a supported version: pip install 'tailgrad[train]'."
            )
        num_generations = self.num_generations if self.model.training else self.num_generations_eval
        self._estimated = self.estimate_advantages(self._gathered_rewards, num_generations)
        return self._estimated

    def _rewrite_log(self, advantages: Float[Tensor, " B"]) -> None:
        """Put our advantages in the place of the host's last ones in the log of completions."""
        log = self._logs["advantages"]
        for _ in range(min(len(log), len(advantages))):
            log.pop()
        log.extend(advantages.tolist())


@contextmanager
def _logits_of_responses_only() -> Iterator[None]:
    """Let the host's head leave out the logits of prompts on a CPU too; it asks this function whether to."""
    module: Any = trl.trainer.utils
    on_gpu = module._use_triton
    module._use_triton = lambda device: device.type == "cpu" or on_gpu(device)
    try:
        yield
    finally:
        module._use_triton = on_gpu


class PromptSeam(_Host):
    """Mixin that stands before `trl.GRPOTrainer`: prompts become tokens as in `tailgrad sample`.

    TRL asks every message for its content, also one that only calls tools and has none.
    """

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if self._is_vlm or self.tools or self.environment_factories is not None:
            return super()._tokenize_prompts(prompts)
        token_ids = tokenize_prompts(self._tokenizer, prompts, self.chat_template_kwargs, source="this batch")
        return list(token_ids), None, {}


def _weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float:
    """NaN left out; NaN where there is nothing else."""
    known = [(value * weight, weight) for value, weight in zip(values, weights, strict=True) if not math.isnan(value)]
    return sum(part for part, _ in known) / sum(weight for _, weight in known) if known else math.nan
