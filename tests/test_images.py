"""vqa.images: every picture file people will feed it is read upright, or refused in words."""

import contextlib
import io
import pickle
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

from vqa import images
from vqa.images import BadImage

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"]
RAMP = np.tile(np.linspace(0, 1, 256), (16, 1))  # black to white, left to right


def quarters(width=64, height=48):
    """Red, green / blue, white: every turn and flip of it looks different."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste((0, 255, 0), (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(WHITE, (width // 2, height // 2, width, height))
    return picture


def encode(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def stored(picture, orientation, kind="JPEG"):
    """A file of an upright picture as a camera held that way stores it."""
    carrier, exif = picture.copy(), Image.Exif()
    carrier.getexif()[0x0112] = {6: 8, 8: 6}.get(orientation, orientation)  # the way back
    exif[0x0112] = orientation
    return encode(ImageOps.exif_transpose(carrier), kind, exif=exif)


def chunk(name, content):
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def png_with(name, content):
    data = encode(quarters(), "PNG")
    return data[:33] + chunk(name, content) + data[33:]  # right after the header


def animated(kind):
    others = [Image.new("RGB", (64, 48), colour) for colour in (RED, BLUE)]
    return encode(quarters(), kind, save_all=True, append_images=others, duration=100)


def bomb_png(side):
    """A small file that decodes to side x side black pixels."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + (side + 7) // 8)) for _ in range(side))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")


def promising(kind, layout, *size):
    """A small file whose header says that it is far larger."""
    data = encode(quarters(64, 64), kind, lossless=True)
    small = (63 << 14 | 63,) if kind == "WEBP" else (64, 64)
    return data.replace(struct.pack(layout, *small), struct.pack(layout, *size), 1)


def unsigned_tiff(values):
    """A 32-bit TIFF of unsigned numbers, which Pillow itself cannot write."""
    height, width = values.shape
    tags = {256: width, 257: height, 258: 32, 259: 1, 262: 1, 273: 122, 277: 1, 278: height}
    tags |= {279: 4 * values.size}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values.tobytes()


def same(picture, expected):
    """Tell whether most pixels agree: lossy formats smear the edges of the quarters."""
    assert (picture.mode, picture.size) == ("RGB", expected.size)
    difference = np.abs(np.asarray(picture, int) - np.asarray(expected, int))
    return np.percentile(difference, 80) <= 12


