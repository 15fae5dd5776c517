"""Our explanations against captum, torch-cam, pytorch-grad-cam and lime: same network, same run.

    python -m benchmarks.saliency

For each task, ours, each peer and the bare passes take turns in a drawn order, in one process;
the medians are recorded as milliseconds and as ratios, in wall time and in processor time. The
networks are ResNet-18 (weights at random: time does not depend on them) and our answering model.
captum runs each task at every chunk size in peers.CHUNKS, and its fastest counts.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.latency import RESULTS
from benchmarks.peers import NOISY, STEPS, TARGETS, Call
from saliency import faithfulness, overlay
from saliency.methods import lime_image
from saliency.registry import explain
from training.core.provenance import provenance, record
from vqa.engine import Engine
from vqa.scorers.native import ClassScorer

PERTURBED = 200  # samples of LIME
BARE = "bare"


@dataclass(frozen=True)
class Contest:
    """One task, and who does it."""

    task: str
    ours: Call
    bare: Call | None = None  # the network's own passes, nothing else
    others: dict[str, Call] = field(default_factory=dict)
    rounds: int = 10


def main() -> None:
    """Time, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=float, default=1.0, help="times the usual rounds")
    parser.add_argument("--tasks", default="", help="only tasks with this in their name")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")  # captum's and lime's own, about hooks and dtypes
    networks: dict[str, nn.Module] = {
        "ResNet-18": resnet(),
        "our answering model": Engine.load("vqa").scorer("what is the man holding?"),
    }
    report: dict[str, Any] = {}
    for name, scorer in networks.items():
        for contest in contests(scorer):
            if args.tasks in contest.task:
                rows = run(contest, max(2, round(args.rounds * contest.rounds)))
                report.setdefault(name, {})[contest.task] = rows
                show(name, contest.task, rows)
    if not args.tasks:
        record(RESULTS, "saliency", provenance() | {"threads": args.threads, "tasks": report})


def resnet() -> ClassScorer:
    """ResNet-18 with random weights, frozen as ours is."""
    from transformers import AutoConfig, AutoModelForImageClassification

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "resnet",
        layer_type="basic",
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        num_labels=1000,
    )
    network = AutoModelForImageClassification.from_config(config)
    network.eval().to(memory_format=torch.channels_last)  # as `from_pretrained` does
    return ClassScorer(network).requires_grad_(False)


def contests(scorer: nn.Module) -> Iterator[Contest]:
    """Every task on one network."""
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def ours(method: str, targets: list[int], **options: Any) -> Call:
        return lambda: explain(scorer, pixels, targets, method, **options)

    def forward() -> Tensor:
        with torch.inference_mode():
            scores: Tensor = scorer(pixels)
            return scores

    def backward() -> Tensor:
        leaf = pixels.clone().requires_grad_()
        return torch.autograd.grad(scorer(leaf)[0, 0], leaf)[0]

    cam, smooth = ours("grad_cam", TARGETS), ours("smoothgrad", [0], samples=NOISY)
    integrated = ours("integrated_gradients", [0], steps=STEPS)
    plain, guided = peers.captum_passes(scorer, pixels)
    yield Contest("Grad-CAM, 3 targets", cam, forward, peers.cams(scorer, pixels), 30)
    yield Contest("Gradient", ours("gradient", [0]), backward, plain, 20)
    yield Contest("Guided backprop", ours("guided_backprop", [0]), backward, guided, 20)
    yield Contest(
        f"SmoothGrad, {NOISY} samples", smooth, None, peers.captum_smoothgrad(scorer, pixels), 4
    )
    yield Contest(
        f"Integrated gradients, {STEPS} steps",
        integrated,
        None,
        peers.captum_integrated(scorer, pixels),
        3,
    )
    yield from limes(scorer, pixels)
    yield Contest(
        "Counterfactual, 10 random covers",
        lambda: faithfulness.counterfactual(scorer, pixels, pixels[0, 0].numpy()),
        rounds=3,
    )
    picture, cells = Image.new("RGB", (640, 480)), np.random.default_rng(0).random((224, 224))
    yield Contest("Overlay on 640 x 480", lambda: overlay.blend(picture, cells, 0.7), rounds=50)


class Brightness(nn.Module):
    """A classifier that costs nothing: what is left is LIME's own time."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) -> scores (B, 3), of a few pixels."""
        return pixels[:, :, ::16, ::16].mean(dim=(2, 3))


def limes(scorer: nn.Module, pixels: Tensor) -> Iterator[Contest]:
    """LIME with the same superpixels: without the model's time, a further target, and whole."""
    segments = lime_image.superpixels(pixels[0].permute(1, 2, 0).numpy())
    shared: dict[str, Any] = {"segmentation": segments}

    def ours(network: nn.Module, samples: int) -> Call:
        return lambda: explain(network, pixels, [0], "lime", samples=samples, **shared)

    free = Brightness()
    if isinstance(scorer, ClassScorer):  # these do not depend on the network
        whole = {"lime": peers.lime_package(free, pixels, segments, 1000)}
        yield Contest("LIME without the model, 1000 samples", ours(free, 1000), None, whole, 3)
        (done,) = explain(free, pixels, [0], "lime", samples=1000, **shared)
        again = {"lime": peers.lime_package_again(done.details["sample"])}
        sample = done.details["sample"]
        yield Contest("LIME, a further target", lambda: sample.maps([1]), None, again, 20)
    whole = {"lime": peers.lime_package(scorer, pixels, segments, PERTURBED)}
    yield Contest(f"LIME, {PERTURBED} samples", ours(scorer, PERTURBED), None, whole, 2)


def run(contest: Contest, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds, wall and processor, of ours, the bare passes and the fastest peers."""
    calls = {"ours": contest.ours, **({BARE: contest.bare} if contest.bare else {})}
    calls |= contest.others
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    order = random.Random(0)
    for number in range(rounds + 1):
        for name, call in order.sample([*calls.items()], len(calls)):
            gc.collect()
            wall, processor = time.perf_counter(), time.process_time()
            call()
            spent = (time.perf_counter() - wall, time.process_time() - processor)
            if number:  # the first round warms up
                times[name].append(spent)
    medians = {
        name: [1000 * statistics.median(column) for column in zip(*spent, strict=True)]
        for name, spent in times.items()
    }
    fastest = _fastest(medians)
    ours = medians["ours"]
    return {
        name: {
            "wall": round(medians[name][0], 3),
            "cpu": round(medians[name][1], 3),
            "wall ratio": round(ours[0] / medians[name][0], 2),
            "cpu ratio": round(ours[1] / medians[name][1], 2),
        }
        for name in fastest
    }


def _fastest(medians: dict[str, list[float]]) -> list[str]:
    """Of each contestant that ran at several chunk sizes, the fastest."""
    best: dict[str, str] = {}
    for name, (wall, _) in medians.items():
        contestant = name.partition(",")[0]
        if contestant not in best or wall < medians[best[contestant]][0]:
            best[contestant] = name
    return list(best.values())


def show(network: str, task: str, rows: dict[str, dict[str, float]]) -> None:
    """Print one task's rows; a ratio is ours over that contestant's."""
    print(f"\n{network}: {task}")
    for name, row in rows.items():
        print(
            f"  {name:24} {row['wall']:9.2f} ms wall, {row['cpu']:9.2f} ms cpu;"
            f" ours is {row['wall ratio']:.2f}x, {row['cpu ratio']:.2f}x"
        )


if __name__ == "__main__":
    main()
