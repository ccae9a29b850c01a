"""The tests against verl and SkyRL themselves are left out where these are not installed: see `make check-verl`."""

from importlib.util import find_spec

collect_ignore = [f"{host}_itself" for host in ("verl", "skyrl") if not find_spec(host)]
