"""The picture in a card: an example photo, and what the model makes of it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from saliency.overlay import describe
from saliency.panels import Panel, side_by_side, top_panel
from vqa import checkpoints
from vqa.engine import Engine
from vqa.pipelines.captioning import CaptionPipeline
from vqa.pipelines.gaze import GazePipeline
from vqa.preprocessing import images
from vqa.tasks import BY_MODEL_TYPE

QUESTION = "What animal is this?"
COLUMNS = 6  # of the words of a caption
PANEL_SIDE = 150  # pixels of a word's picture


class Photo(NamedTuple):
    """A photo that comes with an installed package."""

    package: str
    file: str
    shows: str
    credit: str

    @property
    def path(self) -> Path:
        """Where it lies; the package is found without importing it."""
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(f"{self.file}: {self.package} is not installed")
        return Path(spec.origin).parent / self.file


CAT = Photo("skimage", "data/chelsea.png", "a cat's face", "Stéfan van der Walt, CC0")
TEMPLE = Photo(
    "sklearn",
    "datasets/images/china.jpg",
    "a Chinese temple above trees and a lake",
    "[Daniel Büchele](https://www.flickr.com/photos/danielbuechele/6061409035/), "
    "[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)",
)
ASTRONAUT = Photo(
    "skimage", "data/astronaut.png", "an astronaut before a flag and a shuttle", "NASA"
)


class Example(NamedTuple):
    """What a model makes of a photo."""

    picture: Image.Image
    words: str  # for those who cannot see it; without numbers, which differ between processors
    credit: str


def draw(directory: Path) -> Example | None:
    """Show what a checkpoint does; None for a model that sees no pictures.

    Raises:
        BadCheckpoint: if it cannot be loaded.
        FileNotFoundError: naming the package that should bring the photo.
    """
    found = EXAMPLES.get(BY_MODEL_TYPE[str(checkpoints.type_of(directory))].key)
    if found is None:
        return None
    photo, make = found
    picture, words = make(checkpoints.load(directory), images.load(photo.path))
    words = f"A photo of {photo.shows}, and beside it {words}"
    return Example(picture, words, f"Photo: {photo.credit}")


def _answer(model: Any, picture: Image.Image) -> tuple[Image.Image, str]:
    engine = Engine(model)
    found = engine.answer(picture, QUESTION)
    (why,) = engine.explain(picture, QUESTION)
    panels = [
        Panel(f"{found.text}, {found.probability:.0%}: attention", found.attention),
        Panel(f"{found.text}: Grad-CAM", why.drawable),
    ]
    places = f"{_place(found.attention)}; and what speaks for the answer, {_place(why.drawable)}"
    words = f'the answer to "{QUESTION}", "{found.text}": where the model looked, {places}'
    return side_by_side(picture, panels), words


def _caption(model: Any, picture: Image.Image) -> tuple[Image.Image, str]:
    found = CaptionPipeline(model).caption(picture)
    words = f'the caption "{found.text}"'
    if found.attention is None:
        return side_by_side(picture, []), words
    panel = top_panel(picture, list(found.attention), found.words, side=PANEL_SIDE, columns=COLUMNS)
    return panel, f"{words}, each word over a copy with where the model looked for it"


def _gaze(model: Any, picture: Image.Image) -> tuple[Image.Image, str]:
    people = GazePipeline(model).maps([picture])[0]
    panel = side_by_side(picture, [Panel("where people would look", people)])
    return panel, f"where the model says that people would look: {_place(people)}"


def _place(values: Any) -> str:
    return describe(values).partition(",")[0]


EXAMPLES: dict[str, tuple[Photo, Callable[[Any, Image.Image], tuple[Image.Image, str]]]] = {
    "answer": (CAT, _answer),
    "caption": (TEMPLE, _caption),
    "gaze": (ASTRONAUT, _gaze),
}
