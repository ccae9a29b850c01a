"""A call that must answer in time: it runs in a thread of its own, which is left behind if it does not."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import torch


class RewardTimeoutError(RuntimeError):
    """A reward gave no answer in time; its thread goes on, and only the end of the process stops it."""


def in_thread(call: Callable[[], Any]) -> concurrent.futures.Future[Any]:
    """Start a call in a thread that does not hold the process.

    torch's settings that each thread has for itself are those of the caller: the GPU, and whether gradients are kept.

    Args:
        call: What to call.

    Returns:
        Its answer, in future.
    """
    answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
    context = contextvars.copy_context()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    keeps_gradients = torch.is_grad_enabled()

    def run() -> None:
        try:
            if device is not None:
                torch.cuda.set_device(device)
            with torch.set_grad_enabled(keeps_gradients):
                answer.set_result(context.run(call))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="reward", daemon=True).start()
    return answer


def wait(answer: concurrent.futures.Future[Any], timeout: float) -> Any:
    """Wait for an answer.

    Args:
        answer: What `in_thread` gave.
        timeout: Most seconds.

    Returns:
        The answer.

    Raises:
        RewardTimeoutError: There is none in time. What the call itself raises is raised as it is.
    """
    if not concurrent.futures.wait([answer], timeout).done:
        raise RewardTimeoutError
    return answer.result()
