"""Estimators by name, with their options given in Python or written in a word: `max_at_k:k=4,baseline=loo`."""

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from tailgrad.estimators._options import described, fits, read, written
from tailgrad.estimators.registry import ESTIMATORS, EstimatorRow


def find_estimator(name: str) -> EstimatorRow:
    """The row of the estimator with this name.

    Args:
        name: A key of `ESTIMATORS`.

    Returns:
        The estimator, and what must be known of it.

    Raises:
        ValueError: If the name is unknown; the message lists the names, and the one that was meant.

    Examples:
        >>> row = find_estimator("max_at_k")
        >>> list(row.options), row.takes_deploy_n, row.takes_ratios
        (['k', 'baseline'], False, True)
    """
    if name not in ESTIMATORS:
        close = difflib.get_close_matches(str(name), ESTIMATORS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise ValueError(f"unknown estimator {name!r}{hint} Choose one of: {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


def bind(name: str, **options: Any) -> Callable[..., Tensor]:
    """An estimator by name, with its options fixed.

    Args:
        name: A key of `ESTIMATORS`.
        **options: The estimator's keyword arguments; one that is None is left at its default.

    Returns:
        A function from rewards `[P, M]` to advantages `[P, M]`.

    Raises:
        ValueError: If the name is unknown, the estimator does not take an option, or lacks a required one.
        TypeError: If the value of an option is not of its kind.

    Examples:
        >>> import torch
        >>> bind("max_at_k", k=3, baseline=None)(torch.tensor([[0.0, 1.0, 5.0]]))
        tensor([[ 0.,  0., 12.]])
    """
    given = _checked(name, options)
    return partial(ESTIMATORS[name].function, **given)


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

    Examples:
        >>> parse_estimator("max_at_k:k=4,baseline=loo")
        ('max_at_k', {'k': 4, 'baseline': 'loo'})
    """
    name, colon, rest = text.partition(":")
    parameters = find_estimator(name).options
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


def spell_estimator(name: str, options: dict[str, Any]) -> str:
    """An estimator with its options in a word, as `parse_estimator` reads it; the options in alphabetical order.

    Args:
        name: The name.
        options: Numbers, truth values, words, or lists of numbers; one that is None is left out.

    Returns:
        Such as "max_at_k:baseline=loo,k=4".

    Examples:
        >>> spell_estimator("pass_at_n", {"prior": None, "levels": [0, 0.5, 1]})
        'pass_at_n:levels=0+0.5+1'
    """
    parts = [f"{option}={written(value)}" for option, value in sorted(options.items()) if value is not None]
    return f"{name}:{','.join(parts)}" if parts else name


def with_budget(name: str, options: dict[str, Any], deploy_n: int) -> dict[str, Any]:
    """The options of an estimator, with `deploy_n` among them where it takes one.

    Args:
        name: A key of `ESTIMATORS`.
        options: Its options.
        deploy_n: N.

    Returns:
        Options, as for `bind`.

    Raises:
        ValueError: If the name is unknown, or the options give another N.

    Examples:
        >>> with_budget("tea", {}, 128), with_budget("grpo", {}, 128)
        ({'deploy_n': 128}, {})
    """
    if not find_estimator(name).takes_deploy_n:
        return options
    if options.get("deploy_n", deploy_n) != deploy_n:
        raise ValueError(
            f"estimator {spell_estimator(name, options)!r} gives deploy_n, and deploy_n = {deploy_n} is another: leave "
            f"it out of the estimator and give deploy_n = {options['deploy_n']}."
        )
    return options | {"deploy_n": deploy_n}


def belongs_to_estimators(option: str) -> str | None:
    """How to write an option that was given to a command but belongs to an estimator; None if no estimator takes it.

    Args:
        option: Name of the option.

    Returns:
        Words for the end of an error.

    Examples:
        >>> belongs_to_estimators("center")
        'it belongs to the estimator tea: write --estimator tea:center=VALUE'
    """
    takers = [name for name, row in ESTIMATORS.items() if option in row.options]
    if not takers:
        return None
    plural = "s" if len(takers) > 1 else ""
    return f"it belongs to the estimator{plural} {', '.join(takers)}: write --estimator {takers[0]}:{option}=VALUE"


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

    Examples:
        >>> smallest_group("tea", deploy_n=128), smallest_group("prefix_tea", deploy_n=128)
        (5, 12)
    """
    given = _checked(name, options)
    given.pop("validate", None)
    return ESTIMATORS[name].smallest_group(**given)


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None, none of them unknown to the estimator, missing, or of another kind."""
    parameters = find_estimator(name).options
    given = {option: value for option, value in options.items() if value is not None}
    validate = {option: given.pop(option) for option in ("validate",) if option in given}
    _check_known(name, given)
    missing = [o for o, p in parameters.items() if p.default is p.empty and o not in given]
    if missing:
        raise ValueError(f"{name} needs the option {', '.join(missing)}: give it a value")
    for option, value in given.items():
        if not fits(value, parameters[option].annotation):
            kind = described(parameters[option].annotation)
            raise TypeError(f"{name}: {option} must be of type {kind}, got {value!r}")
    return given | validate


def _check_known(name: str, options: dict[str, Any]) -> None:
    """Refuse options that the estimator does not take."""
    parameters = ESTIMATORS[name].options
    for option in options:
        if option not in parameters:
            takers = [other for other, row in ESTIMATORS.items() if option in row.options]
            raise ValueError(
                f"{name} takes no option {option!r}, only {', '.join(parameters) or 'none'}; "
                + (f"{option!r} belongs to {', '.join(takers)}" if takers else "no estimator takes it")
            )
