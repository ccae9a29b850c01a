"""Models that stay whole on each process, whatever shards the policy that is trained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

EMPTY_BUT_ON_THE_FIRST: Final = "FSDP_CPU_RAM_EFFICIENT_LOADING"
"""The variable by which `accelerate launch` has models loaded on the first process alone."""


@contextmanager
def whole() -> Iterator[None]:
    """Within it, `from_pretrained` of transformers gives each process the whole model.

    Under DeepSpeed's ZeRO 3 it divides every model among the processes. Launched with FSDP, transformers before 5.23
    sets the weights of every model to zero on all processes but the first. Both are right for the policy that is
    trained alone, since accelerate gathers or sends its weights; nobody does that for a reward model.
    """
    from transformers.integrations import deepspeed

    zero3 = getattr(deepspeed, "_hf_deepspeed_config_weak_ref", None)  # there is a way to set it, and none to ask
    empty = os.environ.pop(EMPTY_BUT_ON_THE_FIRST, None)
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if zero3 is not None and (config := zero3()) is not None:
            deepspeed.set_hf_deepspeed_config(config)
        if empty is not None:
            os.environ[EMPTY_BUT_ON_THE_FIRST] = empty
