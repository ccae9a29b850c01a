"""What a report of `tailgrad fidelity` says of a policy: how noisy its steps are, and how easily the spread moves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.curves.settings import differences, settings_of
from tailgrad.estimators import parse_estimator, spell_estimator
from tailgrad.fidelity.advice import HARDLY
from tailgrad.files import expanded
from tailgrad.planning.replay import Replay
from tailgrad.planning.scoring import PolicyTraits, measures


@dataclass(frozen=True)
class MeasuredGradients:
    """Directions and signals to noise of estimators, measured on gradients.

    Attributes:
        prompts: P of the report.
        points: For each estimator, spelled with its options in order, and m: direction, and signal to noise at P
            prompts.
        source: The report.
        halves_agree: Cosine between the gradients of V_N from the two halves of its pool; NaN where it does not say.
    """

    prompts: int
    points: dict[tuple[str, int], tuple[float, float]]
    source: str
    halves_agree: float = np.nan

    @property
    def notes(self) -> list[str]:
        """What a reader of a plan must know of the report."""
        if not self.halves_agree < HARDLY:
            return []
        return [
            f"The report's directions are hardly known: the gradients of V_N from the halves of its pool have cosine "
            f"{self.halves_agree:.2f}. D and w follow from them, and the intervals here take both as they are. Make a "
            "report from more responses per prompt, or more prompts, before much depends on it."
        ]


def read_fidelity_report(
    path: str | Path, deploy_n: int, *, table: Mapping[str, Any] | None = None
) -> MeasuredGradients:
    """Read what a report measured at one N.

    Args:
        path: The fidelity.json, or the folder it is in.
        deploy_n: N.
        table: Metadata of the rollout table that is planned from, which must be of the same policy and reward.

    Returns:
        What has a known direction and a positive signal to noise.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no report of `tailgrad fidelity`, knows nothing at this N, or is of another policy or reward.
    """
    path = expanded(path)
    path = path / "fidelity.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"fidelity report {str(path)!r}: there is no such file. `tailgrad fidelity` writes one."
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        prompts = int(document["prompts"])
        known = [
            (point, _number(point, "direction"), _number(point, "signal_to_noise")) for point in document["points"]
        ]
        at_n = {
            (spell_estimator(*parse_estimator(point["estimator"])), int(point["m"])): (direction, signal)
            for point, direction, signal in known
            if point["deploy_n"] == deploy_n and np.isfinite(direction) and signal > 0
        }
        budgets = sorted({int(point["deploy_n"]) for point, *_ in known})
        pool = dict(document.get("pool") or {})
        agree = {int(one["deploy_n"]): one["cosine_of_halves"] for one in document.get("truth") or []}.get(deploy_n)
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{str(path)!r} is no report of `tailgrad fidelity`: {error!r}. Give its fidelity.json."
        ) from error
    _check_source(path, pool, table or {})
    if not at_n:
        raise ValueError(
            f"fidelity report {str(path)!r} has no known direction at N = {deploy_n} (it was made for N = "
            f"{', '.join(map(str, budgets))}): make one with --deploy_n {deploy_n}, from more responses per prompt."
        )
    return MeasuredGradients(prompts, at_n, str(path), np.nan if agree is None else float(agree))


def _check_source(path: Path, pool: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    """Refuse a report of another policy, reward or sampling than the table's, as far as both say theirs."""
    policy = ("model_files",) if pool.get("model_files") and table.get("model_files") else ("model", "revision")
    known = [name for name in policy if pool.get(name) and table.get(name)]
    policies = [{name: of[name] for name in known} for of in (table, pool)]
    scored = [_scored_and_sampled(of) for of in (table, pool)]
    for what, (ours, theirs) in (("policy", policies), ("reward or sampling", scored)):
        found = differences(ours, theirs) if ours and theirs else []
        if found:
            name, here, there = found[0]
            raise ValueError(
                f"fidelity report {str(path)!r} is of another {what}: {name} is {there!r} there and {here!r} in the "
                "rollout table. Make one for the table's policy and reward, or plan without."
            )


def _scored_and_sampled(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """How responses were sampled and scored; the prompts and their number may be others."""
    settings = settings_of({name: value for name, value in metadata.items() if name != "dataset"})
    return {name: value for name, value in settings.items() if name != "n"}


def _number(point: dict[str, Any], name: str) -> float:
    mean = point[name]["mean"]
    return np.nan if mean is None else float(mean)


def fitted_traits(replay: Replay, groups: Sequence[tuple[str, int]], measured: MeasuredGradients) -> PolicyTraits:
    """Give the traits with which rewards tell the measured directions and signals to noise best.

    w, in steps of 0.01, makes the squared errors of the directions smallest. D is then the median over estimators of
    what makes the signal to noise right, |a|^2 P / (s sigma^2).

    Args:
        replay: Of the same rewards.
        groups: Its estimators, spelled with their options in order, each with its m.
        measured: From gradients.

    Returns:
        The traits.

    Raises:
        ValueError: Nothing that was measured is among the groups.
    """
    places = [place for place, pair in enumerate(groups) if pair in measured.points]
    if not places:
        raise ValueError(
            f"fidelity report {measured.source!r} measured {_named(measured)}; none of these can be replayed here."
        )
    part = Replay(replay.square[places], replay.along[places], replay.noise[places], replay.truth)
    directions, signals = np.array([measured.points[groups[place]] for place in places]).T
    prompts = np.full(len(places), measured.prompts)

    def found(weight: float) -> tuple[float, float]:
        """The error of the directions, and D."""
        direction, signal, _ = (of[:, 0] for of in measures(part, PolicyTraits(1.0, weight, ""), prompts))
        return float(np.mean((direction - directions) ** 2)), float(np.nanmedian(signal / signals))

    errors = {weight: error for weight in np.linspace(0, 1, 101) if np.isfinite(error := found(float(weight))[0])}
    if not errors:
        raise ValueError(
            "the pool shows no signal of what the fidelity report measured: sample more responses per prompt."
        )
    best = float(min(errors, key=lambda weight: errors[weight]))
    return PolicyTraits(found(best)[1], best, measured.source)


def _named(measured: MeasuredGradients) -> str:
    return ", ".join(f"{name} (m = {m})" for name, m in measured.points)
