import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, XLNetConfig, XLNetForSequenceClassification

from tailgrad.rewards import RewardModel, load_reward

MakeModel = Callable[..., Path]
PROMPTS = ["one two three four five six seven", "one", "two three", "four five six one", "seven"]
# The second and the last end with the end token, which many reward models read their score from.
RESPONSES = [" one", " two three </s>", " four five six seven one two three four", " one", " six </s> </s>"]
CHATS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
ANSWERS = [[{"role": "assistant", "content": response.strip()}] for response in RESPONSES]


def manual_scores(path: Path, texts: list[str], **tokenizer_options: Any) -> list[float]:
    """One plain forward for each text, with nothing of ours."""
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        return [
            model(**tokenizer(text, return_tensors="pt", **tokenizer_options)).logits[0, 0].item() for text in texts
        ]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize(
    ("pad_token_id", "pad_token"),
    [(None, None), (None, "</s>"), (1, "[PAD]"), (2, "</s>"), (2, None), (1, "</s>")],
)
def test_scores_equal_an_unbatched_forward(
    make_reward_model: MakeModel,
    architecture: str,
    padding_side: str,
    pad_token_id: int | None,
    pad_token: str | None,
) -> None:
    path = make_reward_model(
        architecture=architecture, pad_token_id=pad_token_id, pad_token=pad_token, padding_side=padding_side
    )
    expected = manual_scores(path, [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)])
    assert len({round(one, 3) for one in expected}) == len(PROMPTS)
    for batch_size in (1, 2, 16):
        reward = load_reward(str(path), batch_size=batch_size)
        scores = reward(prompts=PROMPTS, completions=RESPONSES)
        torch.testing.assert_close(torch.tensor(scores), torch.tensor(expected), rtol=1e-5, atol=1e-5)
        assert reward.model.config.pad_token_id == pad_token_id


