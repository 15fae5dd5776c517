"""Picture files of every kind, good and bad, made here."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from vqa.preprocessing import images

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
NO_PROFILE = b"no profile at all" * 9
FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"]


RAMP = np.tile(np.linspace(0, 1, 256), (16, 1))  # black to white, left to right
WITH_NAN = np.where(RAMP == 0, np.nan, RAMP)


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


def gradient(mode, file_format):
    """A file of a grey radial gradient in a mode."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert(mode).save(buffer, file_format)
    return buffer.getvalue()
