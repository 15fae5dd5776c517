"""The training loop: schedule, early stop, NaN, and resuming to the same end."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from training.core.loop import OtherSettings, Schedule, TrainingDiverged, claim, fit

SCHEDULE = Schedule(
    epochs=4, batch_size=4, clip=1.0, warmup=0.25, ema=0.9, patience=9, save_every=3, seed=0
)


class Learner(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return ((self.model(batch["x"]) - batch["y"]) ** 2).sum()


class Line:
    """Fit a line with dropout; 24 samples, six steps an epoch. Can be interrupted at a sample."""

    def __init__(self, interrupt_after=None, poison_after=None, metrics=None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.learner = Learner(self.model)
        self.x = torch.randn(24, 3)
        self.y = self.x.sum(1, keepdim=True)
        self.batches, self.interrupt_after, self.poison_after = 0, interrupt_after, poison_after
        self.metrics, self.kept = metrics, []

    def parameter_groups(self):
        return [{"params": list(self.model.parameters()), "lr": 0.05, "weight_decay": 0.0}]

    def num_samples(self):
        return len(self.x)

    def batch(self, samples):
        self.batches += 1
        if self.batches == self.interrupt_after:
            raise KeyboardInterrupt
        rows = [index for _, index in samples]
        y = self.y[rows]
        if self.poison_after is not None and self.batches > self.poison_after:
            y = y * float("nan")
        return {"x": self.x[rows], "y": y, "count": torch.tensor(len(rows))}

    def validate(self, model):
        if self.metrics:
            return self.metrics.pop(0)
        with torch.no_grad():
            return -float(((model.eval()(self.x) - self.y) ** 2).mean())

    def keep(self, model):
        self.kept.append({n: t.clone() for n, t in model.state_dict().items()})


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def run(task, folder, schedule=SCHEDULE):
    torch.manual_seed(1)
    return fit(task, schedule, Accelerator(cpu=True), folder)


@pytest.mark.parametrize("interrupt_after", [2, 5, 9, 14, 20])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, interrupt_after):
    whole = Line()
    run(whole, tmp_path / "whole")
    broken = Line(interrupt_after)
    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path / "broken")
    resumed = Line()
    progress = run(resumed, tmp_path / "broken")
    assert progress.step == 24
    saved = (interrupt_after - 1) // SCHEDULE.save_every * SCHEDULE.save_every
    assert resumed.batches == 24 - saved  # it did not start anew
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    for name, tensor in whole.kept[-1].items():
        last = (broken.kept + resumed.kept)[-1]
        assert torch.equal(last[name], tensor), name


def test_training_learns_and_keeps_the_averaged_model(tmp_path):
    task = Line()
    progress = run(task, tmp_path, replace(SCHEDULE, epochs=30, patience=30))
    assert progress.best > -0.1
    assert any(not torch.equal(task.kept[-1][n], t) for n, t in task.model.state_dict().items())


def test_a_finished_run_does_not_train_again(tmp_path):
    run(Line(), tmp_path)
    again = Line()
    assert run(again, tmp_path).done
    assert again.batches == 0


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    task = Line(metrics=[0.1, 0.3, 0.2, 0.25, 0.1, 0.1])
    progress = run(task, tmp_path, replace(SCHEDULE, epochs=6, patience=2))
    assert (progress.epoch, progress.best_epoch, progress.best) == (4, 1, 0.3)
    assert len(task.kept) == 2


def test_a_loss_that_is_no_number_stops_at_its_step_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"step 7 \(epoch 1\).*keeps the last good state"):
        run(Line(poison_after=7), tmp_path)
    mended = Line()
    assert run(mended, tmp_path).step == 24
    assert mended.batches == 18  # on from step 6
    assert all(p.isfinite().all() for p in mended.model.parameters())


def test_a_gradient_that_is_no_number_stops_before_it_touches_the_weights(tmp_path):
    task = Line()
    forward = task.learner.forward
    # The root of 0 has the value 0 and no finite slope.
    task.learner.forward = lambda batch: forward(batch) + (task.model(batch["x"]) * 0).sqrt().sum()
    with pytest.raises(TrainingDiverged, match=r"norm nan at step 0 .* no state was saved"):
        run(task, tmp_path)
    assert all(p.isfinite().all() for p in task.model.parameters())


def test_a_state_made_with_other_settings_is_refused(tmp_path):
    accelerator = Accelerator(cpu=True)
    claim(tmp_path, {"lr": 0.1, "data": "a"}, accelerator)
    claim(tmp_path, {"lr": 0.1, "data": "a"}, accelerator)
    with pytest.raises(OtherSettings, match="another data, lr:"):
        claim(tmp_path, {"lr": 0.2, "data": "b"}, accelerator)


def test_a_setting_that_there_was_not_yet_had_its_default(tmp_path):
    accelerator = Accelerator(cpu=True)
    claim(tmp_path, {"lr": 0.1}, accelerator)
    claim(tmp_path, {"lr": 0.1, "split": "train"}, accelerator, {"split": "train"})
    with pytest.raises(OtherSettings, match="another split:"):
        claim(tmp_path, {"lr": 0.1, "split": "test"}, accelerator, {"split": "train"})


def test_a_run_killed_while_a_state_was_swapped_in_goes_on_from_the_old_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Line(interrupt_after=9), tmp_path)
    (tmp_path / "state").rename(tmp_path / "state.old")
    resumed = Line()
    assert run(resumed, tmp_path).step == 24
    assert resumed.batches == 18


def test_the_learning_rate_rises_then_falls(tmp_path):
    logged = []

    class Recording(Accelerator):
        def log(self, values, step=None):
            logged.append((step, values.get("lr")))

    fit(Line(), replace(SCHEDULE, epochs=20, patience=20), Recording(cpu=True), tmp_path)
    rates = {step: lr for step, lr in logged if lr is not None}  # 120 steps, the first 30 rise
    assert rates[20] < 0.05 * 20 / 30
    assert rates[40] == max(rates.values()) < 0.05
    assert rates[120] < 0.001 * 0.05
