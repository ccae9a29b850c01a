"""Checks of a saved policy against the model that it was made from: tokens, logits, perplexity and answers."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from tailgrad.display.cells import aligned
from tailgrad.models.logprobs import response_logprobs
from tailgrad.rollouts.prompts import tokenize_prompts

PASSAGE = """\
The mill stood where the road crossed the river, and for 3 weeks in spring nobody could reach it on foot. Anna had \
been told to wait for the boat. She waited until noon, then took off her shoes, tied them around her neck and walked \
into the water. It was colder than she had thought, but the ground was firm, and on the other side the miller's dog \
was barking as if she had come to steal the flour.

"You are early," said the miller. "What did you bring me?"

"Nothing. I came to ask for work."

He looked at her wet dress and laughed. Then he wrote a list on the back of a bill:

1. Sweep the floor before 6 in the morning.
2. Count the sacks that come in, and the sacks that go out.
3. Never sleep when the wheel is turning.

"If you can do that," he said, "you may stay until the end of August. I pay 12 coins a week, and the bread is free."
"""
"""Written for this check, so that no model has read it: narration, speech, digits and a list."""

QUESTIONS = {
    "What is the capital of France?": "Paris",
    "Which animal says meow?": "cat",
    "Write one sentence about the sea.": "sea",
}
"""What is asked, and a word that stands in every sensible answer."""

ANSWER_TOKENS = 64
LOGIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Checks:
    """What was found of a saved policy.

    Attributes:
        parameters: The number of its parameters.
        perplexity: Perplexity of `PASSAGE`, per token.
        tokens: The number of tokens of `PASSAGE`.
        logit_gap: The largest difference of its logits on `PASSAGE` from those of the model it was made from.
        same_template: Whether both make the same text of a chat, and the same tokens of it and of `PASSAGE`.
        opening: What a response goes on from, in a chat of one question.
        answers: Its most likely answer to each of `QUESTIONS`.
    """

    parameters: int
    perplexity: float
    tokens: int
    logit_gap: float
    same_template: bool
    opening: str
    answers: dict[str, str]


def check(saved: tuple[Any, Any], made_from: tuple[Any, Any]) -> Checks:
    """Compare a saved policy, as `tailgrad` loads it, with the model it was made from; each with its tokenizer."""
    (model, tokenizer), (origin, its_tokenizer) = saved, made_from
    ids = tokenizer(PASSAGE)["input_ids"]
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    texts, token_ids = zip(*(_as_read(one, chats) for one in (tokenizer, its_tokenizer)), strict=True)
    with torch.no_grad():
        given = torch.tensor([ids])
        gap = (model(given).logits - origin(given).logits).abs().max().item()
    return Checks(
        parameters=model.num_parameters(),
        perplexity=math.exp(-response_logprobs(model, [ids[:1]], [ids[1:]])[0] / (len(ids) - 1)),
        tokens=len(ids),
        logit_gap=gap,
        same_template=texts[0] == texts[1] and token_ids[0] == token_ids[1],
        opening=texts[0][0],
        answers={question: answer(model, tokenizer, chat) for question, chat in zip(QUESTIONS, chats, strict=True)},
    )


def _as_read(tokenizer: Any, chats: list[Any]) -> tuple[list[str], list[list[int]]]:
    """The chats as text, and the tokens of the chats, as `tailgrad` makes them, and of the passage."""
    text: list[str] = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    return text, [*tokenize_prompts(tokenizer, chats), tokenizer(PASSAGE)["input_ids"]]


@torch.no_grad()
def answer(model: Any, tokenizer: Any, chat: Any) -> str:
    """The most likely answer, token by token; one that is cut off ends in an ellipsis."""
    ids = tokenize_prompts(tokenizer, [chat])[0]
    given = torch.tensor([ids], device=model.device)
    options = {"do_sample": False, "max_new_tokens": ANSWER_TOKENS, "pad_token_id": tokenizer.pad_token_id}
    found = model.generate(given, attention_mask=torch.ones_like(given), **options)[0, len(ids) :]
    ended = tokenizer.eos_token_id in found.tolist()
    return tokenizer.decode(found, skip_special_tokens=True).strip() + ("" if ended else " ...")


def problems(found: Checks, perplexity: tuple[float, float]) -> list[str]:
    """What is wrong with a policy, a line each; `perplexity` has the least and the most that is allowed."""
    low, high = perplexity
    said = []
    if not low <= found.perplexity <= high:
        said.append(f"its perplexity is {found.perplexity:.2f}; {low:.2f} to {high:.2f} is expected")
    if not found.logit_gap <= LOGIT_TOLERANCE:
        said.append(f"its logits differ by up to {found.logit_gap:.2g} from those of the model it was made from")
    if not found.same_template:
        said.append("its tokenizer makes other tokens of a chat or a text than that of the model it was made from")
    for question, word in QUESTIONS.items():
        if word.lower() not in found.answers[question].lower():
            said.append(f"its answer to {question!r} is {found.answers[question]!r}, without {word!r}")
    return said


def report(found: Checks, source: str) -> str:
    """What was converted and what it says, as Markdown."""
    answers = [[question, said.replace("\n", " ")] for question, said in found.answers.items()]
    lines = [
        f"- converted: {source}, {found.parameters:,} parameters",
        f"- perplexity: {found.perplexity:.3f} per token, of the {found.tokens} tokens of a passage written for it",
        f"- logits: at most {found.logit_gap:.1g} from those of the model it was made from",
        f"- a response goes on from: `{json.dumps(found.opening)}`",
        "",
        aligned([["question", "most likely answer"], *answers]),
    ]
    return "\n".join(lines) + "\n"


def as_json(found: Checks, source: str) -> str:
    """The same as JSON."""
    return json.dumps({"source": source, **asdict(found)}, indent=1) + "\n"


def from_json(text: str) -> tuple[str, Checks]:
    """What `as_json` wrote: source and checks."""
    document = json.loads(text)
    return document["source"], Checks(**{entry.name: document[entry.name] for entry in fields(Checks)})
