"""Commands keep the memory of a batch for the next one, servers hand it back."""

import subprocess
import sys

import pytest

RUN = """
import sys
from pathlib import Path

import torch

from vqa.memory import keep_freed

if sys.argv[1:]:
    keep_freed()


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


before = resident()
torch.ones(200_000_000, dtype=torch.uint8)
print(resident() - before > 150_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's matter")
@pytest.mark.parametrize(("flag", "kept"), [([], "False"), (["keep"], "True")])
def test_what_is_freed_stays_with_the_process(flag, kept):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *flag], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == kept


HOLES = """
import sys, time
from pathlib import Path

import torch

from vqa.memory import give_back_freed


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if sys.argv[1:]:
    give_back_freed(0.05)
before = resident()
blocks = [torch.ones(100_000, dtype=torch.uint8) for _ in range(2000)]
del blocks[:-1]  # the last one is above the hole that the others leave
time.sleep(1)
print(resident() - before > 100_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's matter")
@pytest.mark.parametrize(("flag", "kept"), [([], "True"), (["give"], "False")])
def test_holes_are_handed_back_now_and_then(flag, kept):
    done = subprocess.run(
        [sys.executable, "-c", HOLES, *flag], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == kept
