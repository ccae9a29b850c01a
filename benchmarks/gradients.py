"""CPU seconds per response of `tailgrad fidelity`'s gradients, by what they are taken with respect to.

    python benchmarks/gradients.py
    python benchmarks/gradients.py --model_name_or_path FOLDER --responses 32 --parameters lora

Without a model it takes one of Llama type with 26 million parameters and random weights. Prompts have 40 tokens,
responses 48, all random.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tailgrad.fidelity.gradient_config import GradientConfig, complete_for
from tailgrad.fidelity.gradient_store import engine

PROMPT, RESPONSE = 40, 48
SIZES = {
    "vocab_size": 32_000,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "tie_word_embeddings": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", default="")
    parser.add_argument("--responses", type=int, default=32)
    parser.add_argument("--parameters", nargs="+", default=["lora", "last:1", "all"])
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    args = parser.parse_args()
    name, draw = args.model_name_or_path, torch.Generator().manual_seed(0)
    for dtype in args.dtype:
        how = {"dtype": getattr(torch, dtype)}
        load = AutoModelForCausalLM.from_pretrained
        model = load(name, **how) if name else LlamaForCausalLM(LlamaConfig(**SIZES)).to(**how)
        model.eval()
        size = model.config.vocab_size
        prompts = [torch.randint(size, (PROMPT,), generator=draw).tolist()] * args.responses
        responses = torch.randint(size, (args.responses, RESPONSE), generator=draw).tolist()
        count = sum(parameter.numel() for parameter in model.parameters())
        for parameters in args.parameters:
            config = complete_for(model, GradientConfig("", name, "", parameters=parameters, dtype=dtype))
            differentiate = engine(model, config)
            differentiate(prompts[:2], responses[:2])  # the first call plans its kernels
            began, used = time.perf_counter(), time.process_time()
            differentiate(prompts, responses, batch_size=32)
            used, took = time.process_time() - used, time.perf_counter() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"{count / 1e6:.1f}M, {dtype}, {parameters:<7} CPU {used / args.responses:.3f} s per response, in all "
                f"{took / args.responses:.3f} s; peak so far {peak:.1f} GiB; {torch.get_num_threads()} threads",
                flush=True,
            )


if __name__ == "__main__":
    main()
