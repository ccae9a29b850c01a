"""Write a comparison for people and programs: figure, table and JSON."""

from collections.abc import Sequence
from pathlib import Path

from tailgrad.curves.compare import Comparison, compare
from tailgrad.curves.figures import save_figure
from tailgrad.curves.rollouts import Rollouts
from tailgrad.curves.tables import json_text, markdown_text
from tailgrad.files import write_text


def write_report(
    rollouts: Sequence[Rollouts],
    out_dir: str | Path,
    *,
    budgets: Sequence[int] | None = None,
    reference: str | None = None,
    m: int | None = None,
    deploy_n: int | None = None,
    forecast_n: Sequence[int] = (),
    seed: int = 0,
) -> Comparison:
    """Compare rollouts and write curve.png, curve.svg, curve.md and curve.json.

    Args:
        rollouts: Rollouts on the same prompts, sampled alike; those that share a name are seeds of one method.
        out_dir: Folder for the four files, made if missing; an earlier report in it is replaced.
        budgets: Values of N; None for 1, 2, 4, ... (see `compare`).
        reference: Name of the method to compare the others with; None for the first.
        m: Rollouts per prompt in training, to mark in the figure.
        deploy_n: The N trained for, to mark in the figure.
        forecast_n: Values of N above the responses per prompt to forecast V_N at.
        seed: Seed of the bootstrap.

    Returns:
        The numbers that were written.

    Raises:
        ValueError: As `compare`; nothing is written then.
        ModuleNotFoundError: If matplotlib is missing.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> base = Rollouts(np.array([[0.0, 1.0], [0.5, 0.5]]), name="base")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     comparison = write_report([base], folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['curve.json', 'curve.md', 'curve.png', 'curve.svg']
    """
    comparison = compare(rollouts, budgets=budgets, reference=reference, forecast_n=forecast_n, seed=seed)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(comparison, folder / "curve", m=m, deploy_n=deploy_n)
    write_text(folder / "curve.md", markdown_text(comparison))
    write_text(folder / "curve.json", json_text(comparison))
    return comparison
