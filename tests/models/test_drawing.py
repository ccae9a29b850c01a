"""Tokens that are drawn with two random numbers, against the probabilities they are drawn by."""

import pytest
import torch
from scipy.stats import chisquare

from tailgrad.models.drawing import DrawToken, draw


@pytest.mark.parametrize("vocabulary", [3, 256, 700])
def test_frequencies_are_the_probabilities(vocabulary: int) -> None:
    """Blocks of 256 tokens: less than one, one, and two and a piece."""
    torch.manual_seed(0)
    logits = torch.randn(vocabulary) * 2
    logits[torch.randperm(vocabulary)[: vocabulary // 3]] = -torch.inf
    n = 200_000
    counts = torch.bincount(draw(logits.expand(n, -1)), minlength=vocabulary)
    expected = logits.double().softmax(-1) * n
    assert not counts[expected == 0].any()
    often = expected >= 5
    observed = [*counts[often].tolist(), counts[~often].sum().item() + 1e-9]
    frequencies = [*expected[often].tolist(), expected[~often].sum().item() + 1e-9]
    assert chisquare(observed, frequencies, sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_the_random_numbers(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither end falls on a token of probability 0, before the first or after the last that has one."""
    monkeypatch.setattr(torch, "rand", lambda *size, **of: torch.full(size, number, **of))
    logits = torch.full((4, 600), -torch.inf)
    for row, tokens in enumerate([[5, 250], [300], [255, 256], [511, 599]]):
        logits[row, tokens] = torch.tensor([0.3, -0.2])[: len(tokens)]
    first, last = [5, 300, 255, 511], [250, 300, 256, 599]
    assert draw(logits).tolist() == (last if number else first)


def test_rows_are_drawn_apart_at_the_temperature() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(50_000, 1)
    left = DrawToken(0.5)(torch.zeros(len(scores), 1, dtype=torch.long), scores)
    assert torch.equal(left.exp().sum(-1), torch.ones(len(scores)))  # one token each
    second = torch.tensor([2.0]).sigmoid().item()
    share = left.argmax(-1).double().reshape(-1, 2).mean(0)
    error = 4 * (second * (1 - second) / 50_000) ** 0.5
    torch.testing.assert_close(share, torch.tensor([second, 1 - second], dtype=torch.float64), rtol=0, atol=error)


@pytest.mark.parametrize("logit", [torch.nan, torch.inf])
def test_a_row_that_holds_no_number_is_no_row_to_draw_from(logit: float) -> None:
    logits = torch.zeros(3, 600)
    logits[1, 400] = logit
    with pytest.raises(ValueError, match="probabilities that are no numbers"):
        draw(logits)
