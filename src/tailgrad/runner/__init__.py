"""Commands side by side, each with its own log, events and progress bar; none outlives the process that started it."""

from tailgrad.runner.side_by_side import Job, events_beside, flags, run_side_by_side, stop_on_signals

__all__ = ["Job", "events_beside", "flags", "run_side_by_side", "stop_on_signals"]
