"""The recipes are read by the parser of `tailgrad train`, and each trains a tiny policy with its own numbers."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, set_seed

from experiment_scripts import EXPERIMENTS, importing_scripts
from tailgrad.cli import curve, fidelity, plan, sample, score
from tailgrad.cli.main import main
from tailgrad.estimators import bon_rl
from tailgrad.quickstart.policy import build_tokenizer
from tailgrad.quickstart.task import build_prompts
from tailgrad.training import TailGRPOConfig
from tailgrad.training.launch import make_parser

ROOT = Path(__file__).resolve().parent.parent
PAPER, SMOLLM2 = (ROOT / "recipes" / name / "README.md" for name in ("paper", "smollm2"))
STARTED_IN = {PAPER: ROOT, SMOLLM2: EXPERIMENTS / "smollm2"}
COMMANDS = {
    PAPER: {"train", "sample", "curve", "score"},
    SMOLLM2: {"train", "sample", "curve", "fidelity", "plan"},
}
PARSERS = {
    "train": make_parser,
    **{module.__name__.rpartition(".")[2]: module.make_parser for module in (curve, fidelity, plan, sample, score)},
}
CPU = ["--use_cpu", "true"]  # without a GPU, TRL takes `bf16: true` only so


def recipes_of(page: Path) -> list[Path]:
    return sorted(page.parent.glob("*.yaml"))


def estimators_of(page: Path) -> list[str]:
    """The estimators that a page trains with."""
    loop, *others = re.findall(r"^for estimator in (.*); do\n    tailgrad train ", page.read_text(), re.MULTILINE)
    assert not others
    return loop.split()


RECIPES = [(page, recipe) for page in STARTED_IN for recipe in recipes_of(page)]
every_page = pytest.mark.parametrize("page", STARTED_IN, ids=lambda page: page.parent.name)
every_recipe = pytest.mark.parametrize(
    ("page", "recipe"), [pytest.param(page, recipe, id=recipe.stem) for page, recipe in RECIPES]
)
every_recipe_of_the_paper = pytest.mark.parametrize("recipe", recipes_of(PAPER), ids=lambda recipe: recipe.stem)
every_estimator_of_a_page = pytest.mark.parametrize(
    ("page", "estimator"),
    # each once; that of a file is trained with the file
    {
        estimator: pytest.param(page, estimator, id=f"{page.parent.name}-{estimator}")
        for page in reversed(STARTED_IN)
        for estimator in estimators_of(page)
        if estimator not in ("tea", "flat_tea")
    }.values(),
)


def words(**options: object) -> list[str]:
    """The options as the command line has them."""
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def parse(recipe: Path, *options: str) -> tuple:
    return make_parser().read(["--config", str(recipe), *CPU, *options])


@every_recipe
def test_a_recipe_is_valid_for_each_estimator_of_its_page(page: Path, recipe: Path) -> None:
    given = yaml.safe_load(recipe.read_text())
    assert given["estimator"].partition(":")[0] in estimators_of(page)
    for estimator in estimators_of(page):
        script, config, model, _ = parse(recipe, "--estimator", estimator)
        assert isinstance(config, TailGRPOConfig)
        assert config.estimator == estimator
        for name in given.keys() - {"estimator", "lora_target_modules"}:  # TRL unpacks a list of one module
            holder = next(part for part in (script, config, model) if hasattr(part, name))
            assert getattr(holder, name) == given[name], name


@every_recipe
def test_a_step_is_on_policy_and_holds_the_prompts_it_says(page: Path, recipe: Path) -> None:
    _, config, _, _ = parse(recipe)
    batch, passes = config.per_device_train_batch_size, config.gradient_accumulation_steps
    prompts = config.generation_batch_size // config.num_generations
    assert config.steps_per_generation == passes
    assert config.generation_batch_size == batch * passes == prompts * config.num_generations
    says = f"# {batch} rollouts x {passes} backward passes x 1 process = {batch * passes} rollouts"
    assert f"{says} = {prompts} prompts x {config.num_generations} rollouts per step\n" in recipe.read_text()
    all_prompts = f"{config.max_steps * prompts:,} prompts"
    assert re.search(rf"^max_steps: {config.max_steps} # (ours: )?{all_prompts}\b", recipe.read_text(), re.MULTILINE)


@every_recipe_of_the_paper
def test_every_value_says_whose_it_is(recipe: Path) -> None:
    values = [line for line in recipe.read_text().splitlines() if line and not line.startswith("#")]
    assert len(values) == len(yaml.safe_load(recipe.read_text()))
    assert not [line for line in values if not re.search(r" # (paper|ours)\b", line)]


def test_every_method_of_the_paper_has_a_name_here_and_is_trained() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| `(\w+)` \| ", PAPER.read_text(), re.MULTILINE)
    names = dict(rows)
    assert list(names) == ["GRPO", "GRPO-Z", "best-minus-mean", "BoN-RL", "CAT", "TEA", "Prefix-TEA"]
    assert [*names.values()] == estimators_of(PAPER)


def test_what_the_page_says_of_bon_rl_at_the_budgets_of_the_paper() -> None:
    for deploy_n, says in ((512, 2e-12), (128, 0.04)):
        best, second, *others = bon_rl(torch.arange(16.0).flip(0)[None], deploy_n=deploy_n)[0].tolist()
        factor = deploy_n * (15 / 16) ** (deploy_n - 1)
        assert factor == pytest.approx(says, rel=0.25)
        assert best == pytest.approx(factor, rel=1e-3)
        assert second == pytest.approx(-best, rel=0.01)
        assert max(map(abs, others)) < 1e-3 * best
        assert f"{says:g}" in PAPER.read_text()


@every_recipe
def test_a_misspelt_key_is_refused(page: Path, recipe: Path, tmp_path: Path) -> None:
    copy = tmp_path / "recipe.yaml"
    copy.write_text(recipe.read_text().replace("deploy_n:", "deploy_m:"))
    with pytest.raises(ValueError, match="has the key 'deploy_m', which is no option of"):
        parse(copy)
    copy.write_text(re.sub(r"estimator: \S+", "estimator: tea:tail_fracton=0.25", recipe.read_text()))
    with pytest.raises(ValueError, match="tea takes no option 'tail_fracton'"):
        parse(copy)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[str]]:
    """A tiny policy, reward model and data set in place of those of a page, and the options that name them."""
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
    texts = [row["prompt"] for row in build_prompts("train")[:64]]
    rows = [
        {
            "prompt": [*[user, assistant] * (i % 3), {"role": "user", "content": text}],
            "chosen": [assistant],
            "rejected": [assistant],
        }
        for i, text in enumerate(texts)
    ]
    DatasetDict({split: Dataset.from_list(rows) for split in ("train", "test")}).save_to_disk(folder / "prompts")
    # As experiments/smollm2/instructions.py writes them. The reward is the real one.
    checks = json.dumps({"length": 5, "mention": ["apple", "pear"], "long": None, "start": "The"})
    lines = [json.dumps({"prompt": [{"role": "user", "content": text}], "checks": checks}) for text in texts]
    (folder / "constraints-train.jsonl").write_text("\n".join(lines))
    policy = words(model_name_or_path=folder / "policy")
    return {
        PAPER: [*policy, *words(reward_model_name_or_path=folder / "reward", dataset_name=folder / "prompts")],
        SMOLLM2: [*policy, *words(dataset_name=folder / "constraints-train.jsonl")],
    }


@pytest.fixture(autouse=True)
def without_scripts() -> Iterator[None]:
    """Nothing is left of the experiment's scripts that a reward loads."""
    with importing_scripts():
        yield


