"""The style that all figures share: colours, lines, and how a figure is drawn and saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailgrad.files import replacing

# Okabe and Ito's palette for colour-blind readers, without its yellow; the reference is grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
REFERENCE_COLOUR = "#5A5A5A"
LINES = ("-", "--", ":", "-.")
STYLE: Any = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E8E8E8",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.hashsalt": "tailgrad",
}

_FORMATS: Any = ({"format": "png", "dpi": 200}, {"format": "svg", "metadata": {"Date": None}})


@contextmanager
def drawing(stem: str | Path, size: tuple[float, float]) -> Iterator[tuple[Any, tuple[Path, Path]]]:
    """Give an empty figure in the style of all of ours, and save it as PNG and SVG at the end.

    Args:
        stem: Path of the files without ending; the folder must exist.
        size: Width and height in inches.

    Yields:
        The figure, and the paths of the PNG and the SVG.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "figures need matplotlib, which is not installed: pip install 'tailgrad[plot]'"
        ) from error
    stem = Path(stem)
    paths = (stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg"))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, paths
        for path, how in zip(paths, _FORMATS, strict=True):
            with replacing(path) as unfinished:
                figure.savefig(unfinished, **how)


def styles_of(names: Sequence[str], reference: str) -> dict[str, dict[str, Any]]:
    """Give every method its colour and line: grey for the reference, unless it stands alone.

    Args:
        names: The methods, the reference among them.
        reference: Name of the reference.

    Returns:
        Options for matplotlib's `plot` by name.
    """
    styles: dict[str, dict[str, Any]] = {}
    others = [name for name in names if name != reference or len(names) == 1]
    if len(names) > 1:
        styles[reference] = {"color": REFERENCE_COLOUR, "linestyle": "-"}
    for place, name in enumerate(others):
        line = LINES[place // len(COLOURS) % len(LINES)]
        styles[name] = {"color": COLOURS[place % len(COLOURS)], "linestyle": line}
    return styles
