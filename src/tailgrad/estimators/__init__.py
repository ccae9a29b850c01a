"""Group estimators: rewards `[P, M]` in, advantages `[P, M]` on the mean scale out."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from tailgrad.estimators._options import described, fits, read
from tailgrad.estimators.bon_max_mean import bon_max_mean
from tailgrad.estimators.bon_max_second import bon_max_second
from tailgrad.estimators.bon_rl import bon_rl
from tailgrad.estimators.cat_bon import cat_bon
from tailgrad.estimators.cvar import cvar
from tailgrad.estimators.dr_grpo import dr_grpo
from tailgrad.estimators.entropic import entropic
from tailgrad.estimators.f_grpo import f_grpo
from tailgrad.estimators.flat_tea import flat_tea
from tailgrad.estimators.grpo import grpo
from tailgrad.estimators.leave_two_out import leave_two_out
from tailgrad.estimators.max_at_k import max_at_k
from tailgrad.estimators.max_rl import max_rl
from tailgrad.estimators.order_grad import order_grad
from tailgrad.estimators.pass_at_k import pass_at_k
from tailgrad.estimators.pass_at_n import pass_at_n
from tailgrad.estimators.prefix_tea import prefix_tea
from tailgrad.estimators.qae import qae
from tailgrad.estimators.ragged import advantages_ragged
from tailgrad.estimators.rloo import rloo
from tailgrad.estimators.rs_grpo import rs_grpo
from tailgrad.estimators.tea import tea
from tailgrad.types import Estimator

__all__ = [
    "ESTIMATORS",
    "accepted_options",
    "advantages_ragged",
    "bind",
    "bon_max_mean",
    "bon_max_second",
    "bon_rl",
    "cat_bon",
    "cvar",
    "dr_grpo",
    "entropic",
    "f_grpo",
    "flat_tea",
    "grpo",
    "leave_two_out",
    "max_at_k",
    "max_rl",
    "order_grad",
    "parse_estimator",
    "pass_at_k",
    "pass_at_n",
    "prefix_tea",
    "qae",
    "rloo",
    "rs_grpo",
    "smallest_group",
    "summary",
    "takes_ratios",
    "tea",
]

ESTIMATORS: dict[str, Estimator] = {
    "tea": tea,
    "prefix_tea": prefix_tea,
    "flat_tea": flat_tea,
    "cvar": cvar,
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "max_at_k": max_at_k,
    "order_grad": order_grad,
    "bon_max_mean": bon_max_mean,
    "bon_max_second": bon_max_second,
    "bon_rl": bon_rl,
    "cat_bon": cat_bon,
    "pass_at_k": pass_at_k,
    "pass_at_n": pass_at_n,
    "max_rl": max_rl,
    "f_grpo": f_grpo,
    "rs_grpo": rs_grpo,
    "entropic": entropic,
    "qae": qae,
}
"""Every estimator by its plain name."""


def bind(name: str, **options: Any) -> Callable[[Tensor], Tensor]:
    """An estimator by name, with its options fixed.

    Args:
        name: A key of `ESTIMATORS`.
        **options: The estimator's keyword arguments; one that is None is left at its default.

    Returns:
        A function from rewards `[P, M]` to advantages `[P, M]`.

    Raises:
        ValueError: If the name is unknown, the estimator does not take an option, or lacks a required one.
        TypeError: If the value of an option is not of its kind.

    Example:
        >>> import torch
        >>> bind("max_at_k", k=3, baseline=None)(torch.tensor([[0.0, 1.0, 5.0]]))
        tensor([[ 0.,  0., 12.]])
    """
    given = _checked(name, options)
    return partial(ESTIMATORS[name], **given)


def parse_estimator(text: str) -> tuple[str, dict[str, Any]]:
    """Read an estimator with its options as one writes it on a command line: `name` or `name:option=value,...`.

    Args:
        text: Such as "tea" or "max_at_k:k=4,baseline=loo". Values are whole numbers, numbers, true, false, or words;
            a list is written with plus signs, "pass_at_n:levels=0+0.5+1".

    Returns:
        Name and options, as `bind` takes them. Options that are missing are not looked for.

    Raises:
        ValueError: If the name is unknown, the estimator does not take an option, an option is given twice or not
            as option=value, or its value is not of the option's kind.

    Example:
        >>> parse_estimator("max_at_k:k=4,baseline=loo")
        ('max_at_k', {'k': 4, 'baseline': 'loo'})
    """
    name, colon, rest = text.partition(":")
    parameters = _options(name)
    options: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not (option and equals and value) or option in options:
            raise ValueError(
                f"estimator {text!r}: {part!r} is {'given twice' if option in options else 'not option=value'}; "
                "write such as max_at_k:k=4,baseline=loo"
            )
        _check_known(name, {option: value})
        annotation = parameters[option].annotation
        options[option] = read(value, annotation)
        if not fits(options[option], annotation):
            raise ValueError(f"estimator {text!r}: {option} must be of type {described(annotation)}, got {value!r}")
    return name, options


def _check_known(name: str, options: dict[str, Any]) -> None:
    """Refuse options that the estimator does not take."""
    parameters = _options(name)
    for option in options:
        if option not in parameters:
            takers = [other for other in ESTIMATORS if option in _options(other)]
            raise ValueError(
                f"{name} takes no option {option!r}, only {', '.join(parameters)}; "
                + (f"{option!r} belongs to {', '.join(takers)}" if takers else "no estimator takes it")
            )


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None, none of them unknown to the estimator, missing, or of another kind."""
    parameters = _options(name)
    given = {option: value for option, value in options.items() if value is not None}
    _check_known(name, given)
    missing = [o for o, p in parameters.items() if p.default is p.empty and o not in given]
    if missing:
        raise ValueError(f"{name} needs the option {', '.join(missing)}: give it a value")
    for option, value in given.items():
        if not fits(value, parameters[option].annotation):
            kind = described(parameters[option].annotation)
            raise TypeError(f"{name}: {option} must be of type {kind}, got {value!r}")
    return given