def train(page: Path, recipe: Path, out: Path, *options: str) -> tuple[dict, dict]:
    """Train one step without vLLM; what was recorded and what was logged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(STARTED_IN[page])
        small = words(max_steps=1, logging_steps=1, use_vllm=False, disable_tqdm=True)
        command = ["train", "--config", str(recipe), "--output_dir", str(out), *CPU, *small]
        assert main([*command, *options]) == 0
    record = json.loads((out / "tailgrad_training.json").read_text())
    state = json.loads((out / "checkpoint-1" / "trainer_state.json").read_text())
    return record, state["log_history"][0]


quiet = pytest.mark.filterwarnings("ignore:`gradient_checkpointing_:FutureWarning")  # TRL's calls, as in pyproject.toml


@quiet
@every_recipe
def test_a_recipe_trains(page: Path, recipe: Path, stand_ins: dict[Path, list[str]], tmp_path: Path) -> None:
    """One step with the recipe's own batch, precision and adapter; names, lengths and hardware are replaced."""
    record, log = train(page, recipe, tmp_path / "out", *stand_ins[page], *words(max_completion_length=16))
    given = yaml.safe_load(recipe.read_text())
    assert (record["estimator"], record["num_generations"]) == (
        given["estimator"].partition(":")[0],
        given["num_generations"],
    )
    assert log["tail/groups_without_signal"] == 0.0
    assert (tmp_path / "out" / "adapter_config.json").exists() == given.get("use_peft", False)


@quiet
@every_estimator_of_a_page
def test_every_estimator_of_a_page_trains(
    page: Path, estimator: str, stand_ins: dict[Path, list[str]], tmp_path: Path
) -> None:
    """One step of two prompts with the first file of the page."""
    step = words(per_device_train_batch_size=32, gradient_accumulation_steps=1, steps_per_generation=1)
    options = [*stand_ins[page], *step, *words(max_completion_length=16, estimator=estimator)]
    record, log = train(page, recipes_of(page)[0], tmp_path / "out", *options)
    assert record["estimator"] == estimator.partition(":")[0]
    assert log["tail/groups_without_signal"] == 0.0
    assert log["tail/advantage_scale"] == pytest.approx(1.0, abs=1e-4)


@every_page
def test_the_commands_of_a_page_are_accepted(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(STARTED_IN[page])
    text = "\n".join(re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)).replace("\\\n", " ")
    for name, value in (("$estimator", "tea"), ("$model", "org/policy")):
        text = text.replace(name, value)
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if " tailgrad " in f" {line}"]
    assert {command[1] for command in commands} == COMMANDS[page]
    for _, name, *options in commands:
        PARSERS[name]().read([*options, *(CPU if name == "train" else [])])


@every_page
def test_a_page_names_every_recipe_and_its_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", page.read_text())
    assert {link for link in links if link.endswith(".yaml")} == {recipe.name for recipe in recipes_of(page)}
    assert not [link for link in links if not (page.parent / link).exists()]
    assert f"recipes/{page.parent.name}/README.md" in (ROOT / "mkdocs.yml").read_text()


def test_every_recipe_has_a_page() -> None:
    of_accelerate = set((ROOT / "recipes" / "accelerate").glob("*.yaml"))  # tests/test_accelerate_recipes.py
    assert {recipe for _, recipe in RECIPES} == {*(ROOT / "recipes").rglob("*.yaml")} - of_accelerate
