"""The benchmark of bulk work by one process and by two, on a few pictures."""

import pytest

from benchmarks.scaling import measure
from benchmarks.tables import scaling


def test_both_numbers_of_processes_are_timed_and_write_the_same(
    tiny_data, tiny_captioner_checkpoint
):
    flags = ["--data", str(tiny_data), "--model", str(tiny_captioner_checkpoint)]
    found = measure(["caption", *flags, "--batch_size", "2"], repeats=1)
    assert found["lines"] == 8
    assert found["seconds"].keys() == {"1", "2"}
    assert all(seconds > 0 for seconds in found["seconds"].values())
    assert found["speedup"] == pytest.approx(found["seconds"]["1"] / found["seconds"]["2"], rel=0.1)


def test_the_table_tells_what_two_processes_gain():
    entry = {"lines": 6000, "seconds": {"1": 270.4, "2": 145.6}, "speedup": 1.86}
    assert scaling({"captions": entry}).splitlines()[2:] == ["| 6000 captions | 270 | 146 | 1.86 |"]
