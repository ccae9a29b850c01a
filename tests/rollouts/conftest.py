"""Tiny policies saved to disk, prompts, rewards, and the parts of a table."""

from importlib.util import find_spec

from parts_of_tables import begun, out
from seen_by_rewards import seen
from tiny_policies import chat_policy, dataset, make_policy, options, policy

__all__ = ["begun", "chat_policy", "dataset", "make_policy", "options", "out", "policy", "seen"]

collect_ignore = [] if find_spec("ray") else ["test_on_ray.py"]  # in an environment of its own, `make check-ray`
