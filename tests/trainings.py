"""What the tests of every training share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

REPOSITORY = Path(__file__).parent.parent
SMALL = {  # settings that every training of words shares here
    "image_size": 64,
    "stride": 16,
    "word_dim": 16,
    "hidden_dim": 16,
    "attention_dim": 16,
    "batch_size": 4,
}


def train_by_two_processes(module, config):
    """Run a training script under torchrun; returns the weights it saved."""
    flags = [f for n, v in vars(config).items() if v != "" for f in (f"--{n}", str(v))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", "-m", module, *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(Path(config.output_dir) / "model.safetensors")


def assert_moved_alike(found, expected, untrained):
    """Compare matrices by how far training moved them, so that moving nowhere fails."""
    for name, tensor in found.items():
        if tensor.ndim > 1:
            moved = (expected[name].float() - untrained[name]).norm()
            apart = (expected[name].float() - tensor.float()).norm()
            assert apart <= 0.05 * moved, name
