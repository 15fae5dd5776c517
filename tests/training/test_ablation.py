"""Trainings that differ in one thing, and their table."""

import json
import sys

import pytest
from helpers.together import run_together
from helpers.trainings import SMALL

from training import ablation
from training.card import _ablation, _verdicts
from training.train_captioner import TrainConfig as CaptionerConfig
from training.train_vqa import TrainConfig as AnswererConfig

CONFIGS = {"caption": CaptionerConfig, "answer": AnswererConfig}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_variant_is_a_training_of_its_own(kind):
    plan = ablation.PLANS[kind]
    shared = {name: value for name, value in plan.base.items() if name in ("more", "dropout")}
    configs = [
        CONFIGS[kind]("data", "out", **(shared | _typed(change)))
        for change in plan.variants.values()
    ]
    assert len(set(configs)) == len(configs)
    assert set(plan.seeds) <= set(plan.variants)


def _typed(change):
    return {n: {"true": True, "false": False}.get(v, v) for n, v in change.items()}


def forked(command, check):
    (done,) = run_together(command[1:])
    assert check
    assert done.returncode == 0, done.stderr


def test_what_is_recorded_is_not_done_again_and_the_rest_is(
    tiny_data, tiny_captioner_checkpoint, tmp_path, monkeypatch
):
    small = {name: str(value) for name, value in SMALL.items()}
    base = small | {"head_epochs": "1", "word_min_count": "1"}
    plan = ablation.Plan("training.train_captioner", base, {"a": {}, "b": {}}, {})
    monkeypatch.setitem(ablation.PLANS, "caption", plan)
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"results": {"ablation: a": {"metrics": {"cider": 1.5}}}}')
    flags = {"data": tiny_data, "encoder": tiny_captioner_checkpoint, "work": tmp_path / "work"}
    flags |= {"metrics": metrics, "cache_dir": tmp_path / "cache"}
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["ablation", "caption", *given])
    monkeypatch.setattr(ablation.subprocess, "run", forked)
    ablation.main()
    found = json.loads(metrics.read_text())["results"]
    assert found["ablation: a"] == {"metrics": {"cider": 1.5}}
    assert found["ablation: b"]["metrics"]["n"] == 8
    assert [path.name for path in (tmp_path / "work").glob("*.jsonl")] == ["b.jsonl"]
    written = metrics.stat().st_mtime_ns
    ablation.main()
    assert metrics.stat().st_mtime_ns == written


def test_seeds_come_together_as_mean_and_deviation():
    results = {
        "answer": {"metrics": {"all": 50.0}},
        "ablation: one": {"metrics": {"all": 40.0, "other": 3.5}},
        "ablation: two, seed 0": {"metrics": {"all": 41.0}},
        "ablation: two, seed 1": {"metrics": {"all": 43.0}},
    }
    found = _ablation(results, ("all", "other"))
    assert found == {"one": ["40.0", "3.5"], "two": ["42.00 ± 1.41", ""]}


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ((45.0, 45.2, 45.1), "beats no gaze at all: +5.00 points, standard error 0.08."),
        ((35.0, 35.2, 35.1), "loses to no gaze at all: -5.00 points, standard error 0.08."),
        ((40.3, 39.9, 40.2), "cannot be told from no gaze at all: +0.03 points, standard error"),
        ((45.0,), ""),
    ],
)
def test_the_card_says_whether_gaze_helps_whatever_the_numbers(ours, verdict):
    values = {"gaze, gated prior": ours, "no gaze": (40.0, 40.2, 40.1)}
    results = {
        f"ablation: {name}, seed {seed}": {"metrics": {"all": value}}
        for name, each in values.items()
        for seed, value in enumerate(each)
    }
    found = _verdicts(results)
    assert len(found) == bool(verdict)
    assert all(verdict in line for line in found)
