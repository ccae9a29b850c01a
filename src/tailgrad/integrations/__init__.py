"""The estimators in other trainers, one file for each, over what `groups` offers to all.

A trainer's file imports that trainer; this room imports none.
"""

from tailgrad.integrations.groups import GroupEstimator as GroupEstimator

__all__ = ["GroupEstimator"]
