"""Who competes: every estimator with its options, for a setting."""

from __future__ import annotations

from settings import PARTS, Setting

from tailgrad.estimators import parse_estimator, smallest_group

GRADED = {
    "grpo": "grpo",
    "dr_grpo": "dr_grpo",
    "max@2": "max_at_k:k=2,baseline=loo",
    "max@4": "max_at_k:k=4,baseline=loo",
    "max@8": "max_at_k:k=8,baseline=loo",
    "max@m/2": "max_at_k:k={half},baseline=loo",
    "max@m": "max_at_k:k={m}",
    "rs_grpo 0.5": "rs_grpo:risk_beta=0.5,units=spread",
    "rs_grpo 1": "rs_grpo:risk_beta=1,units=spread",
    "rs_grpo 2": "rs_grpo:risk_beta=2,units=spread",
    "cvar .25": "cvar:tail_fraction=0.25",
    "cvar .5": "cvar:tail_fraction=0.5",
    "tea .25": "tea:deploy_n={N},tail_fraction=0.25",
    "tea .5": "tea:deploy_n={N},tail_fraction=0.5",
    "tea 1 centred": "tea:deploy_n={N},tail_fraction=1,center=true",
    "prefix_tea": "prefix_tea:deploy_n={N}",
    "flat": "flat_tea:deploy_n={N}",
    "flat K=2": "flat_tea:deploy_n={N},extrapolate_n=2",
    "flat K=4": "flat_tea:deploy_n={N},extrapolate_n=4",
    "flat K=16": "flat_tea:deploy_n={N},extrapolate_n=16",
    "flat .5": "flat_tea:deploy_n={N},tail_fraction=0.5",
    "flat .5 K=16": "flat_tea:deploy_n={N},tail_fraction=0.5,extrapolate_n=16",
    "flat .25": "flat_tea:deploy_n={N},tail_fraction=0.25",
    "flat l2o": "leave_two_out flat_tea:deploy_n={N}",
    "entropic": "entropic",
    "top 2 of 8": "order_grad:k=8,top=2",
    "qae": "qae",
    "cat_bon": "cat_bon:deploy_n={N}",
    "bon_max_mean": "bon_max_mean",
    "flat .5 K=16 by group": "flat_tea:deploy_n={N},tail_fraction=0.5,extrapolate_n=16",
    "flat K=16 by group": "flat_tea:deploy_n={N},extrapolate_n=16",
    "rs_grpo 2 by group": "rs_grpo:risk_beta=2,units=spread",
    "max@m/2 by group": "max_at_k:k={half},baseline=loo",
    "flat by group": "flat_tea:deploy_n={N}",
    "max@4 by group": "max_at_k:k=4,baseline=loo",
}
"""As `--estimators` takes them; {m}, {half} and {N} are those of the setting. "by group": scaled group by group.

`rloo` is `dr_grpo` times m / (m - 1), which the scaling takes away, and `bon_max_second` is `max@m`."""
BINARY = {
    "pass_at_k 4": "pass_at_k:k=4",
    "pass_at_k m/2": "pass_at_k:k={half}",
    "bon_rl": "bon_rl:deploy_n={N}",
    "max_rl": "max_rl",
    "f_grpo": "f_grpo",
    "pass_at_n": "pass_at_n:deploy_n={N}",
}
"""For 0/1 rewards alone."""
FIRST_PASS = ("prefix_tea", "flat K=2")
"""Trained in the first thirteen choosing bandits alone: far from the front, or dear."""
BANDITS = ("rs_grpo 0.5", "cvar .5", "tea .5", "flat K=4", "flat .25", "flat l2o")
"""Trained in the choosing bandits alone."""
CHOOSING = (*FIRST_PASS, *BANDITS, "flat .5 K=16 by group", "flat K=16 by group")
"""Trained in the choosing half alone."""
LEAVE_TWO_OUT = "leave_two_out "
"""Before an estimator: with that baseline, which costs m times as much; for m up to 16 here."""
DEFAULT = "flat by group"
"""The recommended default, chosen on the choosing half of the settings."""
PEERS = ("max@2", "max@4", "max@8", "max@m/2", "max@m")
"""What "the best max_at_k" is the best of."""
FLATS = ("flat", "flat K=16", "flat .5", "flat .5 K=16")
"""What "the best flat TEA" is the best of."""
LATE = ("entropic", "top 2 of 8", "qae", "cat_bon", "bon_max_mean")
"""Joined when everything else was known: they took no part in the choice."""
FRESH = ("grpo", *PEERS, *FLATS, DEFAULT, "rs_grpo 2", "tea 1 centred", "tea .25", *LATE)
"""Trained in the fresh settings."""


def contenders_of(setting: Setting) -> dict[str, tuple[str, str]]:
    """Who was still in the race for a setting: name to text and scaling of the advantages."""
    return {name: contender for name, contender in trainable(setting).items() if _competes(name, setting)}


def trainable(setting: Setting) -> dict[str, tuple[str, str]]:
    """The estimators that can train with the setting's groups."""
    listed = GRADED | (BINARY if setting.shape == "success" else {})
    found = {}
    for name, template in listed.items():
        text = template.format(m=setting.m, half=setting.m // 2, N=setting.deploy_n)
        estimator, options = parse_estimator(text.removeprefix(LEAVE_TWO_OUT))
        wrapped = text.startswith(LEAVE_TWO_OUT)
        if smallest_group(estimator, **options) + wrapped <= setting.m and not (wrapped and setting.m > 16):
            found[name] = text, "group" if name.endswith("by group") else "batch"
    return found


def _competes(name: str, setting: Setting) -> bool:
    """Whether a contender was still in the race for this setting."""
    if setting.part == PARTS[2]:
        return name in FRESH
    if setting.part == PARTS[1]:
        return name not in CHOOSING
    if setting.world == "sequence":
        return name not in (*FIRST_PASS, *BANDITS)
    return name not in FIRST_PASS or setting.seed < 125
