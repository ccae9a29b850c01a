"""What is evaluated on is not what is trained on."""

import pytest
from datasets import Dataset

from tailgrad.training.data import train_and_test


def rows(*numbers: int) -> Dataset:
    return Dataset.from_list([{"prompt": [{"role": "user", "content": f"What is {n}?"}], "n": n} for n in numbers])


def divide(splits, **changes):
    given = {"train_split": "train", "test_split": "test", "test_size": None, "seed": 0}
    return train_and_test(splits.__getitem__, **given | changes)


def test_two_splits_are_taken_as_they_are() -> None:
    train, test = divide({"train": rows(1, 2), "test": rows(3)})
    assert (train["n"][:], test["n"][:]) == ([1, 2], [3])
    train, test = divide({"train": rows(1, 2)}, test_split=None)
    assert (len(train), test) == (2, None)


def test_one_file_for_both_is_refused_with_a_way_out() -> None:
    one_file = rows(1, 2, 3)
    with pytest.raises(ValueError, match=r"All 3 prompts of the evaluation are trained on too.* --test_split_size"):
        divide({"train": one_file, "test": one_file})
    with pytest.raises(ValueError, match="All 2 prompts"):
        divide({"train": rows(1, 2, 3), "test": rows(2, 3)})


def test_a_missing_split_names_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"'test'.*--test_split_size"):
        divide({"train": rows(1, 2, 3)})


def test_a_part_in_common_is_said(caplog) -> None:
    divide({"train": rows(1, 2, 3), "test": rows(3, 4)})
    assert "1 of the 2 prompts of the evaluation are trained on too" in caplog.text


@pytest.mark.parametrize(("size", "count"), [(0.25, 2), (3, 3), (3.0, 3)])
def test_rows_are_held_out_by_seed(size, count) -> None:
    splits = {"train": rows(*range(8))}
    train, test = divide(splits, test_size=size)
    assert len(test) == count
    assert sorted(train["n"][:] + test["n"][:]) == list(range(8))
    assert divide(splits, test_size=size)[1]["n"][:] == test["n"][:]
    assert divide(splits, test_size=size, seed=1)[1]["n"][:] != test["n"][:]
    assert divide(splits, test_size=size, test_split=None)[1] is None
    assert len(divide(splits, test_size=size, test_split=None)[0]) == 8 - count


@pytest.mark.parametrize("size", [0, -1, 8, 2.5])
def test_a_size_that_cannot_be_held_out_is_refused(size) -> None:
    with pytest.raises(ValueError, match="below the 8 that there are"):
        divide({"train": rows(*range(8))}, test_size=size)


def test_a_stream_is_not_divided() -> None:
    with pytest.raises(ValueError, match="not of a stream"):
        divide({"train": rows(1, 2).to_iterable_dataset()}, test_size=1)