def smallest_group(name: str, **options: Any) -> int:
    """The fewest scored rollouts that can give a group advantages other than zero.

    Groups with fewer get zeros, silently; a trainer counts them with this. It is also the smallest M.

    Args:
        name: A key of `ESTIMATORS`.
        **options: The estimator's keyword arguments, as for `bind`.

    Returns:
        A number of rollouts, at least 2 but for `max_at_k(k=1, baseline="none")`.

    Raises:
        ValueError, TypeError: As for `bind`.

    Example:
        >>> smallest_group("tea", deploy_n=128), smallest_group("prefix_tea", deploy_n=128)
        (5, 12)
    """
    given = _checked(name, options)
    given.pop("validate", None)
    smallest: Callable[..., int] | None = getattr(ESTIMATORS[name], "smallest_group", None)
    return 2 if smallest is None else smallest(**given)


def accepted_options(name: str) -> tuple[str, ...]:
    """The options an estimator takes, without `validate`.

    Args:
        name: A key of `ESTIMATORS`.

    Returns:
        Names of its keyword arguments in their order.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> accepted_options("max_at_k")
        ('k', 'baseline')
    """
    return tuple(option for option in _options(name) if option != "validate")


def takes_ratios(name: str) -> bool:
    """Whether an estimator corrects for rollouts of an older policy, given their ratios as its second argument.

    Args:
        name: A key of `ESTIMATORS`.

    Returns:
        False for those that have no such form.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> takes_ratios("max_at_k"), takes_ratios("grpo")
        (True, False)
    """
    _options(name)
    return "ratios" in inspect.signature(ESTIMATORS[name]).parameters


def summary(name: str) -> str:
    """What an estimator is, in a line: the first of its docstring, without the full stop.

    Args:
        name: A key of `ESTIMATORS`.

    Returns:
        A few words.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> summary("dr_grpo")
        'Reward minus the mean of the group'
    """
    _options(name)
    return (inspect.getdoc(ESTIMATORS[name]) or "").partition("\n")[0].rstrip(".")


def _options(name: str) -> dict[str, inspect.Parameter]:
    if name not in ESTIMATORS:
        close = difflib.get_close_matches(str(name), ESTIMATORS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise ValueError(f"unknown estimator {name!r}{hint} Choose one of: {', '.join(ESTIMATORS)}")
    parameters = inspect.signature(ESTIMATORS[name]).parameters
    return {option: p for option, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
