"""Processes of one run that hear of each other, and what they refuse to do together."""

import pytest
from helpers.emoji_data import tiny_emoji, write
from helpers.tiny import tiny_answerer, tiny_gaze
from helpers.together import run_together

from vqa import checkpoints
from vqa.batch import runner
from vqa.runtime.process_group import Team

# Process 1 is slow, later process 2 is gone.
THREE = """
import os, time
from vqa.runtime.process_group import Lost, Team
with Team(lost_after=5) as team:
    print(team.gather({"from": team.rank}))
    team.tell(team.rank)
    if team.rank == 1:
        time.sleep(8)
    print(team.gather(None))
    if team.rank == 2:
        os._exit(0)
    try:
        team.gather(None)
    except Lost as lost:
        print(lost, team.done())
"""

TOLD = """
import os, signal
from vqa.runtime.process_group import Lost, Team
try:
    with Team() as team:
        if team.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        team.gather(None)
except Lost as lost:
    print(lost)
"""

# Process 0, which has the store, falls silent first and is frozen later.
FROZEN = """
import os, signal, time
from vqa.runtime.process_group import Team
others = []
def lost(why):
    print(why, flush=True)
    os.kill(others[0], signal.SIGKILL)
    os._exit(0)
team = Team(lost_after=5, when_lost=lost)
others += team.gather(os.getpid())
if team.rank == 0:
    team._exchange = lambda: time.sleep(99)
    time.sleep(3)
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(99)
"""


def test_the_slow_are_waited_for_and_the_lost_are_not():
    ended = run_together(*[["-c", THREE]] * 3)
    for rank, done in enumerate(ended):
        assert done.returncode == 0, done.stderr
        first, second, *rest = done.stdout.splitlines()
        assert first == str([{"from": 0}, {"from": 1}, {"from": 2}])
        assert second == "[None, None, None]"
        if rank < 2:
            told = "process 2 of 3 is lost (no sign of life for 5 s) 3"
            cut_off = "process 0, or the network to it, is lost 3"  # which has told, and ended
            assert rest in ([told], [cut_off][:rank])


def test_where_the_store_is_gone_no_single_process_is_accused():
    frozen, told = run_together(*[["-c", FROZEN]] * 2)
    assert frozen.returncode < 0
    assert told.stdout.strip() == "process 0, or the network to it, is lost"


def test_one_process_alone_needs_no_others(tmp_path):
    with Team() as team:
        assert team.gather([1]) == [[1]]
        team.share(tmp_path / "anything")
        team.tell(3)
        assert team.done() == 3


def test_a_process_that_is_told_to_stop_says_so_to_all():
    why = "told to stop, as when another process of this machine is lost"
    ended = run_together(*[["-c", TOLD]] * 2)
    assert [done.stdout.strip() for done in ended] == [f"process 1 of 2 ended: {why}", why]


def command(task, data, out, model, *more):
    flags = ["--data", data, "--out", out, "--model", model, "--batch_size", 3, *more]
    return ["-m", "vqa.batch", task, *flags]


def write_alone(task, data, out, model, *more):
    runner.main([str(word) for word in command(task, data, out, model, *more)[2:]])
    return out.read_bytes()


@pytest.mark.parametrize("task", ["gaze", "emoji"])
def test_two_processes_write_what_one_does(task, gaze_data, tmp_path):
    if task == "gaze":
        data, model, more = gaze_data, tiny_gaze(), []
    else:
        data, model, more = write(tmp_path / "texts"), tiny_emoji(), ["--head", "face"]
    saved = checkpoints.save(model, tmp_path / "model")
    expected = write_alone(task, data, tmp_path / "one", saved, *more)
    out = tmp_path / "two" / "all"
    ended = run_together(*[command(task, data, out, saved, *more)] * 2)
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert out.read_bytes() == expected
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("differs", ["model", "data", "folder"])
def test_what_must_be_the_same_for_all_and_is_not_ends_all(
    differs, tiny_data, tiny_checkpoint, tmp_path
):
    given = {"data": tiny_data, "out": tmp_path / "here" / "out", "model": tiny_checkpoint}
    other, why = {
        "model": (
            {"model": checkpoints.save(tiny_answerer(seed=1), tmp_path / "other")},
            "process 1 has another model than process 0",
        ),
        "data": ({"data": tmp_path / "nowhere"}, "nowhere: no such file or folder"),
        "folder": (
            {"out": tmp_path / "there" / "out"},
            f"process 1 does not see the folder {tmp_path / 'here'} of process 0: it must",
        ),
    }[differs]
    ended = run_together(command("answer", **given), command("answer", **(given | other)))
    for done in ended:
        assert done.returncode == 1
        (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert why in said
    assert not (tmp_path / "there").exists()
    assert not (tmp_path / "here").exists() or not list((tmp_path / "here").iterdir())
