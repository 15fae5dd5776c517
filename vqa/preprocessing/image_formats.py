"""What a file is by its first bytes, and headers cut down to what a picture needs.

Decoders trust headers: one that lies about its size costs seconds and gigabytes before a pixel is
decoded. What is checked here is checked in microseconds.
"""

from __future__ import annotations

import re
import struct

MAX_EXIF = 65_536  # bytes; what fits into a JPEG is enough for an orientation

_STARTS = {  # how a file starts, the first that fits -> a Pillow format, or what it is instead
    rb"\xff\xd8\xff": "JPEG",
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"GIF8[79]a": "GIF",
    rb"BM[^\0]{0,16}\0": "BMP",  # a text has no zeros
    rb"II\*\0|MM\0\*": "TIFF",
    rb"II\+\0|MM\0\+": "a BigTIFF, which is for pictures of gigabytes",
    rb"RIFF....WEBP": "WEBP",
    rb"....ftyp.{0,48}?avi[fs]": "AVIF",
    rb"....ftyp.{0,48}?(hei[cmsx]|hev[cx]|mif1|msf1)": "HEIF",
    rb"\s*%PDF": "a PDF document",
    rb"\s*%!PS|\xc5\xd0\xd3\xc6": "an EPS (PostScript) drawing",
    rb"\x80[\x02-\x05]": "a Python pickle, which is never opened here",
    rb"(?i)[^\0]*<(!doctype )?html": "a web page (HTML)",
    rb"(?i)[^\0]*<svg": "an SVG drawing",
    rb"[^\x00-\x08\x0e-\x1a]+\Z": "a text file",
}
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TIFF_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)  # bytes a value, by the tag's type


def detect_format(data: bytes) -> str:
    """A file's Pillow format in capitals, or what it is instead, in words."""
    fits = (name for start, name in _STARTS.items() if re.match(start, data[:1024], re.DOTALL))
    return next(fits, "of no known kind")


def strip_png_chunks(data: bytes) -> bytes:
    """Keep the chunks that make the (first) picture; Pillow refuses files over their texts.

    Raises:
        EOFError: if the file is cut short.
    """
    kept, exif, at, name = [data[:8]], b"", 8, b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise EOFError("it is cut short")
        length, name = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        if name in _PNG_CHUNKS:
            kept.append(chunk)
        exif = chunk if name == b"eXIf" and length <= MAX_EXIF else exif
        at += 12 + length
    return b"".join([*kept[:2], exif, *kept[2:]])  # orientation is to be known before decoding


def check_tiff(data: bytes) -> None:
    """Refuse a TIFF whose first directory claims more than the file holds.

    Pillow copies the values of every tag; many tags may share one large block.

    Raises:
        ValueError: if the tags' values together are larger than the file.
    """
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    claimed = 0
    for place in range(at + 2, min(at + 2 + 12 * count, len(data) - 8), 12):
        _, value_type, values = struct.unpack_from(order + "HHI", data, place)
        claimed += values * (_TIFF_SIZES[value_type] if value_type < len(_TIFF_SIZES) else 0)
    if claimed > len(data):
        raise ValueError("its tags claim more than it holds")
