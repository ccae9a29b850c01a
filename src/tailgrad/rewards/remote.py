"""Rewards behind a server: a reward model that vLLM or SGLang serves, or any function behind a URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from tailgrad.identity import model_sha256, sha256_of
from tailgrad.models.in_flight import InFlight
from tailgrad.models.loading import check_model_name, model_errors, model_path
from tailgrad.models.server import RefusedError, Server, check_url
from tailgrad.rewards.reading import RolloutReader, check_reading, load_tokenizer
from tailgrad.rewards.reward import ARGUMENTS, ARGUMENTS_IN_TRAINING

KEY: Final = "REWARD_API_KEY"
BATCH_SIZE: Final = 64
TIMEOUT: Final = 60.0
_IN_FLIGHT: Final = 8

_POOLING: Final = "/pooling"
_CLASSIFY: Final = "/classify"


class RemoteReward:
    """What all remote rewards have: a server, and batches that are in flight together.

    Args:
        url: The address that batches are sent to.
        batch_size: Rollouts in one request.
        timeout: Seconds until a request has failed and is tried again.

    Raises:
        ValueError: The address is none, an option is out of range, or the server does not take the key.
        ServerDownError: There is no such server.
    """

    content_sha256: None = None
    """What a server does is not known."""

    def __init__(self, url: str, *, batch_size: int | None, timeout: float | None) -> None:
        self._batch_size = BATCH_SIZE if batch_size is None else batch_size
        check_reading(self._batch_size, None, "auto")
        self._server = Server(
            url, timeout=TIMEOUT if timeout is None else timeout, key_variable=KEY, connections=_IN_FLIGHT
        )
        self._server.reach()

    def tell(self, say: Callable[[str], None]) -> None:
        """Tell somebody else than the terminal of failures and recoveries.

        Args:
            say: Is passed a line, which has what the server says.
        """
        self._server.breaker.say = say

    def _in_batches(self, count: int, score: Callable[[slice], list[Any]]) -> list[Any]:
        """The scores of all rollouts, from those of a few."""
        batches = [slice(at, min(at + self._batch_size, count)) for at in range(0, count, self._batch_size)]
        threads = min(_IN_FLIGHT, len(batches))
        work = InFlight(range(len(batches)), 1, lambda i, _: [score(batches[i])], at_once=lambda: 1, threads=threads)
        found = dict(work)
        return [value for i in range(len(batches)) for value in found[i][0]]


class HttpReward(RemoteReward):
    """A reward that is a function behind a URL.

    A batch is sent as the arguments of a reward: `{"prompts": [...], "completions": [...], "column": [...]}` with the
    data's columns. The answer is `{"rewards": [...]}`, one number or null per rollout.

    Args:
        url: The address.
        batch_size: Rollouts in one request; None is 64.
        timeout: Seconds until a request has failed and is tried again; None is 60.

    Raises:
        ValueError: As `RemoteReward`.
        ServerDownError: As `RemoteReward`.
    """

    def __init__(self, url: str, *, batch_size: int | None = None, timeout: float | None = None) -> None:
        super().__init__(check_url(url, "the URL of a reward"), batch_size=batch_size, timeout=timeout)
        self.__name__ = url

    def __call__(self, /, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """Score rollouts.

        Args:
            prompts: One prompt per rollout.
            completions: One response per rollout.
            columns: One value per rollout of every other column; what else TRL passes is not sent.

        Returns:
            What the server returns, one value per rollout.

        Raises:
            ServerDownError: The server failed too often.
            RefusedError: It refuses the batch.
        """
        hidden = {*ARGUMENTS, *ARGUMENTS_IN_TRAINING}
        sent = {"prompts": prompts, "completions": completions}
        sent |= {name: values for name, values in columns.items() if name not in hidden}

        def score(batch: slice) -> list[Any]:
            body = {name: values[batch] for name, values in sent.items()}
            return self._server.post("", body, _exactly(batch, lambda answer: answer["rewards"]))

        return self._in_batches(len(completions), score)


class ServedRewardModel(RolloutReader, RemoteReward):
    """A reward model that vLLM or SGLang serves; it is read as `RewardModel` reads, and the server is sent tokens.

    Args:
        model_name_or_path: Hub name or local folder, for tokenizer and config; the weights are not loaded.
        url: Address of vLLM's `/pooling` or `/classify`, or of SGLang's `/classify`; without a path `/pooling`.
        revision: Branch, tag or commit of the hub.
        batch_size: Rollouts in one request; None is 64.
        max_length: Most tokens of prompt and response together; None: as many as model and tokenizer allow.
        input_format: "auto", "chat" or "text".
        timeout: Seconds until a request has failed and is tried again; None is 60.
        trust_remote_code: Run the code that comes with the tokenizer.

    Raises:
        FileNotFoundError: There is no such folder, or the hub does not give the model.
        ValueError: The path of the URL is none of these, or as `RemoteReward`.
        ServerDownError: As `RemoteReward`.
    """

    def __init__(
        self,
        model_name_or_path: str,
        *,
        url: str,
        revision: str | None = None,
        batch_size: int | None = None,
        max_length: int | None = None,
        input_format: str = "auto",
        timeout: float | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        from transformers import AutoConfig

        check_reading(1, max_length, input_format)
        address = check_url(url, "--reward_url")
        path = urlsplit(address).path
        if path and not path.endswith((_POOLING, _CLASSIFY)):
            raise ValueError(
                f"--reward_url is {url!r}; its path must be that of a served reward model, {_POOLING} or {_CLASSIFY}. "
                "A function behind a URL is named by --reward_funcs."
            )
        check_model_name(model_name_or_path, "reward model")
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        with model_errors(model_name_or_path, "reward model"):
            config = AutoConfig.from_pretrained(model_path(model_name_or_path), **options)
        tokenizer = load_tokenizer(model_name_or_path, **options)
        RolloutReader.__init__(self, model_name_or_path, tokenizer, config, max_length, input_format)
        address = address if path else f"{address}{_POOLING}"
        RemoteReward.__init__(self, address, batch_size=batch_size, timeout=timeout)
        self.revision = revision
        self._forms = [_pooled] if address.endswith(_POOLING) else [_classified_by_vllm, _classified_by_sglang]

    @property
    def reading_sha256(self) -> str:
        """Hash of what is known of a score without the server: which model, and the tokens that it is sent."""
        content = model_sha256(self.name) or [self.name, self.revision]
        return sha256_of([content, self.max_length, self.input_format])

    def _rewards(self, token_ids: list[list[int]]) -> list[float]:
        return self._in_batches(len(token_ids), lambda batch: self._score(batch, token_ids[batch]))

    def _score(self, batch: slice, token_ids: list[list[int]]) -> list[float]:
        """Ask in the form that the server takes, which the first answer shows where there are two."""
        forms = list(self._forms)
        for form in forms:
            body, read = form(token_ids)
            try:
                scores = self._server.post("", body, _exactly(batch, read))
            except RefusedError as refusal:
                if form is forms[-1] or refusal.status not in (400, 422):
                    raise
                continue
            self._forms = [form]
            break
        return scores


Form = tuple[dict[str, Any], Callable[[Any], list[float]]]
"""What a server is sent, and what reads its answer."""


def _pooled(token_ids: list[list[int]]) -> Form:
    body = {"task": "classify", "use_activation": False, "input": token_ids}
    return body, lambda answer: [_only(one["data"]) for one in _in_order(answer["data"])]


def _classified_by_vllm(token_ids: list[list[int]]) -> Form:
    body = {"use_activation": False, "input": token_ids}
    return body, lambda answer: [_only(one["probs"]) for one in _in_order(answer["data"])]


def _classified_by_sglang(token_ids: list[list[int]]) -> Form:
    return {"input_ids": token_ids}, lambda answer: [_only(one["embedding"]) for one in answer]


def _in_order(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(answers, key=lambda one: int(one["index"]))


def _only(values: Any) -> float:
    """The one score of a rollout."""
    if isinstance(values, list) and len(values) != 1:
        raise ValueError(f"{len(values)} scores of a rollout; a reward model has one")
    return float(values[0] if isinstance(values, list) else values)


def _exactly(batch: slice, read: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """Read one value per rollout of a batch, and no other number of them."""

    def checked(answer: Any) -> list[Any]:
        values, wanted = read(answer), batch.stop - batch.start
        if not isinstance(values, list) or len(values) != wanted:
            raise ValueError(f"{len(values)} rewards for {wanted} rollouts")
        return values

    return checked
