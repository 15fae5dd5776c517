"""Finding things as the training loop sees it: pictures with pseudo-boxes, loss and validation.

Targets are elliptic Gaussians at the boxes' centres, and sides that are learnt at every cell near
one, which makes learning quick (Liu et al., "Training-Time-Friendly Network", AAAI 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from training.core.loop import Batch
from training.core.run import ModelTask, zero_loss
from training.data.augmentation import RandomCropFlip
from training.data.decoding import decode
from training.data.extra_annotations import PictureLabels
from training.data.image_set import PictureSet
from training.data.tune_fold import in_tune_fold
from training.evaluation.objects import Matches, certain, match
from vqa.data.image_dataset import ImageRecord
from vqa.models import ObjectModel
from vqa.models.boxes import Array, Boxes
from vqa.models.concept_detector import ConceptDetector
from vqa.models.encoder import Encoder
from vqa.models.objects import decode as decode_maps
from vqa.preprocessing import images

MIN_SIDE = 0.55  # smallest side of a random crop, as a share of the picture's
MIN_VISIBLE = 0.4  # of a box's area in a crop, or it is not sure to be recognised
REACH = 0.27  # radius of a Gaussian, as a share of its box's side
UNSURE = 0.95  # peak of a box that nobody is sure of: neither asked for nor punished
JITTER = 0.3  # most that brightness, contrast and colour change, as a share


class ObjectSet(PictureSet):
    """Pictures with boxes, and with the concepts that their captions name.

    Args:
        rows: the data; those without boxes are left out.
        model: whose classes, picture size and stride to use.
        boxes: by image id, as text.
        listed: names of the objects that people saw in each picture, None where nobody looked.
        seen: what captions and objects tell of each picture.
        concepts: the names of the auxiliary targets.
        held: whether to take the pictures of the fold to choose on, or all others.
        augment: mirror, crop and tint the pictures, by chance.
        seed: as of `PictureSet`.
    """

    def __init__(
        self,
        rows: Sequence[ImageRecord],
        model: ObjectModel,
        boxes: Mapping[str, Boxes],
        listed: Sequence[set[str] | None],
        seen: Sequence[PictureLabels],
        *,
        concepts: Sequence[str],
        held: bool,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        size = model.config.encoder.image_size
        super().__init__(rows, size, augment=augment, seed=seed)
        self.side, self.num_classes = -(-size // model.config.stride), len(model.names)
        self.numbers = {name: number for number, name in enumerate(concepts)}
        self.seen = seen
        objects = frozenset().union(*(one.objects or () for one in seen))
        self.objects = self._numbers(objects)  # what those who listed objects looked for
        ids = [rows[row].image_id for row in range(len(rows))]
        known = (row for row, name in enumerate(ids) if str(name) in boxes)
        self.samples = [row for row in known if in_tune_fold(ids[row]) == held]
        self.boxes = {row: boxes[str(ids[row])] for row in self.samples}
        self.sure = {r: certain(b, model.names, listed[r]) for r, b in self.boxes.items()}

    def batch(self, picks: list[tuple[int, int]]) -> Batch:
        """Collate samples.

        Args:
            picks: (epoch, sample) pairs.

        Returns:
            `pixels` (B, 3, S, S); `centres` (B, K, h, w), `sides` (B, 4, h, w) and their `weights`
            (B, h, w), as of `box_targets`; `concepts` (B, W): 1 seen, 0 not, -1 unknown; `count` ()
            = B.
        """
        pixels: list[Tensor] = []
        targets: list[tuple[Tensor, ...]] = []
        for epoch, sample in picks:
            row = self.samples[sample]
            picture = None if row in self.skipped else decode(self.rows[row], self.size)
            if picture is None:
                self.skipped.add(row)
                continue
            boxes, sure = self.boxes[row], self.sure[row]
            chance = np.random.default_rng((self.seed, epoch, row))
            if self.augment:
                view = _draw_view(chance)
                picture, (boxes, sure) = view.of(picture), boxes_in_view(boxes, sure, view)
            seen = images.to_pixels(picture, self.size)[0]
            pixels.append(_tint(seen, chance) if self.augment else seen)
            found = box_targets(boxes, sure, self.num_classes, self.side)
            targets.append((*map(torch.from_numpy, found), self._concepts(row)))
        count = {"count": torch.tensor(float(len(pixels)))}
        if not pixels:
            return {**self.stack([]), **count}
        names = ("centres", "sides", "weights", "concepts")
        stacked = (torch.stack(parts) for parts in zip(*targets, strict=True))
        return {**self.stack(pixels), **dict(zip(names, stacked, strict=True)), **count}

    def _concepts(self, row: int) -> Tensor:
        one = self.seen[row]
        marks = torch.full((len(self.numbers),), -1.0 if one.said is None else 0.0)
        if one.objects is not None:
            marks[self.objects] = 0.0
        marks[self._numbers((one.said or frozenset()) | (one.objects or frozenset()))] = 1.0
        return marks

    def _numbers(self, names: frozenset[str]) -> list[int]:
        return sorted(self.numbers[name] for name in names if name in self.numbers)


def _draw_view(chance: np.random.Generator) -> RandomCropFlip:
    mirrored = bool(chance.random() < 0.5)
    width, height = chance.uniform(MIN_SIDE, 1, size=2)
    return RandomCropFlip(
        mirrored, chance.uniform(0, 1 - width), chance.uniform(0, 1 - height), width, height
    )


def _tint(pixels: Tensor, chance: np.random.Generator) -> Tensor:
    """Change brightness, contrast and colour of (3, S, S) in [0, 1] by chance."""
    bright, contrast, colour = chance.uniform(1 - JITTER, 1 + JITTER, size=3).tolist()
    grey = pixels.mean(dim=0, keepdim=True)
    pixels = grey + colour * (pixels - grey)
    mean = pixels.mean()
    return torch.as_tensor(bright * (mean + contrast * (pixels - mean))).clamp(0, 1)


def boxes_in_view(boxes: Boxes, sure: Array, view: RandomCropFlip) -> tuple[Boxes, Array]:
    """The parts of boxes that a view shows, and which of them are still sure to be recognised."""
    corners = (boxes.mirrored() if view.mirrored else boxes).corners
    offset, scale = np.array([view.left, view.top] * 2), np.array([view.width, view.height] * 2)
    moved = (corners - offset) / scale
    cut = moved.clip(0, 1)
    areas = [(c[:, 2:] - c[:, :2]).prod(axis=1) for c in (cut, moved)]
    visible = areas[0] / np.maximum(areas[1], 1e-9)
    shown = (cut[:, 2:] > cut[:, :2]).all(axis=1)
    boxes = boxes._replace(corners=cut.astype(np.float32))
    return boxes.keep(shown), (sure & (visible >= MIN_VISIBLE))[shown]


def box_targets(
    boxes: Boxes, sure: Array, num_classes: int, side: int
) -> tuple[Array, Array, Array]:
    """Boxes of a picture -> what the head is to say.

    Args:
        boxes: with corners in 0..1.
        sure: which of them are true; near the others no object is punished.
        num_classes: K.
        side: cells a side of the maps.

    Returns:
        float32 arrays: the centres (K, side, side), 1 at those of true boxes and falling off around
        them; the distances (4, side, side) to the sides of a box, as shares of the picture; how
        much each cell's distances count (side, side), in sum 1 a box.
    """
    centres = np.zeros((num_classes, side, side), np.float32)
    sides, weights = np.zeros((4, side, side), np.float32), np.zeros((side, side), np.float32)
    steps = np.arange(side)
    sizes = boxes.corners[:, 2:] - boxes.corners[:, :2]
    for index in np.argsort(-sizes.prod(axis=1)):  # the smaller ones lie in front
        left, top, right, bottom = boxes.corners[index]
        column, row = (
            min(int((low + high) / 2 * side), side - 1)
            for low, high in ((left, right), (top, bottom))
        )
        spreads = [(2 * int(REACH * size * side) + 1) / 6 for size in sizes[index]]
        across, down = (
            np.exp(-np.square((steps - at) / spread) / 2) * (abs(steps - at) <= 3 * spread)
            for at, spread in zip((column, row), spreads, strict=True)
        )
        bump = np.outer(down, across)
        label = boxes.labels[index]
        peak = 1.0 if sure[index] else UNSURE
        centres[label] = np.maximum(centres[label], peak * bump)
        if sure[index]:
            y, x = bump.nonzero()
            weights[y, x] = bump[y, x] / bump.sum()
            at_x, at_y = (x + 0.5) / side, (y + 0.5) / side
            sides[:, y, x] = [at_x - left, at_y - top, right - at_x, bottom - at_y]
    return centres, sides, weights


class ObjectLoss(nn.Module):
    """Summed loss over the pictures.

    Args:
        model: learns.
        detector: of concepts in the coarsest maps, an auxiliary task; it learns too.
        weights: of `centres`, the focal loss of the heat-maps, of `sides`, 1 - GIoU, and of
            `concepts`, the binary cross-entropy of each.
    """

    def __init__(
        self, model: ObjectModel, detector: ConceptDetector, weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.model, self.detector, self.weights = model, detector, dict(weights)

    @property
    def encoder(self) -> Encoder:
        """The model's."""
        return self.model.encoder

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `ObjectSet`, a scalar."""
        if not len(batch["pixels"]):
            return zero_loss(self)
        features = self.model.encoder.pyramid(batch["pixels"], self.model.strides)
        maps = self.model.head(features)
        fits = self.detector(features[-1].flatten(2).transpose(1, 2)).float()
        marks = batch["concepts"]
        missed = F.binary_cross_entropy_with_logits(fits, marks.clamp(min=0), reduction="none")
        where = batch["weights"] > 0
        giou = giou_of_sides(*(m.movedim(1, -1)[where] for m in (maps.distances, batch["sides"])))
        losses = {
            "centres": focal_loss(maps.logits, batch["centres"]),
            "sides": (batch["weights"][where] * (1 - giou)).sum(),
            "concepts": (missed * (marks >= 0)).sum(),
        }
        return torch.stack([weight * losses[name] for name, weight in self.weights.items()]).sum()


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed focal loss of heat-maps (Law and Deng, "CornerNet", ECCV 2018).

    Args:
        logits: any shape.
        targets: in 0..1; 1 at a centre.
    """
    p = logits.sigmoid()
    hits = (1 - p).square() * F.logsigmoid(logits) * (targets == 1)
    false_alarms = (1 - targets).pow(4) * p.square() * F.logsigmoid(-logits)
    return -(hits + false_alarms).sum()


