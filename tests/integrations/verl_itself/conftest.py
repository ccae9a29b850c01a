"""What is run by itself, in a process of its own, is not collected."""

collect_ignore = ["cpu_platform.py", "step.py"]
