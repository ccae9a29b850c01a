"""The reward of small-instruct's graded constraints, by a name that commands in this folder find: `graded.score`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "small-instruct"))
from constraints import score as score
