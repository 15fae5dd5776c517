"""Headers that lie: what they claim is checked before a decoder believes it."""

import io
import struct

import pytest
from PIL import Image

from vqa.errors import BadImage
from vqa.preprocessing import image_formats, images


def tiff(order, entries, payload=b""):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(entries)) + b"".join(
        struct.pack(order + "HHII", *entry) for entry in entries
    )
    return mark + struct.pack(order + "I", 8) + directory + bytes(4) + payload


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_whose_tags_share_one_large_block_is_refused(order):
    bomb = tiff(order, [(tag, 1, 500_000, 200) for tag in range(1000, 9000)], bytes(500_000))
    with pytest.raises(BadImage, match="its tags claim more than it holds"):
        images.load(bomb)


@pytest.mark.parametrize("cut", [5, 9, 11])
def test_a_tiff_cut_within_its_directory_is_refused(cut):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "TIFF")
    with pytest.raises(BadImage, match="damaged"):
        images.load(buffer.getvalue()[:cut])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg", "tiff_deflate"])
def test_honest_tiffs_pass(compression):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32), "red").save(buffer, "TIFF", compression=compression)
    assert images.load(buffer.getvalue()).size == (64, 32)


def test_a_bigtiff_is_named():
    with pytest.raises(BadImage, match="BigTIFF"):
        images.load(b"II+\0\x08\0\0\0" + bytes(100))


def test_huge_notes_of_a_camera_are_not_parsed_but_the_picture_is_read():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * (2 * image_formats.MAX_EXIF)
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 32)).save(buffer, kind, exif=exif)
        assert images.load(buffer.getvalue()).size == (64, 32)  # not turned: not looked at
