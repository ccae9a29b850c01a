"""Tiny policies saved to disk, prompts, and rewards."""

from tiny_policies import chat_policy, dataset, make_policy, options, policy

__all__ = ["chat_policy", "dataset", "make_policy", "options", "policy"]
