"""Two processes, and four, train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from packaging.version import Version

import trained_by_many
from tailgrad.estimators import tea
from trained_by_many import CASES, check

TESTS = Path(__file__).resolve().parents[1]

TWO_PROCESSES = """
import json, os, sys
import torch
from datasets import Dataset
from tailgrad.quickstart.task import build_prompts, verifier
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer
from trained_by_many import CASES, train

policy, out, resumes = sys.argv[1:]
for case in CASES:
    train(case, policy, out)

class Recorder(TailGRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        seen = {"rewards": self._gathered_rewards[:, 0].tolist(), "advantages": output["advantages"].tolist()}
        with open(f"{out}/{self.accelerator.process_index}-of-{self.accelerator.num_processes}.json", "w") as file:
            json.dump(seen, file)
        return output

options = dict(
    output_dir=out, per_device_train_batch_size=4, num_generations=8, max_completion_length=6, max_steps=1, deploy_n=64,
    advantage_scaling="batch", report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, beta=0.05,
    save_strategy="no", disable_tqdm=True, steps_per_generation=2, ddp_backend="gloo", estimator="tea",
)
args = TailGRPOConfig(**options)
data = Dataset.from_list(build_prompts("train")[:8])
Recorder(model=policy, reward_funcs=verifier, args=args, train_dataset=data).train()

class Corrected(TailGRPOTrainer):
    def estimate_advantages(self, rewards, num_generations, log_ratios=None):
        self.log_ratios = log_ratios
        return super().estimate_advantages(rewards, num_generations, log_ratios)

    def compute_loss(self, model, inputs, **kwargs):
        if self.log_ratios is not None:
            own = self._log_ratios(inputs).tolist()
            seen = [self.log_ratios.tolist(), self._estimated.tolist(), inputs["place"].tolist(), own]
            with open(f"{out}/{self.accelerator.process_index}.corrected", "w") as file:
                json.dump([*seen, inputs["advantages"].tolist()], file)
        return super().compute_loss(model, inputs, **kwargs)

options |= {"off_policy_correction": True, "num_iterations": 2, "max_steps": 3, "learning_rate": 1e-2}
Corrected(policy, verifier, TailGRPOConfig(**options), data).train()

def run(folder, checkpoint=None):
    args.output_dir, args.save_strategy, args.save_steps, args.max_steps = f"{out}/{folder}", "steps", 2, 6
    trainer = TailGRPOTrainer(policy, verifier, args, data.select(range(4)))  # an epoch is 4 steps
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer

whole = {name: tensor.clone() for name, tensor in run("whole").model.state_dict().items()}
trainer = run("resumed", f"{out}/whole/checkpoint-4" if resumes == "resumes" else None)
same = all(torch.equal(whole[name], tensor) for name, tensor in trainer.model.state_dict().items())
with open(f"{out}/{os.environ['RANK']}.same", "w") as file:
    file.write(str(same))
trainer.accelerator.wait_for_everyone()
os._exit(0)  # all is written; gloo's threads now and then abort a process that tears them down
"""


def torchrun(processes: int, *words: str) -> None:
    launcher = ["torch.distributed.run", "--nproc_per_node", str(processes), "--standalone"]
    launched(*launcher, *words, ACCELERATE_USE_CPU="true")


def launched(*words: str, **environment: str) -> None:
    """Run a launcher of processes to its end, beside the tests' own modules."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | environment
    subprocess.run([sys.executable, "-m", *words], env=environment, check=True, timeout=600)


@pytest.fixture(scope="module")
def trained(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote down."""
    out = tmp_path_factory.mktemp("two")
    (out / "two.py").write_text(TWO_PROCESSES)
    # transformers before 5.20 cannot load the optimizer of several processes on a CPU ("tagged with cpu:0")
    resumes = "resumes" if Version(transformers.__version__) >= Version("5.20") else "runs again"
    torchrun(2, str(out / "two.py"), str(policy), str(out), resumes)
    return out


@pytest.mark.parametrize("case", CASES)
def test_advantages_of_two_processes_are_those_of_one_to_the_last_bit(policy: Path, trained: Path, case: str) -> None:
    check(case, str(policy), trained, 2)


@pytest.mark.nightly
def test_advantages_of_four_processes_are_those_of_one_to_the_last_bit(policy: Path, tmp_path: Path) -> None:
    torchrun(4, trained_by_many.__file__, str(policy), str(tmp_path), *CASES)
    for case in CASES:
        check(case, str(policy), tmp_path, 4)


def test_two_processes_take_the_scale_of_the_whole_batch_and_are_resumed(trained: Path) -> None:
    seen = [json.loads((trained / f"{rank}-of-2.json").read_text()) for rank in (0, 1)]
    assert seen[0]["rewards"] == seen[1]["rewards"]
    raw = tea(torch.tensor(seen[0]["rewards"]).view(2, 8), deploy_n=64)
    expected = raw / raw.double().square().mean().sqrt()
    assert len(seen[0]["advantages"]) == 8
    together = torch.tensor(seen[0]["advantages"] + seen[1]["advantages"])
    torch.testing.assert_close(together, expected.flatten().float(), rtol=1e-6, atol=0)
    assert [(trained / f"{rank}.same").read_text() for rank in (0, 1)] == ["True", "True"]
    ratios, estimated = json.loads((trained / "0.corrected").read_text())[:2]
    assert any(ratios)
    for rank in (0, 1):
        *of_all, places, own, advantages = json.loads((trained / f"{rank}.corrected").read_text())
        assert of_all == [ratios, estimated]
        assert {place // 8 for place in places} == {rank}, "a group of eight lies on each process"
        assert [ratios[place] for place in places] == pytest.approx(own, abs=1e-6)
        assert [estimated[place] for place in places] == advantages
