r"""Find the things in training photos with a teacher, for a student to learn from.

    python -m training.pseudo_boxes --teacher ../shared/weights/yolox_nano \
        --data ../shared/data/coco_vqa,../shared/data/flickr8k --out runs/boxes

Every picture is seen as it is and mirrored; a box is kept where both agree (pseudo-labels by
consistency, as in Radosavovic et al., "Data Distillation", CVPR 2018). A folder in `--data` means
its train split, a parquet file is read as it is; never name a validation split. Run the same
command again to resume. `read_boxes` reads what was written. The teacher runs in ONNX Runtime,
which this command alone needs: `pip install onnxruntime`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.core.config import BadSettings, flag
from training.core.run import command
from vqa.data.image_dataset import ImageRecord, open_rows
from vqa.errors import BadData, BadImage
from vqa.models.boxes import Array, Boxes, iou, suppress
from vqa.preprocessing import images

SIZE = 416  # pixels a side of what the teacher sees
STRIDES = (8, 16, 32)  # of its grids
MIN_SCORE = 0.1  # of a box in either view
AGREEING = 0.5  # IoU from which the two views mean the same thing
PART = 500  # pictures a file
_OBJECTS = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,"
    "fire hydrant,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,"
    "elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,"
    "tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,"
    "sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,"
    "teddy bear,hair drier,toothbrush"
)
OBJECTS = tuple(_OBJECTS.split(","))  # the 80 classes of COCO, as the teacher numbers them


@dataclass(frozen=True)
class BoxConfig:
    """Every setting; each is a flag of the same name."""

    teacher: str = flag("", "folder with an ONNX file of a YOLOX that reads 416 x 416 pixels")
    data: str = flag("", "folders (their train split) or parquet files, with commas between")
    out: str = flag("", "folder for the boxes; has one folder a data set")
    threads: int = flag(1, "of the teacher")

    def __post_init__(self) -> None:
        if not (self.teacher and self.data and self.out):
            raise BadSettings("teacher, data and out must be given")


def agree(one: Boxes, other: Boxes) -> Boxes:
    """Boxes that both views of a picture show: corners and scores are their means.

    Args:
        one: after suppression, so best first.
        other: likewise, of the same picture; each of its boxes is matched once.
    """
    same = one.labels[:, None] == other.labels[None]
    overlap = np.where(same, iou(one.corners, other.corners), 0.0)
    pairs: list[tuple[int, int]] = []
    for place in range(len(one.scores)):
        match = int(overlap[place].argmax()) if overlap.shape[1] else -1
        if match >= 0 and overlap[place, match] > AGREEING:
            pairs.append((place, match))
            overlap[:, match] = 0.0
    first, second = (np.array([p[side] for p in pairs], dtype=int) for side in (0, 1))
    corners = (one.corners[first] + other.corners[second]) / 2
    scores = (one.scores[first] + other.scores[second]) / 2
    return Boxes(corners, one.labels[first], scores)


def decode(output: Array) -> Boxes:
    """The teacher's raw output (3549, 85) -> its boxes after suppression.

    A row holds x, y, w, h relative to its cell, objectness and 80 probabilities; the cells are
    those of three grids, row by row.
    """
    cells, strides = _cells()
    scores = output[:, 4:5] * output[:, 5:]
    rows, labels = (scores >= MIN_SCORE).nonzero()
    centres = (output[:, :2] + cells) * strides
    halves = np.exp(np.minimum(output[:, 2:4], 10.0)) * strides / 2
    corners = np.clip(np.concatenate([centres - halves, centres + halves], axis=1) / SIZE, 0, 1)
    return suppress(Boxes(corners[rows].astype(np.float32), labels, scores[rows, labels]))


def _cells() -> tuple[Array, Array]:
    """Column and row of every cell (3549, 2), and its stride (3549, 1)."""
    sides = [SIZE // stride for stride in STRIDES]
    cells = [np.stack(np.meshgrid(range(n), range(n)), axis=-1).reshape(-1, 2) for n in sides]
    return np.concatenate(cells), np.repeat(STRIDES, [n * n for n in sides])[:, None]


class Teacher:
    """A YOLOX in ONNX Runtime.

    Args:
        folder: holds its one ONNX file.
        threads: to run it with.

    Raises:
        BadData: if the folder holds none, or more.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        import onnxruntime

        files = sorted(Path(folder).glob("*.onnx"))
        if len(files) != 1:
            raise BadData(f"{folder}: must hold one ONNX file, it holds {len(files)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(files[0]), options)

    def find(self, picture: Image.Image) -> Boxes:
        """The things that both the picture and its mirror image show."""
        squashed = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = np.asarray(squashed, np.float32)[:, :, ::-1]  # blue, green, red; 0..255
        return agree(self._see(pixels), self._see(pixels[:, ::-1]).mirrored())

    def _see(self, pixels: Array) -> Boxes:
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        return decode(self.session.run(None, {"images": planes})[0][0])


def write_boxes(rows: Any, folder: Path, find: Callable[[Image.Image], Boxes]) -> None:
    """Look through pictures, and write what is found in files of `PART` pictures.

    Args:
        rows: the pictures; one that does not decode is left out.
        folder: for the files; those that are there are kept.
        find: the teacher.
    """
    import pyarrow as pa
    from pyarrow import parquet
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    for start in tqdm(range(0, len(rows), PART), desc=folder.name, mininterval=5.0):
        file = folder / f"part-{start // PART:05}.parquet"
        if file.exists():
            continue
        some = (rows[place] for place in range(start, min(start + PART, len(rows))))
        fresh = file.with_suffix(".new")
        parquet.write_table(pa.Table.from_pylist(list(_records(some, find)), _schema()), fresh)
        fresh.replace(file)


def _records(
    rows: Iterator[ImageRecord], find: Callable[[Image.Image], Boxes]
) -> Iterator[dict[str, object]]:
    for row in rows:
        try:
            boxes = find(images.load(row.image))
        except BadImage:
            continue
        columns = {n: part.tolist() for n, part in boxes._asdict().items()}
        yield {"image_id": str(row.image_id), **columns}


def _schema() -> Any:
    import pyarrow as pa

    lists = {"corners": pa.list_(pa.float32(), 4), "labels": pa.int64(), "scores": pa.float32()}
    columns = [(name, pa.list_(of)) for name, of in lists.items()]
    return pa.schema([("image_id", pa.string()), *columns])


def read_boxes(folder: str | Path) -> dict[str, Boxes]:
    """The boxes of all pictures below a folder, by their image id as text.

    Raises:
        BadData: if there are none.
    """
    from pyarrow import parquet

    found: dict[str, Boxes] = {}
    for file in sorted(Path(folder).glob("**/part-*.parquet")):
        for row in parquet.read_table(file).to_pylist():
            corners = np.array(row["corners"], np.float32).reshape(-1, 4)
            labels, scores = np.array(row["labels"], int), np.array(row["scores"], np.float32)
            found[row["image_id"]] = Boxes(corners, labels, scores)
    if found:
        return found
    raise BadData(f"{folder}: holds no boxes; python -m training.pseudo_boxes writes them")


def run(config: BoxConfig) -> Path:
    """Look through all pictures of all data sets; returns `out`."""
    teacher = Teacher(config.teacher, config.threads)
    for data in config.data.split(","):
        path = Path(data)
        rows = open_rows(path, "train", required="image")
        name = f"{path.parent.name}-{path.stem}" if path.is_file() else path.name
        write_boxes(rows, Path(config.out) / name, teacher.find)
    return Path(config.out)


if __name__ == "__main__":
    command(BoxConfig, run)
