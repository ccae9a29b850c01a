"""Gradient fidelity: how well an estimator's gradient from m rollouts agrees with that of V_N."""

from tailgrad.fidelity.break_even import break_even
from tailgrad.fidelity.measure import (
    Fidelity,
    FidelityPoint,
    ResponseGradients,
    check_fidelity,
    gradient_fidelity,
    population_influence,
)
from tailgrad.fidelity.report import fidelity_markdown, write_fidelity

__all__ = [
    "Fidelity",
    "FidelityPoint",
    "ResponseGradients",
    "break_even",
    "check_fidelity",
    "fidelity_markdown",
    "gradient_fidelity",
    "population_influence",
    "write_fidelity",
]
