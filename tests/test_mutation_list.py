"""Every mutation of a formula changes text that stands in the package exactly once, and names a test that is there."""

from pathlib import Path

import pytest

from mutation_list import MUTATIONS, Mutation

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "src" / "tailgrad"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_the_text_stands_once_and_the_tests_exist(mutation: Mutation):
    text = (PACKAGE / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    assert text.replace(mutation.old, mutation.new) != text
    assert (TESTS / mutation.test).is_file()
