"""Any picture file becomes an upright 8-bit RGB picture, or a BadImage that says why not.

Files come from strangers: the first bytes choose the one decoder that is tried, and sizes are
checked before a pixel is decoded. No setting of the host program's Pillow is changed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

# Importing a plugin registers its format; Pillow would else import all forty at the first WebP.
from PIL import AvifImagePlugin, Image, ImageOps, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from vqa.errors import BadImage
from vqa.preprocessing import image_formats

if TYPE_CHECKING:
    import torch

MAX_BYTES = 10 * 2**20  # of an encoded file
MAX_PIXELS = 64_000_000  # this many or more are refused
MIN_SIDE = 8  # pixels
MAX_ASPECT = 50  # longer side over shorter side
_SMALLER = f"make it smaller, the limit is {MAX_PIXELS // 10**6} megapixels"

Array: TypeAlias = npt.NDArray[Any]
Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | Array

_ORIENTATION = 0x0112  # the EXIF tag
_FILTERS_LOCK = threading.Lock()  # catch_warnings() in two threads at once can leave its filters


def read(source: Source) -> bytes | Image.Image | Array:
    """Fetch what a source holds, without decoding it.

    Args:
        source: a path, a file's bytes, a binary file (read from its start), PIL picture or array.

    Returns:
        The bytes of a file, MAX_BYTES at most; a picture or an array as it is.

    Raises:
        BadImage: if the file is missing, unreadable, empty or too large, or the source no picture.
    """
    if isinstance(source, (Image.Image, np.ndarray)):
        return source
    try:
        if isinstance(source, (str, os.PathLike)):
            with Path(source).open("rb") as file:
                data = file.read(MAX_BYTES + 1)  # so that a device or a pipe has an end
        elif isinstance(source, bytes):
            data = source
        else:
            with suppress(OSError):  # a file may come again with the next question; a pipe cannot
                source.seek(0)
            data = bytes(source.read(MAX_BYTES + 1))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        takes = "a path, bytes, a file in binary mode, a PIL picture or an array"
        raise BadImage(f"The picture cannot be read ({error}): give {takes}.") from error
    if not data:
        raise BadImage("The file is empty (0 bytes): save or upload it again.")
    if len(data) > MAX_BYTES:
        raise BadImage(f"The file is too large: save it smaller, {MAX_BYTES >> 20} MB at most.")
    return data


def fingerprint(raw: bytes | Image.Image | Array) -> str:
    """Name what read() returned by its content, in 32 hexadecimal digits.

    Raises:
        BadImage: if a PIL picture that was not decoded yet is damaged or of a size out of limits.
    """
    digest = hashlib.blake2b(raw if isinstance(raw, bytes) else b"", digest_size=16)
    if isinstance(raw, np.ndarray):
        digest.update(repr((raw.dtype, raw.shape)).encode() + raw.tobytes())
    elif isinstance(raw, Image.Image):
        with _refusing():
            _open(raw)[0].load()
        look = [raw.info.get(key) for key in ("transparency", "exif")]
        digest.update(repr((raw.mode, raw.size, raw.getpalette(), look)).encode() + raw.tobytes())
    return digest.hexdigest()


def load(source: Source, *, min_side: int | None = None) -> Image.Image:
    """Read any picture as upright 8-bit RGB, laid on white, the first frame only.

    Args:
        source: anything read() takes. Arrays are (H, W), (H, W, 3) or (H, W, 4), and bool, uint8,
            uint16 or floats in [0, 1]; NaN is black.
        min_side: lets a JPEG be decoded at a half, a quarter or an eighth of its size, which is
            much faster, while both sides keep this many pixels. Nothing else is resized.

    Returns:
        A new RGB picture, at least MIN_SIDE a side.

    Raises:
        BadImage: if it is no picture, damaged, too large, too small or too thin.
    """
    raw = read(source)
    if isinstance(raw, np.ndarray):
        return _to_rgb(_from_array(raw))
    with _refusing():
        image, orientation = _open(raw)
        if min_side and image is not raw:
            image.draft(None, (min_side, min_side))  # a square, so that it may be turned later
        image.load()
        picture = _to_rgb(image)
    picture.info = {}
    picture.getexif()[_ORIENTATION] = orientation
    ImageOps.exif_transpose(picture, in_place=True)
    return picture


def to_pixels(picture: Image.Image, size: int) -> torch.Tensor:
    """Squash a picture into a square; nothing is cropped, so maps return by a plain resize.

    Args:
        picture: an RGB picture, from load().
        size: side of the square, in pixels.

    Returns:
        (1, 3, size, size), contiguous float32 in [0, 1].
    """
    import torch

    square = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    channels_first = np.asarray(square).transpose(2, 0, 1)[None]
    return torch.from_numpy(channels_first.astype(np.float32, order="C") / np.float32(255))


@contextmanager
def _refusing() -> Iterator[None]:
    """Make every failure of a decoder a BadImage: on a hostile file it may raise anything."""
    try:
        yield
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(f"The picture is too large: {_SMALLER}.") from error
    except Exception as error:
        why = str(error).partition(" <")[0].strip()  # Pillow names our buffer's address
        raise BadImage(f"The picture is damaged ({why}): download or save it again.") from error


def _open(raw: bytes | Image.Image) -> tuple[Image.Image, int]:
    """Read the header of a file, and its orientation; refuse a size that is out of limits."""
    with _FILTERS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        image = _open_file(raw) if isinstance(raw, bytes) else raw
        _check_size(*image.size)
        if image.format == "TIFF":
            image.load()  # in here, since this reads its tags again, and warns of them
        exif, orientation = Image.Exif(), 1
        with suppress(Exception):  # a camera's broken notes are no reason to refuse its picture
            notes = image.info.get("exif", b"")  # nothing in a TIFF: Pillow turns it by itself
            exif.load(notes if len(notes) <= image_formats.MAX_EXIF else b"")
            orientation = int(exif.get(_ORIENTATION, 1))
    return image, orientation


def _open_file(data: bytes) -> Image.Image:
    """Choose the one decoder by the first bytes, and refuse what is cut short."""
    kind = image_formats.detect_format(data)
    if not kind.isupper():
        raise BadImage(f"The file is {kind}: give a photo, as a JPEG, PNG, WebP or the like.")
    if kind == "HEIF" and kind not in Image.OPEN:  # pillow-heif adds it, if the program asks
        do = "save it as a JPEG, or install pillow-heif and call its register_heif_opener()"
        raise BadImage(f"The file is a HEIC photo: {do}.")
    if kind == "TIFF":
        image_formats.check_tiff(data)
    stream = BytesIO(image_formats.strip_png_chunks(data) if kind == "PNG" else data)
    image = Image.open(stream, formats=[kind])
    if kind == "JPEG" and data.rfind(b"\xff\xd9", stream.tell()) < 0:
        raise EOFError("it is cut short")
    return image


def _check_size(width: int, height: int) -> None:
    """Refuse what nobody could see anything in, or what takes too much memory."""
    shorter, longer = sorted((width, height))
    given = f"The picture is {width} x {height} pixels"
    if shorter < MIN_SIDE:
        raise BadImage(f"{given}: use a larger one, of at least {MIN_SIDE} a side.")
    if longer > MAX_ASPECT * shorter:
        raise BadImage(f"{given}: crop it, a side may be {MAX_ASPECT} times the other at most.")
    if shorter * longer >= MAX_PIXELS:
        raise BadImage(f"{given}: {_SMALLER}.")


def _from_array(array: Array, *, stretch: bool = False) -> Image.Image:
    """Bring an array to 8 bits by the range of its type, or by its own range to stretch it."""
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise BadImage(f"The array is {array.shape}: give (H, W), (H, W, 3) or (H, W, 4).")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if not stretch and array.dtype.str[1:] not in ("b1", "u2", "f2", "f4", "f8"):
        raise BadImage(f"The array is {array.dtype}: give bool, uint8, uint16 or floats in [0, 1].")
    finite = np.isfinite(array)
    if not finite.any():
        raise BadImage("The picture holds no finite number: save it again.")
    low, high = float(array[finite].min()), float(array[finite].max())
    top = 65535 if array.dtype.str.endswith("u2") else 1
    if not stretch and (low < -1e-3 or high > top + 1e-3):
        raise BadImage(f"The array's floats are in [{low:g}, {high:g}]: bring them to [0, 1].")
    if not stretch or (array.dtype.kind == "f" and low >= 0 and high <= 1):
        low, high = 0, top
    values = array.astype(np.result_type(array, np.float32))
    values[~finite] = low
    values = (values - low) / (high - low or 1) * 255
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Scale what is deeper than 8 bits, which convert() would clip at 255, and lay it on white."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode == "I":
            unsigned = image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,)) == (1,)
            values = values.view(np.uint32) if unsigned else values
        image = _from_array(values, stretch=image.mode in ("I", "F"))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas
