"""The jobs of a grid or a quickstart, run in this process."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence

from tailgrad.cli.main import main
from tailgrad.events import VARIABLE
from tailgrad.runner import Job


class InProcess:
    """Stands in for `run_side_by_side`, which has to be asked for this `keep_going`: one job after the other."""

    def __init__(self, *, keep_going: bool = True) -> None:
        self.jobs: list[Job] = []
        self.stop_after: int | None = None
        self.keep_going = keep_going
        self.after_job: Callable[[Job], None] = lambda job: None

    def __call__(
        self,
        chains: Sequence[Job | Iterable[Job]],
        *,
        processes: int,
        overall: str | None = None,
        keep_going: bool = False,
    ) -> None:
        assert keep_going == self.keep_going
        for chain in chains:
            for job in [chain] if isinstance(chain, Job) else chain:
                self.run(job)

    def run(self, job: Job) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        os.environ[VARIABLE] = str(job.events)  # set back by the fixture
        with job.log.open("w") as log, contextlib.redirect_stdout(log), contextlib.chdir(job.folder or "."):
            assert main(list(job.argv)) == 0, job.log.read_text()
        self.jobs.append(job)
        self.after_job(job)
        if self.stop_after is not None and len(self.jobs) >= self.stop_after:
            raise KeyboardInterrupt