def giou_of_sides(one: Tensor, other: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al., CVPR 2019) of boxes around the same points.

    Args:
        one: (N, 4), distances to the left, top, right and bottom side; a box holds its point.
        other: likewise.
    """
    inner, outer = torch.minimum(one, other), torch.maximum(one, other)
    areas = [(s[:, 0] + s[:, 2]) * (s[:, 1] + s[:, 3]) for s in (one, other, outer)]
    shared = (inner[:, 0] + inner[:, 2]).clamp(min=0) * (inner[:, 1] + inner[:, 3]).clamp(min=0)
    union = areas[0] + areas[1] - shared
    hull = areas[2].clamp(min=1e-7)
    return shared / union.clamp(min=1e-7) - (hull - union) / hull


class ObjectTask(ModelTask):
    """The object model as the loop sees it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.validation: ObjectSet

    @torch.no_grad()
    def validate(self, model: nn.Module) -> float:
        """F1 of the boxes on the fold to choose on, at the best threshold, in 0..1."""
        assert isinstance(model, ObjectModel)
        found = find_boxes(model, self.validation, self.accelerator)
        return compare(found, self.validation).best_f1()[0]


def find_boxes(model: ObjectModel, data: ObjectSet, accelerator: Accelerator) -> dict[int, Boxes]:
    """What a model finds in each picture, by its row; on every process alike."""
    model.eval()
    share = range(accelerator.process_index, len(data), accelerator.num_processes)
    found: list[tuple[int, Boxes]] = []
    for start in range(0, len(share), 16):
        rows = [data.samples[i] for i in share[start : start + 16]]
        pictures = [(row, decode(data.rows[row], data.size)) for row in rows]
        shown = [(row, images.to_pixels(p, data.size)) for row, p in pictures if p is not None]
        if shown:
            pixels = torch.cat([pixels for _, pixels in shown]).to(accelerator.device)
            with torch.no_grad(), accelerator.autocast():
                maps = model(pixels)
            found += zip((row for row, _ in shown), decode_maps(maps, 0.05), strict=True)
    return dict(gather_object(found) if accelerator.num_processes > 1 else found)


def compare(found: Mapping[int, Boxes], data: ObjectSet) -> Matches:
    """The boxes that were found in pictures, by row, beside the pseudo-boxes."""
    truths = [data.boxes[row] for row in found]
    sure = [data.sure[row] for row in found]
    return match(list(found.values()), truths, sure, data.num_classes)
