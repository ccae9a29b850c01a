"""Tiny policies saved to disk, prompts, rewards, and the parts of a table."""

from parts_of_tables import begun, out
from seen_by_rewards import seen
from tiny_policies import chat_policy, dataset, make_policy, options, policy

__all__ = ["begun", "chat_policy", "dataset", "make_policy", "options", "out", "policy", "seen"]
