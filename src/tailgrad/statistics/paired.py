"""The difference of two methods on the same prompts, with its interval."""

import numpy as np
from jaxtyping import Float

from tailgrad.statistics.intervals import Interval, mean_interval


def paired_difference(
    values: Float[np.ndarray, "S P K"], reference: Float[np.ndarray, "R P K"], *, seed: int = 0
) -> Interval:
    """Give the mean difference of K quantities between two methods on the same prompts, with 95% intervals.

    Differences are taken prompt by prompt, so what makes a prompt easy or hard for both cancels. If both methods have
    the same number of seeds, seed s is paired with seed s. A method with one run is paired with each seed of the other.
    The intervals are those of `mean_interval` on the differences.

    Args:
        values: One number per seed, prompt and quantity.
        reference: The same of the method to compare with; the prompts in the same order.
        seed: Seed of the bootstrap.

    Returns:
        Mean and interval of `values` - `reference`. A prompt with NaN on either side is left out.

    Raises:
        ValueError: If prompts or quantities differ in number, or both methods have several seeds but not
            equally many.

    Examples:
        >>> prompts = np.arange(8.0).reshape(1, 8, 1)
        >>> difference = paired_difference(prompts + 0.5, prompts)
        >>> difference.low, difference.high
        (array([0.5]), array([0.5]))
    """
    if values.shape[1:] != reference.shape[1:]:
        raise ValueError(
            "paired differences need the same prompts and quantities, "
            f"got {values.shape[1:]} and {reference.shape[1:]}."
        )
    seeds = (len(values), len(reference))
    if 1 not in seeds and seeds[0] != seeds[1]:
        raise ValueError(
            f"cannot pair {seeds[0]} training seeds with {seeds[1]}: give both methods the same number of "
            "runs, or one of them a single run."
        )
    return mean_interval(values - reference, seed=seed)
