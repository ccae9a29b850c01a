"""From the body of a request to the best of its samples: limits, turns, time, and clients that hang up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tailgrad.models.server import RefusedError
from tailgrad.serving.answers import Answer
from tailgrad.serving.best import Best, NoWinnerError, Spent
from tailgrad.serving.call import BestOfN
from tailgrad.serving.config import ServeConfig
from tailgrad.serving.errors import ApiError, shutting_down
from tailgrad.serving.journal import Journal
from tailgrad.serving.keys import Keys
from tailgrad.serving.limits import Gate
from tailgrad.serving.metrics import Metrics
from tailgrad.serving.outlook import outlook
from tailgrad.serving.prior_table import read_prior
from tailgrad.serving.priors import LevelPrior, SpreadPrior
from tailgrad.serving.requests import Request
from tailgrad.serving.stopping import FixedBudget, StoppingRule
from tailgrad.serving.tail_stopping import TailStopping

Prior = SpreadPrior | LevelPrior

HUNG_UP: Final = 499
"""The status, in log and metrics, of a request whose client did not wait."""


class Service:
    """What the routes of a server share.

    Args:
        config: The limits.
        best_of_n: Samples and scores.

    Raises:
        ValueError: As `Keys` says, or the table of the prior cannot be read, or is of another reward.
        FileNotFoundError: There is no such table.
    """

    def __init__(self, config: ServeConfig, best_of_n: BestOfN) -> None:
        self.config, self.best_of_n = config, best_of_n
        self.keys, self.journal = Keys(config), Journal(config.log_prompts)
        self.gate = Gate(config.max_active, config.max_waiting)
        self.metrics = Metrics(
            {
                "tailgrad_active_requests": ("Requests that are worked on.", lambda: self.gate.active),
                "tailgrad_waiting_requests": ("Requests that wait for their turn.", lambda: self.gate.waiting),
            }
        )
        self._prior: Prior | None = None
        self.about_prior: dict[str, Any] | None = None
        if config.prior_table is not None:
            known = (best_of_n.about_reward, config.model_name_or_path, best_of_n.shaping)
            self._prior, self.about_prior = read_prior(config.prior_table, *known)
        self._works: set[asyncio.Task[Best]] = set()
        self._ending = False

    async def answer(self, request: Request, client: str, hung_up: Callable[[], Awaitable[None]]) -> Answer | None:
        """Return the answer to a request, None where its client hung up.

        Args:
            request: What is asked.
            client: Who asks.
            hung_up: Waits until the client has hung up.

        Raises:
            ApiError: There is none.
        """
        self._check_columns(request)
        budget = request.best_of_n or self.config.n
        rule = self._rule(request, budget)
        work = asyncio.ensure_future(self._in_turn(request, rule, client))
        watch = asyncio.ensure_future(hung_up())
        self._works.add(work)
        try:
            await asyncio.wait({work, watch}, timeout=self.config.max_seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and not work.cancelled():
                best = _or_error(work)
            elif watch.done():
                return None
            elif self._ending:
                raise shutting_down()
            else:
                raise ApiError(504, f"no answer within {self.config.max_seconds:g} seconds.", code="timeout")
        finally:
            self._works.discard(work)
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        told = await asyncio.to_thread(outlook, best, rule) if request.return_candidates else {}
        return Answer(request, best, budget, told)

    def _check_columns(self, request: Request) -> None:
        """Refuse columns that the rewards do not know what to do with."""
        try:
            self.best_of_n.check_columns(request.reward_columns)
        except ValueError as error:
            raise ApiError(400, str(error), param="reward_columns") from None

    def end(self) -> None:
        """Let nobody in any more, and give those who are worked on some time."""
        self._ending = True
        self.gate.close()
        asyncio.get_running_loop().call_later(self.config.shutdown_seconds, self._stop)

    def _stop(self) -> None:
        for work in self._works:
            work.cancel()

    async def _in_turn(self, request: Request, rule: StoppingRule, client: str) -> Best:
        async with self.gate.turn(client):
            return await self.best_of_n.best_of_n(
                request.prompt_to_sample,
                rule,
                columns=request.reward_columns,
                seed=request.seed,
                stop=request.stops,
                spent=self._count,
                **request.shaping,
            )

    def _rule(self, request: Request, budget: int) -> StoppingRule:
        price = self.config.max_price if request.max_price is None else request.max_price
        try:
            return FixedBudget(budget) if price is None else adaptive(price, budget, self._prior)
        except ValueError as error:
            raise ApiError(400, str(error), param="max_price") from None

    def _count(self, spent: Spent) -> None:
        for outcome in ("scored", "unscored", "failed"):
            self.metrics.count("tailgrad_samples_total", getattr(spent, outcome), outcome=outcome)
        for kind, tokens in (("prompt", spent.prompt_tokens), ("completion", spent.completion_tokens)):
            self.metrics.count("tailgrad_tokens_total", tokens or 0, kind=kind)


def adaptive(price: float, most: int, prior: Prior | None) -> StoppingRule:
    """Return the rule that stops once the next sample is not worth its price.

    Args:
        price: The least gain of a sample, in spreads of the rewards.
        most: Most samples.
        prior: What other prompts tell.
    """
    return TailStopping(price=price, most=most, prior=prior)


def _or_error(work: asyncio.Task[Best]) -> Best:
    try:
        return work.result()
    except ApiError:
        raise
    except RefusedError as error:
        raise ApiError(400, f"the policy's server refuses: {error.reason}", code="refused") from None
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    except NoWinnerError as error:
        status, code = (504, "timeout") if error.timed_out else (502, "no_winner")
        raise ApiError(status, str(error), code=code, retry_after=1) from None


def seconds_since(begun: float) -> float:
    """Return how long something took, in seconds.

    Args:
        begun: Of `time.monotonic`.
    """
    return round(time.monotonic() - begun, 4)
