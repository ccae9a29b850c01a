"""The `tailgrad` command."""

from __future__ import annotations

import argparse
import os
import select
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from tailgrad import __version__
from tailgrad.cli import (
    curve,
    doctor,
    fidelity,
    grid,
    judge,
    plan,
    quickstart,
    report,
    sample,
    score,
    serve,
    tails,
    train,
)
from tailgrad.cli.errors import in_words

COMMANDS = (train, sample, score, judge, serve, tails, curve, plan, fidelity, grid, report, quickstart, doctor)
"""The commands; each module has its `make_parser`, `run`, which takes the words after its name, and texts about it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    It is 0, 1 if `doctor` finds something broken, 2 for unusable input, 130 interrupted, 141 where nobody reads on.
    """
    about = "Train a language model for best-of-N with few rollouts per prompt, and measure whether it helped."
    parser = argparse.ArgumentParser(prog="tailgrad", description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tailgrad {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    known = {module.__name__.rpartition(".")[2]: module for module in COMMANDS}
    for name, module in known.items():
        subparsers.add_parser(name, help=module.HELP, add_help=False)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL would tell the hub of every training
    if argv is None:
        _warn_in_words()
    given = list(sys.argv[1:] if argv is None else argv)
    name = parser.parse_args(given[:1]).command
    command: Any = known[name]
    resume = getattr(command, "INTERRUPTED", "the same command goes on where it stopped")
    try:
        code: int = command.run(given[1:]) or 0
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        of_trl = (error.name or "").partition(".")[0] == "trl"  # some rewards and chats need it
        extra = "train" if of_trl else command.EXTRA
        return _fail(name, f"{error}. Install what it needs: pip install 'tailgrad[{extra}]'")
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141
        if os.environ.get("TAILGRAD_TRACEBACK"):
            raise
        code = _fail(name, in_words(error, resume))
        if argv is None and _leaves_threads(error):
            sys.stdout.flush()
            os._exit(code)  # what hangs would hold the process at its end
        return code
    except KeyboardInterrupt:
        return _fail(name, f"interrupted; {resume}", code=130)
    return code


def _nobody_reads() -> bool:
    """Whether it is the standard output that is broken; what is left of it then goes nowhere, at Python's end too."""
    looked = select.poll()
    looked.register(1, 0)
    if not looked.poll(0):  # no error of this file is waiting
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def _warn_in_words() -> None:
    """Show a warning for the user as one line, and none of transformers about the old names that TRL gives options."""
    plain = warnings.formatwarning

    def one_line(message: Any, category: type[Warning], *where: Any, **more: Any) -> str:
        return f"warning: {message}\n" if category is UserWarning else plain(message, category, *where, **more)

    warnings.formatwarning = one_line
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")


def _leaves_threads(error: Exception) -> bool:
    """Whether the error is that of a reward that did not answer in time: what it has started goes on."""
    timeout = sys.modules.get("tailgrad.rewards.timeout")
    return timeout is not None and isinstance(error, timeout.RewardTimeoutError)


def _fail(command: str, message: str, code: int = 2) -> int:
    print(f"tailgrad {command}: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
