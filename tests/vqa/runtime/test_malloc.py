"""Commands keep the memory of a batch for the next one, servers hand it back."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's matter")
SCRIPT = """
import sys
import time
from pathlib import Path

import torch

from vqa.runtime.malloc import give_back_freed, keep_freed


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if sys.argv[1:] == ["keep"]:
    keep_freed()
if sys.argv[1:] == ["give"]:
    give_back_freed(0.05)
before = resident()
{use}
print(resident() - before > 100_000_000)
"""
BLOCK = "torch.ones(200_000_000, dtype=torch.uint8)"
HOLES = """
blocks = [torch.ones(100_000, dtype=torch.uint8) for _ in range(2000)]
del blocks[:-1]  # the last one is above the hole that the others leave
time.sleep(1)
"""


def keeps(use, *flags):
    """Whether a process that used memory still holds it afterwards."""
    command = [sys.executable, "-c", SCRIPT.format(use=use), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(("flags", "kept"), [([], False), (["keep"], True)])
def test_what_is_freed_stays_with_the_process(flags, kept):
    assert keeps(BLOCK, *flags) == kept


@pytest.mark.parametrize(("flags", "kept"), [([], True), (["give"], False)])
def test_holes_are_handed_back_now_and_then(flags, kept):
    assert keeps(HOLES, *flags) == kept
