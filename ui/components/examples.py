"""The example pictures, with questions that fit; all come with packages installed anyway."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageOps

ANY_PICTURE = (
    "What is in the picture?",
    "What color is it?",
    "How many people are there?",
    "Is this outdoors?",
)
CREDITS = (
    "Example pictures: Stéfan van der Walt, Rachel Michetti (CC0), NASA, SpaceX (public domain), "
    "Daniel Büchele, vultilion (CC BY 2.0), from scikit-image and scikit-learn."
)
_THUMBNAIL = (160, 120)  # pixels: twice what the page shows, for dense screens


@dataclass(frozen=True)
class Example:
    """A picture to try, and what to ask about it."""

    label: str
    package: str  # the installed package that brings the picture
    file: str  # its place in that package
    questions: tuple[str, ...]  # the first one is asked at once

    @property
    def path(self) -> Path:
        """Where the picture lies; the package is found without importing it.

        Raises:
            FileNotFoundError: naming the package that is not installed.
        """
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(
                f"{self.file} comes with {self.package}, which is not installed"
            )
        return Path(spec.origin).parent / self.file

    def thumbnail(self) -> str:
        """The picture, small, as a JPEG data URI."""
        with Image.open(self.path) as picture:
            small = ImageOps.fit(picture.convert("RGB"), _THUMBNAIL, centering=(0.5, 0.2))
        return data_uri(small, "JPEG", quality=80)


EXAMPLES = (
    Example(
        "Cat",
        "skimage",
        "data/chelsea.png",
        ("What animal is this?", "What color is the cat?", "Is the cat sleeping?"),
    ),
    Example(
        "Coffee",
        "skimage",
        "data/coffee.png",
        ("What is the table made of?", "What is in the cup?", "Is there a spoon?"),
    ),
    Example(
        "Astronaut",
        "skimage",
        "data/astronaut.png",
        ("Is she smiling?", "What is the woman wearing?", "What color is the suit?"),
    ),
    Example(
        "Rocket",
        "skimage",
        "data/rocket.jpg",
        ("Is it day or night?", "What is in the sky?", "Is this outdoors?"),
    ),
    Example(
        "Temple",
        "sklearn",
        "datasets/images/china.jpg",
        ("What color is the sky?", "What is in the background?", "Are there any people?"),
    ),
    Example(
        "Flower",
        "sklearn",
        "datasets/images/flower.jpg",
        ("How many flowers are there?", "What color is the flower?", "What is this?"),
    ),
)


def data_uri(picture: Image.Image, file_format: str, **options: int) -> str:
    """A picture as text that a page can show without a request.

    Args:
        picture: in a mode the format can hold.
        file_format: "JPEG" or "PNG".
        options: the format's own, such as quality.
    """
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{file_format.lower()};base64,{encoded}"
