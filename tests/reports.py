"""What tests read of a report in Markdown: cells, names and numbers, not sentences."""

import re


def tables_of(markdown: str) -> list[list[list[str]]]:
    """The cells of every table in its order, header first, without the rule below it."""
    found = re.findall(r"(?:^\|.*\n?)+", markdown, re.MULTILINE)
    tables = [[[cell.strip() for cell in line.strip("|").split(" | ")] for line in one.splitlines()] for one in found]
    return [[rows[0], *rows[2:]] for rows in tables]


def numbers_in(text: str) -> list[float]:
    """The numbers of a text, in their order."""
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)", text)]


def budgets_in(text: str) -> list[int]:
    """Every N of a V_N that is named."""
    return [int(budget) for budget in re.findall(r"\bV_(\d+)", text)]
