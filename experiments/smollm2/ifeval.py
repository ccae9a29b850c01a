"""IFEval's own verifier as a reward, from lm-eval: `pip install 'lm_eval[ifeval]'`.

    tailgrad sample --dataset_name artifacts/prompts/ifeval-test.jsonl --reward_funcs ifeval.followed ...

A prompt carries its instructions as sentences, and in IFEval's columns `instruction_id_list` and `kwargs`.

| reward | value |
|---|---|
| `ifeval.followed` | share of the prompt's instructions that the response follows, by IFEval's strict rule |
| `ifeval.strict` | 1 if it follows all of them, else 0 |

A response without text follows none. Where a check looks at the language, langdetect draws random numbers; its seed is
set here, so that equal responses have equal rewards.
"""

from collections.abc import Sequence
from typing import Any

try:
    import langdetect
    from lm_eval.tasks.ifeval import instructions_registry, utils
except ModuleNotFoundError as error:
    message = f"IFEval's checks come from lm-eval, and {error.name!r} is missing. Do: pip install 'lm_eval[ifeval]'"
    raise ModuleNotFoundError(message, name=error.name) from error

langdetect.DetectorFactory.seed = 0

Kwargs = dict[str, Any]
Completion = str | list[dict[str, str]]


def follows(response: str, instructions: Sequence[str], arguments: Sequence[Kwargs]) -> list[bool]:
    """Whether a response follows each instruction, by IFEval's strict rule."""
    example = utils.InputExample(0, list(instructions), "", list(arguments))
    return [bool(one) for one in utils.test_instruction_following_strict(example, response).follow_instruction_list]


def followed(
    completions: Sequence[Completion],
    instruction_id_list: Sequence[Sequence[str]],
    kwargs: Sequence[Sequence[Kwargs]],
    **_: object,
) -> list[float]:
    """Share of the instructions that each response follows."""
    texts = (given if isinstance(given, str) else given[-1]["content"] for given in completions)
    rows = (follows(*row) for row in zip(texts, instruction_id_list, kwargs, strict=True))
    return [sum(row) / len(row) for row in rows]


def strict(
    completions: Sequence[Completion],
    instruction_id_list: Sequence[Sequence[str]],
    kwargs: Sequence[Sequence[Kwargs]],
    **_: object,
) -> list[float]:
    """1 for a response that follows all its instructions, 0 for any other."""
    return [float(share == 1) for share in followed(completions, instruction_id_list, kwargs)]


def sentence_of(instruction: str, arguments: Kwargs) -> str:
    """The instruction in IFEval's own words."""
    return str(instructions_registry.INSTRUCTION_DICT[instruction](instruction).build_description(**arguments))


def conflicts() -> dict[str, set[str]]:
    """The instructions that IFEval does not combine with each one."""
    return {name: set(others) for name, others in _CONFLICTS.items()}


_CONFLICTS = instructions_registry.conflict_make(instructions_registry.INSTRUCTION_CONFLICTS)
