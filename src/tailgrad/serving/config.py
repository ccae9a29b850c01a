"""What `tailgrad serve` needs to know."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from typing import Any, Final

from tailgrad.options import option, same_option
from tailgrad.rewards.options import RewardOptions
from tailgrad.rollouts.config import SampleConfig

_POLICY: Final = "where the policy runs"
_SHAPE: Final = "what shapes a response where the request does not say (default: as in the policy's training)"
_SERVER: Final = "the server"
_LIMITS: Final = "limits"

_SHARED: Final = (
    *("base_url", "concurrency", "request_timeout", "model_revision", "dtype", "device", "trust_remote_code"),
    *("batch_size", "temperature", "top_p", "top_k", "max_completion_length", "generation_kwargs"),
    "chat_template_kwargs",
)
"""Options that are those of `tailgrad sample`."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig(RewardOptions):
    """What `serve` needs to know; the fields are the options of `tailgrad serve`, which says what each is."""

    model_name_or_path: str = option(
        text="the policy: hub name or local folder; with --base_url the name by which that server knows it"
    )
    n: int = option(16, "samples per request where it does not give best_of_n")
    max_price: float | None = option(
        None,
        "stop sampling a prompt once a further sample is expected to gain less than this, in spreads of the rewards: "
        "the prior's, else the prompt's own (0.03 draws about 16); best_of_n is then the most (default: only where the "
        "request gives max_price)",
        metavar="PRICE",
    )
    prior_table: str | None = option(
        None,
        "rollout table of other prompts, by the same policy, reward and settings: what max_price knows of prompts "
        "before they are sampled, and most of what it saves",
        metavar="TABLE",
    )
    reward_timeout: float | None = option(
        60.0,
        "most seconds that one call of a reward, or one request to a remote one, may take",
        group="rewards",
        metavar="SECONDS",
    )
    base_url: str | None = same_option(SampleConfig, "base_url", _POLICY)
    concurrency: int = same_option(SampleConfig, "concurrency", _POLICY)
    request_timeout: float = same_option(SampleConfig, "request_timeout", _POLICY)
    batch_size: int = same_option(SampleConfig, "batch_size", _POLICY)
    model_revision: str | None = same_option(SampleConfig, "model_revision", _POLICY)
    dtype: str = same_option(SampleConfig, "dtype", _POLICY)
    device: str | None = same_option(SampleConfig, "device", _POLICY)
    trust_remote_code: bool = same_option(SampleConfig, "trust_remote_code", _POLICY)
    temperature: float | None = same_option(SampleConfig, "temperature", _SHAPE)
    top_p: float | None = same_option(SampleConfig, "top_p", _SHAPE)
    top_k: int | None = same_option(SampleConfig, "top_k", _SHAPE)
    max_completion_length: int | None = same_option(SampleConfig, "max_completion_length", _SHAPE)
    generation_kwargs: dict[str, Any] = same_option(SampleConfig, "generation_kwargs", _SHAPE)
    chat_template_kwargs: dict[str, Any] | None = same_option(SampleConfig, "chat_template_kwargs", _SHAPE)
    host: str = option("127.0.0.1", "address to listen at; others than this machine's own need a key", group=_SERVER)
    port: int = option(8080, "port to listen at", group=_SERVER)
    served_model_name: str | None = option(
        None, "name by which clients know the policy (default: --model_name_or_path)", group=_SERVER
    )
    allow_no_key: bool = option(
        False, "listen beyond this machine without a key (keys are read from TAILGRAD_API_KEY)", group=_SERVER
    )
    log_prompts: bool = option(False, "write prompts, winners and why samples failed into the log", group=_SERVER)
    max_n: int = option(128, "largest best_of_n of a request", group=_LIMITS)
    max_tokens: int = option(4096, "largest max_tokens of a request", group=_LIMITS)
    max_body_bytes: int = option(1_048_576, "largest body of a request", group=_LIMITS)
    max_active: int = option(32, "requests that are worked on at once", group=_LIMITS)
    max_waiting: int = option(256, "requests that wait for their turn; further ones get 429 or 503", group=_LIMITS)
    max_seconds: float = option(
        600.0, "most seconds of a request, waiting included; then it gets 504", group=_LIMITS, metavar="SECONDS"
    )
    shutdown_seconds: float = option(
        30.0,
        "seconds that requests under way are given when the server is told to end",
        group=_LIMITS,
        metavar="SECONDS",
    )

    @property
    def name(self) -> str:
        """The name by which clients know the policy."""
        return self.served_model_name or self.model_name_or_path

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def sampling(self) -> SampleConfig:
        """The policy and the rewards, as `tailgrad sample` names them; there is no data set."""
        shared = {name: getattr(self, name) for name in _SHARED}
        return SampleConfig(
            model_name_or_path=self.model_name_or_path,
            dataset_name="",
            out="",
            engine="transformers" if self.base_url is None else "openai",
            **shared,
            **self.of_rewards,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n", "max_n", "max_tokens", "max_body_bytes", "max_active"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.max_waiting < 0:
            raise ValueError(f"max_waiting is {self.max_waiting}; it must be 0 or more.")
        for name in ("max_seconds", "shutdown_seconds", "max_price"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it must be a number above 0.")
        if self.n > self.max_n:
            raise ValueError(f"n is {self.n} and max_n {self.max_n}: raise max_n, or lower n.")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port is {self.port}; it must be from 0 (any that is free) to 65535.")
        self.sampling()  # refuses what `tailgrad sample` would


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is by its form one that leads to this machine alone.

    Args:
        host: The name or the address.

    Examples:
        >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("example.org")
        (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
