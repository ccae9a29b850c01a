"""Write a comparison for people and programs: figure, table and JSON."""

from collections.abc import Sequence
from pathlib import Path

from tailgrad.curves.compare import Comparison, compare
from tailgrad.curves.figures import save_figure
from tailgrad.curves.runs import Run
from tailgrad.curves.tables import json_text, markdown_text


def write_report(
    runs: Sequence[Run],
    out_dir: str | Path,
    *,
    budgets: Sequence[int] | None = None,
    reference: str | None = None,
    m: int | None = None,
    deploy_n: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare runs and write curve.png, curve.svg, curve.md and curve.json.

    Args:
        runs: Runs on the same prompts, sampled alike; runs that share a name are seeds of one method.
        out_dir: Folder for the four files, made if missing; an earlier report in it is replaced.
        budgets: Values of N; None for 1, 2, 4, ..., n.
        reference: Name of the method to take paired differences to; None for the first.
        m: Rollouts a prompt in training, to mark in the figure.
        deploy_n: The N trained for, to mark in the figure.
        seed: Seed of the bootstrap.

    Returns:
        The numbers that were written.

    Raises:
        ValueError: As `compare`; nothing is written then.
        ModuleNotFoundError: If matplotlib is missing.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> rewards = np.array([[0.0, 1.0], [0.5, 0.5]])
        >>> run = Run("base", prompt_ids=np.array([0, 1]), prompts=["a", "b"], rewards=rewards)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     comparison = write_report([run], folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['curve.json', 'curve.md', 'curve.png', 'curve.svg']
    """
    comparison = compare(runs, budgets=budgets, reference=reference, seed=seed)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(comparison, folder / "curve", m=m, deploy_n=deploy_n)
    (folder / "curve.md").write_text(markdown_text(comparison), encoding="utf-8")
    (folder / "curve.json").write_text(json_text(comparison), encoding="utf-8")
    return comparison
