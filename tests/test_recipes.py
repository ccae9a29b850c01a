"""The recipes are read by the parser of `tailgrad train`, and each trains a tiny policy with its own numbers."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, DatasetDict
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, set_seed

from tailgrad.cli import curve, sample
from tailgrad.cli.main import main
from tailgrad.quickstart.policy import build_tokenizer
from tailgrad.quickstart.task import build_prompts
from tailgrad.training import TailGRPOConfig
from tailgrad.training.launch import make_parser

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
PAGE = ROOT / "recipes" / "paper" / "README.md"
PAPER = sorted(PAGE.parent.glob("*.yaml"))
ESTIMATORS = ["grpo", "tea", "prefix_tea"]
CPU = ["--use_cpu", "true"]  # without a GPU, TRL takes `bf16: true` only so

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
every_recipe_of_the_paper = pytest.mark.parametrize("recipe", PAPER, ids=lambda recipe: recipe.stem)


def words(**options: object) -> list[str]:
    """The options as the command line has them."""
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def parse(recipe: Path, *options: str) -> tuple:
    return make_parser().read(["--config", str(recipe), *CPU, *options])


@every_recipe
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_recipe_is_valid_for_each_estimator(recipe: Path, estimator: str) -> None:
    script, config, model, _ = parse(recipe, "--estimator", estimator)
    given = yaml.safe_load(recipe.read_text())
    assert isinstance(config, TailGRPOConfig)
    assert config.estimator == estimator
    for name in given.keys() - {"estimator", "lora_target_modules"}:  # TRL unpacks a list of one module
        holder = next(part for part in (script, config, model) if hasattr(part, name))
        assert getattr(holder, name) == given[name], name


@every_recipe_of_the_paper
def test_a_step_is_on_policy_and_holds_the_prompts_it_says(recipe: Path) -> None:
    _, config, _, _ = parse(recipe)
    batch, passes = config.per_device_train_batch_size, config.gradient_accumulation_steps
    prompts = config.generation_batch_size // config.num_generations
    assert config.steps_per_generation == passes
    assert config.generation_batch_size == batch * passes == prompts * config.num_generations
    says = f"# {batch} rollouts x {passes} backward passes x 1 process = {batch * passes} rollouts"
    assert f"{says} = {prompts} prompts x {config.num_generations} rollouts per step\n" in recipe.read_text()
    assert f"max_steps: {config.max_steps} # ours: {config.max_steps * prompts:,} prompts\n" in recipe.read_text()


@every_recipe_of_the_paper
def test_every_value_says_whose_it_is(recipe: Path) -> None:
    values = [line for line in recipe.read_text().splitlines() if line and not line.startswith("#")]
    assert len(values) == len(yaml.safe_load(recipe.read_text()))
    assert not [line for line in values if not re.search(r" # (paper|ours)\b", line)]


@every_recipe
def test_a_misspelt_key_is_refused(recipe: Path, tmp_path: Path) -> None:
    copy = tmp_path / "recipe.yaml"
    copy.write_text(recipe.read_text().replace("deploy_n:", "deploy_m:"))
    with pytest.raises(ValueError, match="has the key 'deploy_m', which is no option of"):
        parse(copy)
    copy.write_text(recipe.read_text().replace("tail_fraction=", "tail_fracton="))
    with pytest.raises(ValueError, match="tea takes no option 'tail_fracton'"):
        parse(copy)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny policy, reward model and data set in place of those on the hub, and the options that name them."""
    folder = tmp_path_factory.mktemp("stand-ins")
    set_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        num_labels=1,
    )
    for name, kind in [("policy", LlamaForCausalLM), ("reward", LlamaForSequenceClassification)]:
        kind(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    # The columns of trl-lib/hh-rlhf-helpful-base; trl-lib/ultrafeedback-prompt has the first alone.
    user, assistant = ({"role": role, "content": "Name three fruits ."} for role in ("user", "assistant"))
    texts = [row["prompt"] for row in build_prompts("train")[:24]]
    rows = [
        {
            "prompt": [*[user, assistant] * (i % 3), {"role": "user", "content": text}],
            "chosen": [assistant],
            "rejected": [assistant],
        }
        for i, text in enumerate(texts)
    ]
    DatasetDict({split: Dataset.from_list(rows) for split in ("train", "test")}).save_to_disk(folder / "prompts")
    return words(
        model_name_or_path=folder / "policy",
        reward_model_name_or_path=folder / "reward",
        dataset_name=folder / "prompts",
    )


@every_recipe
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_:FutureWarning")  # TRL's calls, as in pyproject.toml
def test_a_recipe_trains(recipe: Path, stand_ins: list[str], tmp_path: Path) -> None:
    """One step with the recipe's own batch, precision and adapter; names, lengths and hardware are replaced."""
    out = tmp_path / "out"
    small = words(max_steps=1, max_completion_length=32, logging_steps=1, use_vllm=False, disable_tqdm=True)
    command = ["train", "--config", str(recipe), "--output_dir", str(out)]
    assert main([*command, *stand_ins, *CPU, *small]) == 0
    given = yaml.safe_load(recipe.read_text())
    record = json.loads((out / "tailgrad_training.json").read_text())
    assert (record["estimator"], record["num_generations"]) == ("tea", given["num_generations"])
    state = json.loads((out / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["log_history"][0]["tail/groups_without_signal"] == 0.0
    assert (out / "adapter_config.json").exists() == given.get("use_peft", False)


def test_the_commands_of_the_page_are_accepted() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ").replace("$estimator", "tea")
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if " tailgrad " in f" {line}"]
    assert {command[1] for command in commands} == {"train", "sample", "curve"}
    for _, *command in commands:
        parsers = {"train": make_parser, "sample": sample.make_parser, "curve": curve.make_parser}
        parsers[command[0]]().read([*command[1:], *(CPU if command[0] == "train" else [])])


def test_the_page_names_every_recipe_and_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", PAGE.read_text())
    assert {link for link in links if link.endswith(".yaml")} == {recipe.name for recipe in PAPER}
    assert not [link for link in links if not (PAGE.parent / link).exists()]
    assert "recipes/paper/README.md" in (ROOT / "mkdocs.yml").read_text()
