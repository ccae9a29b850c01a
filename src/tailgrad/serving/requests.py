"""What a request may say: fields of OpenAI's API and ours; what is not served is refused, never left out in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from tailgrad.rollouts.chats import Prompt
from tailgrad.serving.config import ServeConfig
from tailgrad.serving.errors import ApiError

Probability = Annotated[float, Field(ge=0, le=1)]
Stop = Annotated[str, Field(min_length=1)]

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
"""Fields of OpenAI's API that are not served, and the values with which they ask for nothing."""

_INSTEAD: Final = {
    "n": "one response is returned; best_of_n says of how many it is the best",
    "best_of": "best_of_n says of how many samples the response is the best",
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Model):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class Message(_Model):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    @property
    def plain(self) -> dict[str, str]:
        """The message as chat templates take it."""
        parts = self.content
        return {"role": self.role, "content": parts if isinstance(parts, str) else "".join(one.text for one in parts)}


class StreamOptions(_Model):
    """How a stream ends."""

    include_usage: bool = False


class _Request(_Model):
    """What both kinds of request may say."""

    model: str
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**62)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    best_of_n: Annotated[int, Field(ge=1)] | None = None
    max_price: Annotated[float, Field(gt=0)] | None = None
    return_candidates: bool = False
    reward_columns: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def shaping(self) -> dict[str, Any]:
        """What shapes a response, by transformers' names."""
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        top_k = 0 if self.top_k == -1 else self.top_k
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": top_k, "min_p": self.min_p}
        given |= {"repetition_penalty": self.repetition_penalty, "max_new_tokens": limit}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a response."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(_Request):
    """A request to `/v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]

    @property
    def prompt_to_sample(self) -> Prompt:
        """The chat."""
        return [message.plain for message in self.messages]


class TextRequest(_Request):
    """A request to `/v1/completions`."""

    prompt: Annotated[str, Field(min_length=1)]

    @property
    def prompt_to_sample(self) -> Prompt:
        """The text."""
        return self.prompt


Request = ChatRequest | TextRequest


def read_request(body: bytes, kind: type[ChatRequest] | type[TextRequest], config: ServeConfig) -> Request:
    """Read a request, within the limits.

    Args:
        body: JSON.
        kind: What is asked for.
        config: Has the limits.

    Returns:
        The request.

    Raises:
        ApiError: It is no JSON, or a field is unknown, not served or out of range.
    """
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON that can be read: {error}.") from None
    if not isinstance(fields, dict):
        raise ApiError(400, f"the body is a {type(fields).__name__}; it must be a JSON object.")
    try:
        request = kind.model_validate(_served(fields))
    except ValidationError as error:
        raise _in_words(error) from None
    _check_limits(request, config)
    return request


def _served(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what asks for nothing, and refuse what is not served."""
    kept = {}
    for name, value in fields.items():
        if value is None:
            continue
        if name in _NEUTRAL:
            if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in _NEUTRAL[name]):
                allowed = " or ".join(repr(one) for one in _NEUTRAL[name])
                hint = _INSTEAD.get(name, "leave it out")
                raise ApiError(
                    400,
                    f"{name} is {_short(value)}, which is not served; only {allowed} is: {hint}.",
                    param=name,
                    code="unsupported_parameter",
                )
        else:
            kept[name] = value
    return kept


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _in_words(error: ValidationError) -> ApiError:
    """The first thing that is wrong, in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(one) for one in first["loc"]) or "the body"
    if first["type"] == "extra_forbidden":
        message = f"{path} is no field that is served here: leave it out."
        return ApiError(400, message, param=path, code="unsupported_parameter")
    if first["type"] == "missing":
        return ApiError(400, f"{path} is missing.", param=path, code="missing_required_parameter")
    return ApiError(400, f"{path} is {_short(first['input'])}: {first['msg']}.", param=path, code="invalid_value")


def _check_limits(request: Request, config: ServeConfig) -> None:
    if request.model != config.name:
        raise ApiError(
            404,
            f"the model {_short(request.model)} is not served here; {config.name!r} is.",
            param="model",
            code="model_not_found",
        )
    if request.max_tokens is not None and request.max_completion_tokens not in (None, request.max_tokens):
        raise ApiError(400, "max_tokens and max_completion_tokens differ: give one of them.", param="max_tokens")
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "stream_options without stream: leave it out, or set stream.", param="stream_options")
    tokens = request.shaping.get("max_new_tokens", 0)
    for name, value, most in (
        ("max_tokens", tokens, config.max_tokens),
        ("best_of_n", request.best_of_n, config.max_n),
    ):
        if value is not None and value > most:
            raise ApiError(400, f"{name} is {value}; at most {most} is allowed here.", param=name, code="invalid_value")
