"""`vgg_nll.losses` can be used alone: it needs PyTorch only."""

import subprocess
import sys

import pytest
from helpers.configs import ROOT

CODE = """
import sys
others = "hydra omegaconf tensorboard matplotlib sklearn scipy torchvision PIL tqdm filelock jinja2".split()
sys.modules.update(dict.fromkeys(others))  # importing one of them fails
import torch
from vgg_nll.losses import AllLogitNLL, ArgmaxNLL
logits, target = torch.zeros(2, 10, requires_grad=True), torch.tensor([1, 2])
print(AllLogitNLL()(logits, target).item(), ArgmaxNLL()(logits, target).item())
print(sorted(name for name in sys.modules if name.startswith("vgg_nll")))
"""


@pytest.mark.slow
def test_the_losses_need_pytorch_only() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    values, modules = done.stdout.splitlines()
    assert [round(float(value), 4) for value in values.split()] == [3.2508, 2.3026]
    names = ["cpu_rows", "exact_rows", "inputs", "label_nll", "nll", "softmax"]
    assert modules == str(["vgg_nll", "vgg_nll.losses"] + [f"vgg_nll.losses.{name}" for name in names])
