"""Every picture file that people will feed to the page is read upright, or refused in words."""

import contextlib
import io
import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.picture_files import (
    BLACK,
    BLUE,
    FORMATS,
    PHOTO,
    RAMP,
    RAMPS,
    READ,
    REFUSED,
    WHITE,
    encode,
    quarters,
    same,
    stored,
)
from PIL import Image, ImageFile

from vqa.errors import BadImage
from vqa.preprocessing import images


@pytest.mark.parametrize("row", READ)
def test_a_good_file_is_read_upright(row):
    picture = images.load(READ[row])
    assert same(picture, quarters())
    assert images.load(picture) == picture  # not turned again


@pytest.mark.parametrize("row", RAMPS)
def test_other_depths_are_scaled_and_what_is_transparent_is_white(row):
    read = np.asarray(images.load(RAMPS[row]))
    assert np.abs(read - RAMP[..., None] * 255).max() <= 2


def test_a_dim_deep_picture_stays_dim():
    for dim in ((RAMP * 6553).astype("<u2"), (RAMP * 6553).astype(">u2"), np.float32(RAMP / 10)):
        read = images.load(encode(Image.fromarray(dim), "TIFF"))
        assert 24 <= np.asarray(read).max() <= 26


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(kind):
    picture = Image.new("P", (32, 32), 1)
    picture.putpalette([*BLACK, *BLUE])
    picture.paste(0, (0, 0, 32, 16))
    read = images.load(encode(picture, kind, transparency=1))
    assert (read.getpixel((5, 5)), read.getpixel((5, 25))) == (BLACK, WHITE)


def test_one_bit_is_black_and_white():
    expected = np.where(RAMP > 0.5, 255, 0)
    for source in (RAMP > 0.5, encode(Image.fromarray(RAMP > 0.5), "PNG")):
        assert np.array_equal(np.asarray(images.load(source))[..., 0], expected)


