"""Write what `grid.yaml` starts from into `artifacts`: the embedded task's prompts, and its base policy, fitted.

python experiments/quickstart/inputs.py
"""

import json
import subprocess
import sys
from pathlib import Path

from tailgrad.quickstart.policy import is_fitted
from tailgrad.quickstart.task import SPLITS, build_prompts


def make_inputs(folder: Path) -> None:
    """Write the prompts of every split, and fit the base policy where it is not there: a minute."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        text = "".join(json.dumps(row) + "\n" for row in build_prompts(split))
        (folder / f"{split}.jsonl").write_text(text)
    if not is_fitted(folder / "base"):
        subprocess.run([sys.executable, "-m", "tailgrad.quickstart.policy", str(folder / "base")], check=True)


if __name__ == "__main__":
    make_inputs(Path(__file__).parent / "artifacts")
