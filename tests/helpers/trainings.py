"""What the tests of every training share."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from helpers.together import run_together

SMALL = {  # settings that every training of words shares here
    "image_size": 64,
    "stride": 16,
    "word_dim": 16,
    "hidden_dim": 16,
    "attention_dim": 16,
    "batch_size": 4,
}


def train_by_two_processes(module, config):
    """Run a training script; returns the weights it saved."""
    ended = run_together(*[["-m", module, *flags_of(config)]] * 2)
    assert [done.returncode for done in ended] == [0, 0], [done.stderr[-3000:] for done in ended]
    return load_file(Path(config.output_dir) / "model.safetensors")


def flags_of(config):
    """The command line of a training with these settings."""
    return [f for n, v in vars(config).items() if v != "" for f in (f"--{n}", str(v))]


def assert_moved_alike(found, expected, untrained):
    """Compare matrices by how far training moved them, so that moving nowhere fails."""
    for name, tensor in found.items():
        if tensor.ndim > 1:
            moved = (expected[name].float() - untrained[name]).norm()
            apart = (expected[name].float() - tensor.float()).norm()
            assert apart <= 0.05 * moved, name
