"""Models that stay whole on each process, whatever shards the policy that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def whole() -> Iterator[None]:
    """Within it, `from_pretrained` of transformers gives each process the whole model.

    Under DeepSpeed's ZeRO 3 it divides every model among the processes. That is right for the policy that is trained
    alone: nobody would gather the weights of a reward model again, and a model without values cannot be divided.
    """
    from transformers.integrations import deepspeed

    config = deepspeed._hf_deepspeed_config_weak_ref  # transformers has a way to set it, and none to ask for it
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = config
