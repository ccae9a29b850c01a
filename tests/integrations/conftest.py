"""The tests against verl itself are left out where verl is not installed: it has an environment, `make check-verl`."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("verl") else ["verl_itself"]