@pytest.mark.parametrize("name", ["photo.png", "photo", "фото 写真.jpg", 'it\'s "it".jpg', ".eps"])
def test_the_name_of_a_file_does_not_matter(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(encode(quarters(), "JPEG"))
    assert same(images.load(path), quarters())
    assert images.load(str(path)) == images.load(path)


def test_bytes_files_pictures_and_arrays_are_read_alike(tmp_path):
    data = encode(quarters(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    file = io.BytesIO(data)
    file.seek(20)
    with (tmp_path / "a.png").open("rb") as opened:
        sources = [data, file, file, opened, Image.open(io.BytesIO(data)), np.asarray(quarters())]
        assert all(images.load(source) == quarters() for source in sources)


@pytest.mark.parametrize("row", REFUSED)
def test_a_bad_file_is_refused_in_words(row, tmp_path):
    data, words = REFUSED[row]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data)):
        with pytest.raises(BadImage, match=words):
            images.load(source, min_side=224)


MEASURE = """
import re, sys
from pathlib import Path
from vqa.errors import BadImage
from vqa.preprocessing import images

def peak():  # kB; not ru_maxrss, which starts at that of the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

start, refused = peak(), 0
for row in Path(sys.argv[1]).iterdir():
    try:
        images.load(row, min_side=224)
    except BadImage:
        refused += 1
print(refused, (peak() - start) // 1000, "PIL.EpsImagePlugin" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_all_refusals_together_stay_under_100_megabytes_and_away_from_ghostscript(tmp_path):
    for row, (data, _) in REFUSED.items():
        (tmp_path / row).write_bytes(data)
    command = [sys.executable, "-W", "error", "-c", MEASURE, str(tmp_path)]
    root = Path(images.__file__).parents[2]
    refused, megabytes, eps = subprocess.check_output(command, cwd=root, text=True).split()
    assert (int(refused), eps) == (len(REFUSED), "False")
    assert int(megabytes) < 100


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_with_damaged_bytes_is_read_or_refused(kind):
    dice, data = random.Random(kind), stored(quarters(), 6, kind)
    with pytest.raises(BadImage, match=r"damaged|cut short"):
        images.load(data[:-60])
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(dice.randrange(1, 12)):
            damaged[dice.randrange(len(data))] = dice.randrange(256)
        with contextlib.suppress(BadImage):
            images.load(bytes(damaged[: dice.randrange(1, 2 * len(data))]))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no/such/file.jpg", "No such file"),
        (".", "directory"),
        ("a\0b", "null"),
        ("x" * 5000, "too long"),
        (io.StringIO("text"), "binary mode"),
        (None, "NoneType"),
        (np.zeros((3, 32, 32)), r"\(3, 32, 32\)"),
        (np.zeros((32, 32, 2)), r"\(32, 32, 2\)"),
        (np.zeros((0, 32)), "32 x 0"),
        (np.zeros((32, 32), np.int64), "int64"),
        (np.full((32, 32), None), "object"),
        (np.full((32, 32), 255.0), r"\[255, 255\]"),
        (np.full((32, 32), np.nan), "no finite"),
        (np.broadcast_to(np.uint8(0), (8000, 8000)), "limit is 64 megapixels"),
        (Image.new("RGB", (4, 4)), "4 x 4"),
        (Image.open(io.BytesIO(PHOTO[:-500])), "damaged"),
    ],
)
def test_a_source_that_is_no_picture_is_named(source, words):
    with pytest.raises(BadImage, match=words):
        images.load(source)


@pytest.mark.parametrize("row", ["cut JPEG", "cut progressive JPEG", "cut PNG", "144 megapixels"])
def test_a_lenient_host_changes_nothing(row, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(BadImage, match=REFUSED[row][1]):
        images.load(REFUSED[row][0])


def test_threads_leave_the_settings_of_the_host_alone():
    def settings():
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    before, photo = settings(), stored(quarters(), 6, "TIFF")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(images.load, [photo] * 64))
    assert settings() == before


@pytest.mark.parametrize(
    ("size", "expected"),
    [((999, 700), (500, 350)), ((1000, 2000), (250, 500)), ((439, 900),) * 2, ((90, 950),) * 2],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_smaller_but_no_side_below_min_side(size, expected, orientation):
    picture = images.load(stored(quarters(*size), orientation), min_side=220)
    assert same(picture, quarters(*expected))


def test_pixels_are_the_whole_picture_squashed():
    pixels = images.to_pixels(quarters(320, 100), 64)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 64, 64), torch.float32)
    assert pixels.is_contiguous()
    corners = pixels[0][:, [0, 0, -1, -1], [0, -1, 0, -1]].T
    assert corners.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]


def test_pixels_are_antialiased():
    stripes = images.load(np.arange(700 * 700).reshape(700, 700) % 2 == 0)
    pixels = images.to_pixels(stripes, 100)
    assert pixels[..., 5:-5, 5:-5].sub(0.5).abs().max() < 0.05


def test_pixels_of_a_jpeg_decoded_smaller_are_nearly_those_of_the_whole():
    noise = np.random.default_rng(0).random((30, 40, 3)).astype(np.float32)
    picture = images.load(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encode(picture, "JPEG", quality=95)
    fast, slow = images.load(data, min_side=224), images.load(data)
    assert fast.size == (400, 300)
    assert (images.to_pixels(fast, 224) - images.to_pixels(slow, 224)).abs().mean() < 0.01


def test_a_fingerprint_is_the_content():
    picture, array, palette = quarters(), np.asarray(quarters()), quarters().convert("P")
    turned, upright = (Image.open(io.BytesIO(stored(picture, way, "PNG"))) for way in (3, 1))
    upright.paste(turned)  # the same pixels, to be shown the other way round
    repainted = palette.copy()
    repainted.putpalette([7] * 768)
    sources = [PHOTO, picture, PHOTO[:-1], picture.convert("L"), picture.resize((48, 64)), array]
    sources += [array.reshape(64, 48, 3), array.view(bool), turned, upright, palette, repainted]
    names = [images.fingerprint(images.read(source)) for source in sources]
    assert len(set(names)) == len(sources)
    assert names[:2] == [images.fingerprint(raw) for raw in (bytes(PHOTO), picture.copy())]
    with pytest.raises(BadImage, match="damaged"):
        images.fingerprint(Image.open(io.BytesIO(PHOTO[:-500])))