def test_a_model_whose_scores_depend_on_the_batch_scores_one_by_one(
    make_reward_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """XLNet reads the last place, which is padding beside a longer text."""
    tokenizer = AutoTokenizer.from_pretrained(make_reward_model())
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}
    model = XLNetForSequenceClassification(XLNetConfig(vocab_size=len(tokenizer), num_labels=1, **sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(tmp_path / "xlnet")
    tokenizer.save_pretrained(tmp_path / "xlnet")
    with caplog.at_level(logging.WARNING):
        reward = RewardModel(str(tmp_path / "xlnet"), batch_size=8)
    assert "(xlnet) gives a text another score in a batch than alone" in caplog.text
    expected = manual_scores(tmp_path / "xlnet", [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)])
    scores = reward(prompts=PROMPTS, completions=RESPONSES)
    torch.testing.assert_close(torch.tensor(scores), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_chats_go_through_the_models_own_template(make_reward_model: MakeModel) -> None:
    path = make_reward_model(begin=True)
    texts = [f"<user> {p} </s> <assistant> {r.strip()} </s> " for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    expected = torch.tensor(manual_scores(path, texts, add_special_tokens=False))
    chats = RewardModel(str(path))(prompts=CHATS, completions=ANSWERS)
    torch.testing.assert_close(torch.tensor(chats), expected, rtol=1e-5, atol=1e-5)
    stripped = [response.strip() for response in RESPONSES]
    wrapped = RewardModel(str(path), input_format="chat")(prompts=PROMPTS, completions=stripped)
    assert wrapped == chats


def test_plain_text_gets_the_special_tokens_of_the_tokenizer(make_reward_model: MakeModel) -> None:
    path = make_reward_model(begin=True)
    reward = RewardModel(str(path), input_format="text")
    assert reward.token_ids(["one"], [" two"]) == [[2, 5, 6]]
    assert reward.token_ids(CHATS[1:2], ANSWERS[1:2]) == [[2, 5, 6, 7, 2]]
    expected = manual_scores(path, ["one two"])
    assert reward(prompts=["one"], completions=[" two"]) == pytest.approx(expected, rel=1e-5)


def test_chats_without_a_template_are_refused(make_reward_model: MakeModel) -> None:
    reward = RewardModel(str(make_reward_model(chat_template=None)))
    with pytest.raises(ValueError, match="has no chat template"):
        reward(prompts=CHATS, completions=ANSWERS)
    blocks = [[{"role": "user", "content": [{"type": "text", "text": "one"}]}]]
    as_text = RewardModel(reward.name, input_format="text")
    with pytest.raises(ValueError, match="content is a string"):
        as_text(prompts=blocks, completions=ANSWERS[:1])


def test_truncation_keeps_the_response_and_warns_once(make_reward_model: MakeModel) -> None:
    path = make_reward_model()
    reward = RewardModel(str(path), max_length=4)
    assert reward(prompts=["one"], completions=[" two three"]) == pytest.approx(manual_scores(path, ["one two three"]))
    with pytest.warns(UserWarning, match="of 8 tokens are cut to the last 4") as caught:
        scores = reward(prompts=PROMPTS[:1] * 2, completions=[" one", " two"])
    assert len(caught) == 1
    expected = manual_scores(path, ["five six seven one", "five six seven two"])
    assert scores == pytest.approx(expected, rel=1e-5)


def test_truncation_keeps_the_special_tokens_of_plain_text(make_reward_model: MakeModel) -> None:
    reward = RewardModel(str(make_reward_model(begin=True)), max_length=3)
    with pytest.warns(UserWarning, match="cut to the last 3"):
        assert reward.token_ids(["one two three"], [" four"]) == [[2, 7, 8]]


def test_the_longest_text_is_what_model_and_tokenizer_allow(make_reward_model: MakeModel) -> None:
    assert RewardModel(str(make_reward_model("a"))).max_length == 64
    assert RewardModel(str(make_reward_model("b", model_max_length=20))).max_length == 20
    assert RewardModel(str(make_reward_model("c", model_max_length=20)), max_length=7).max_length == 7


def test_no_tokens_at_all(make_reward_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="rollout 1 has no tokens"):
        RewardModel(str(make_reward_model()))(prompts=["one", ""], completions=["", ""])


def test_dtype_and_name(make_reward_model: MakeModel) -> None:
    path = make_reward_model("my-rm")
    reward = RewardModel(str(path), dtype="bfloat16", device="cpu")
    assert (reward.__name__, reward.model.dtype, reward.revision) == ("my-rm", torch.bfloat16, None)
    scores = torch.tensor(reward(prompts=PROMPTS, completions=RESPONSES))
    exact = torch.tensor(RewardModel(str(path))(prompts=PROMPTS, completions=RESPONSES))
    assert not torch.equal(scores, exact)
    torch.testing.assert_close(scores, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 2}, "has 2 labels; a reward model has one"),
        (
            {"architecture": "causal"},
            "is not a sequence-classification model: it has no weights for score.weight",
        ),
    ],
)
def test_models_that_are_no_reward_models(make_reward_model: MakeModel, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_reward(str(make_reward_model(**options)))


@pytest.mark.parametrize("name", ["./no/such/model", "/no/such/model", "a/b/c"])
def test_a_folder_that_does_not_exist(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"reward model '{name}': there is no such folder"):
        load_reward(name)


def test_folders_that_hold_no_model(make_reward_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"the folder has no config\.json"):
        load_reward(str(tmp_path / "empty"))
    path = make_reward_model()
    with pytest.raises(FileNotFoundError, match="is a file"):
        load_reward(str(path / "config.json"))
    (path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="could not be loaded from that folder"):
        load_reward(str(path))


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "no-such-model"])
def test_a_name_that_the_hub_does_not_give(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="is not a local folder and the hub did not give it"):
        load_reward(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "dtype 'float8' is unknown; allowed: float32"),
        ({"device": "abacus"}, "device 'abacus' is unknown"),
        ({"device": "cuda:99"}, "torch sees"),
        ({"batch_size": 0}, "at least 1"),
        ({"max_length": 0}, "at least 1"),
        ({"input_format": "html"}, "allowed: auto, chat, text"),
    ],
)
def test_options_out_of_range(make_reward_model: MakeModel, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardModel(str(make_reward_model()), **options)
