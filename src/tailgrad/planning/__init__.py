"""Planning: which estimator, m and prompts per step fit N, from rewards of the starting policy."""

from tailgrad.planning.command import train_command
from tailgrad.planning.measured import MeasuredGradients, read_fidelity_report
from tailgrad.planning.plan import Plan, PlanRow, make_plan
from tailgrad.planning.report import plan_markdown, write_plan
from tailgrad.planning.scoring import PolicyTraits

__all__ = [
    "MeasuredGradients",
    "Plan",
    "PlanRow",
    "PolicyTraits",
    "make_plan",
    "plan_markdown",
    "read_fidelity_report",
    "train_command",
    "write_plan",
]