NO_PROFILE = b"no profile at all" * 9
READ = {  # name of the row -> a file that shows the quarters
    **{kind: encode(quarters(), kind) for kind in FORMATS},
    **{f"orientation {way}": stored(quarters(), way) for way in range(1, 9)},
    **{f"turned {kind}": stored(quarters(), 6, kind) for kind in ("PNG", "WEBP", "AVIF", "TIFF")},
    **{f"bad profile {k}": encode(quarters(), k, icc_profile=NO_PROFILE) for k in FORMATS},
    **{f"animated {kind}": animated(kind) for kind in ("GIF", "PNG", "WEBP", "AVIF", "TIFF")},
    "bad orientation": encode(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "bad EXIF TIFF": encode(quarters(), "TIFF", tiffinfo={34665: 10**6}),
    "CMYK JPEG": encode(quarters().convert("CMYK"), "JPEG"),
    "CMYK TIFF": encode(quarters().convert("CMYK"), "TIFF"),
    "palette PNG": encode(quarters().convert("P"), "PNG"),
    "1 MB tEXt": png_with(b"tEXt", b"note\0" + b"a" * 2**20),
    "4 MB zTXt": png_with(b"zTXt", b"note\0\0" + zlib.compress(bytes(2**22))),
    "4 MB iTXt": png_with(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(b"a" * 2**22)),
    "bad iCCP": png_with(b"iCCP", b"name\0\7 no such compression"),
    "bad acTL": png_with(b"acTL", bytes(8)),
    "bad eXIf": png_with(b"eXIf", b"no such thing"),
}


@pytest.mark.parametrize("row", READ)
def test_a_good_file_is_read_upright(row):
    picture = images.load(READ[row])
    assert same(picture, quarters())
    assert images.load(picture) == picture  # not turned again


WITH_NAN = np.where(RAMP == 0, np.nan, RAMP)
OPACITY = np.stack([RAMP * 0, RAMP * 0, RAMP * 0, 1 - RAMP], axis=2)  # of black
RAMPS = {  # name of the row -> a file or an array that shows black to white
    "grey JPEG": encode(Image.fromarray(np.uint8(RAMP * 255)), "JPEG", quality=100),
    "grey PNG": encode(Image.fromarray(np.uint8(RAMP * 255)), "PNG"),
    "RGBA PNG": encode(Image.fromarray(np.uint8(OPACITY * 255)), "PNG"),
    "LA PNG": encode(Image.fromarray(np.uint8(OPACITY * 255)).convert("LA"), "PNG"),
    "RGBA WebP": encode(Image.fromarray(np.uint8(OPACITY * 255)), "WEBP", lossless=True),
    "16-bit PNG": encode(Image.fromarray(np.uint16(RAMP * 65535)), "PNG"),
    "16-bit TIFF": encode(Image.fromarray(np.uint16(RAMP * 65535)), "TIFF"),
    "32-bit TIFF": encode(Image.fromarray(np.int32(RAMP * 2e9)), "TIFF"),
    "signed TIFF": encode(Image.fromarray(np.int32(RAMP * 2000 - 1000)), "TIFF"),
    "unsigned TIFF": unsigned_tiff((RAMP * 4e9).astype("<u4")),
    "float TIFF": encode(Image.fromarray(np.float32(RAMP)), "TIFF"),
    "wide float TIFF": encode(Image.fromarray(np.float32(RAMP * 80 - 20)), "TIFF"),
    "NaN TIFF": encode(Image.fromarray(np.float32(WITH_NAN)), "TIFF"),
    "array float64": RAMP,
    "array float16": np.float16(RAMP),
    "array NaN": WITH_NAN,
    "array RGB": np.stack([RAMP] * 3, axis=2),
    "array RGBA": OPACITY,
    "array uint8": np.uint8(RAMP * 255),
    "array uint16": np.uint16(RAMP * 65535),
    "array >u2": (RAMP * 65535).astype(">u2"),
}


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


PHOTO = encode(quarters(256, 192), "JPEG")
HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(x) run showpage\n"
HTML = b"\n<!DOCTYPE html><html><body><svg></svg>404</body></html>"
REFUSED = {  # name of the row -> a file, and words of the message
    "1x1": (encode(Image.new("RGB", (1, 1)), "PNG"), "1 x 1 .* at least 8"),
    "5000x1": (encode(Image.new("RGB", (5000, 1)), "PNG"), "5000 x 1 .* at least 8"),
    "1x5000": (encode(Image.new("RGB", (1, 5000)), "PNG"), "1 x 5000 .* at least 8"),
    "thin": (encode(Image.new("RGB", (5000, 20)), "JPEG"), "5000 x 20 .* 50 times"),
    "64 megapixels": (bomb_png(8000), "8000 x 8000 .* limit is 64 megapixels"),
    "144 megapixels": (bomb_png(12000), "12000 x 12000 .* limit is 64 megapixels"),
    "400 megapixels": (bomb_png(20000), "limit is 64 megapixels"),
    "huge JPEG": (promising("JPEG", ">HH", 65000, 65000), "limit is 64 megapixels"),
    "huge GIF": (promising("GIF", "<HH", 65000, 65000), "limit is 64 megapixels"),
    "huge BMP": (promising("BMP", "<II", 65000, 65000), "limit is 64 megapixels"),
    "huge AVIF": (promising("AVIF", ">II", 16000, 16000), "limit is 64 megapixels"),
    "huge WebP": (promising("WEBP", "<I", 2**28 - 1), "limit is 64 megapixels"),
    "empty": (b"", "empty"),
    "cut JPEG": (PHOTO[:-500], "cut short"),
    "cut JPEG header": (PHOTO[:100], "damaged"),
    "cut GIF header": (b"GIF89a\0", r"damaged \(cannot identify image file\): "),
    "cut large JPEG": (encode(quarters(4000, 3000), "JPEG")[:-2000], "cut short"),
    "cut progressive JPEG": (encode(quarters(), "JPEG", progressive=True)[:-9], "cut short"),
    "cut PNG": (encode(quarters(), "PNG")[:-30], "cut short"),
    "cut large PNG": (bomb_png(7900)[:-20], "cut short"),
    "text": (b"BMW makes cars; this is no picture.\n" * 9, "a text file"),
    "HTML": (HTML, "web page"),
    "SVG": (SVG, "SVG"),
    "EPS": (EPS, "EPS"),
    "binary EPS": (b"\xc5\xd0\xd3\xc6" + bytes(30) + EPS, "EPS"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "PDF"),
    "pickle": (pickle.dumps({"a": 1}), "pickle"),
    "HEIC": (HEIC, "HEIC .* JPEG.* pillow-heif"),
    "noise": (random.Random(0).randbytes(999), "no known kind"),
    "over 10 MB": (PHOTO + bytes(images.MAX_BYTES), "too large.* 10 MB"),
}


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
from vqa import images

def peak():  # kB; not ru_maxrss, which starts at that of the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

start, refused = peak(), 0
for row in Path(sys.argv[1]).iterdir():
    try:
        images.load(row, min_side=224)
    except images.BadImage:
        refused += 1
print(refused, (peak() - start) // 1000, "PIL.EpsImagePlugin" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_all_refusals_together_stay_under_100_megabytes_and_away_from_ghostscript(tmp_path):
    for row, (data, _) in REFUSED.items():
        (tmp_path / row).write_bytes(data)
    command = [sys.executable, "-W", "error", "-c", MEASURE, str(tmp_path)]
    root = Path(images.__file__).parents[1]
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
