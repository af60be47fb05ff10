"""Which files of a folder are recordings, by their first bytes and their endings. Nothing is decoded here."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

# What recordings are called. A file that is called so and cannot be read is a failure, not another kind of file.
ENDINGS = frozenset({
    ".3g2", ".3ga", ".3gp", ".3gpp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".aptx", ".aptxhd",
    ".asf", ".au", ".avi", ".awb", ".caf", ".dff", ".divx", ".dsf", ".dts", ".dv", ".eac3", ".f4a", ".f4v", ".flac",
    ".flv", ".g722", ".gsm", ".latm", ".loas", ".m2ts", ".m4a", ".m4b", ".m4r", ".m4v", ".mka", ".mkv", ".mlp", ".mov",
    ".mp1", ".mp2", ".mp3", ".mp4", ".mpc", ".mpeg", ".mpg", ".mpga", ".msbc", ".mts", ".mxf", ".nut", ".oga", ".ogg",
    ".ogv", ".oma", ".opus", ".qcp", ".ra", ".rf64", ".rm", ".sbc", ".shn", ".snd", ".spx", ".swf", ".tak", ".thd",
    ".tta", ".vob", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wtv", ".wv",
})  # fmt: skip
# Frames without a header: only the ending tells what they are. FFmpeg knows their rate, or takes the usual one.
BARE = {
    ".g722": "g722", ".722": "g722", ".gsm": "gsm", ".sbc": "sbc", ".msbc": "sbc", ".aptx": "aptx",
    ".aptxhd": "aptx_hd", ".dfpwm": "dfpwm", ".rso": "rso", ".sln": "sln", ".g723_1": "g723_1", ".tco": "g723_1",
}  # fmt: skip
# Samples without a header: not even the ending tells their rate. FFmpeg's names of what they may be.
RAW = {".raw": "s16le", ".pcm": "s16le", ".ul": "mulaw", ".ulaw": "mulaw", ".al": "alaw", ".alaw": "alaw"}
# Where in a file which bytes stand.
_MAGIC = (
    (0, b"fLaC"), (0, b"OggS"), (0, b"ID3"), (0, b".snd"), (0, b"caff"), (0, b"#!AMR"), (0, b"\x0bw"), (0, b"FLV\x01"),
    (0, b"\x1aE\xdf\xa3"), (0, b"0&\xb2u\x8ef\xcf\x11"), (0, b"riff.\x91\xcf\x11"), (0, b"wvpk"), (0, b"MAC "),
    (0, b"TTA1"), (0, b"\x00\x00\x01\xba"), (0, b".RMF"), (0, b"Creative Voice File"), (4, b"ftyp"), (4, b"moov"),
    (4, b"mdat"), (4, b"wide"), (0, b"MP+"), (0, b"MPCK"), (0, b"tBaK"), (0, b"DSD "), (0, b"NIST_1A"),
    (0, b"\x7f\xfe\x80\x01"), (0, b"dns."), (0, b"ALawSoundFile**"), (0, b"PVF1"), (0, b" paf"), (0, b"fap "),
    (0, b"\xb7\xd8\x00 7I\xda\x11"), (0, b"\x64\xa3"),
    (0, b".SoX"), (0, b"XoS."), (0, b"nut/multimedia container"), (0, b"\x06\x0e+4\x02\x05\x01\x01"), (8, b"8SVX"),
    (0, b"STRM"), (0, b"MMMD"), (0, b"FRM8"), (0, b"ajkg"), (0, b"VAGp"), (0, b"TWIN97"), (0, b"\0\0\0\0\x01\xbc"),
    (8, b"16SV"), (8, b"WAVE"), (8, b"XWMA"), (8, b"QLCM"), (8, b"AVI "), (8, b"AIFF"), (8, b"AIFC"),
)  # fmt: skip
_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"crx ")  # in the box that MP4 begins with, too
_CERTAIN = 4  # bytes that no other file has by chance
_CERTAINLY = frozenset((place, magic[:_CERTAIN]) for place, magic in _MAGIC if len(magic) >= _CERTAIN)
_TEXTS = (b"NIST_1A", b"PVF1", b"#!AMR")  # how recordings begin whose head is a text
_LONGEST_SCHEME = 12  # letters, as of https://, rtsp:// or s3://
_HEAD = 380  # bytes
_PACKET = 188  # bytes of an MPEG transport stream, each packet beginning with "G"


def is_recording(path: str) -> bool:
    """Whether a file is a sound or a video by its ending or its first bytes; False for one that cannot be opened.

    What is no regular file is not opened: a pipe may never answer, and what was read of it is gone.
    """
    if os.path.splitext(path)[1].lower() in ENDINGS:  # noqa: PTH122 - a Path for each of thousands is slow
        return True
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            return begins_like_one(file.read(_HEAD)) or bare_kind(path, file) is not None
    except (OSError, ValueError):
        return False


def absence(name: str) -> tuple[str, str]:
    """What to say of a name that no file has, and what to do: it may be an address."""
    if name.lower().startswith("file://"):
        return "an address, not a name", "write its path, without file://"
    if name[:_LONGEST_SCHEME].partition("://")[1]:
        return "an address, not a file", "download it first: curl -LO ADDRESS"
    return "no such file", "check the path"


def begins_like_one(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a recording."""
    if head[8:12] in _PICTURES or (is_text(head) and not head.startswith(_TEXTS)):  # "The wide world", "caffeine"
        return False
    if any(_has(head, place, magic) for place, magic in _MAGIC) or _is_frame(head):
        return True
    return head[:_HEAD:_PACKET] == b"GGG" and b"\xff" in head  # text has no such byte


def begins_another(head: bytes) -> bool:
    """Whether bytes behind a recording begin another one: more than a tag, and more than chance."""
    if not any((place, head[place : place + _CERTAIN]) in _CERTAINLY for place in (0, 4, 8)):  # each part is asked
        return False
    return any(len(magic) >= _CERTAIN and _has(head, place, magic) for place, magic in _MAGIC)


def bare_kind(name: str, file: BinaryIO) -> str | None:
    """FFmpeg's name of what the ending says, for a file that is no text; None for all others."""
    kind = BARE.get(Path(name).suffix.lower())
    if kind is None:
        return None
    file.seek(0)
    head = file.read(_HEAD)
    return None if is_text(head) else kind


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are letters of a language, in UTF-8 or behind the mark of UTF-16."""
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    letters = "".join(text.split())
    return len(head) > _CERTAIN and letters != "" and not any(one < " " or "\x7f" <= one < "\xa0" for one in letters)


def _has(head: bytes, place: int, magic: bytes) -> bool:
    return head[place : place + len(magic)] == magic


def _is_frame(head: bytes) -> bool:
    """Whether a file begins with the header of an MPEG audio or an ADTS frame, all of whose fields are allowed."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    if head[1] & 0xF6 == 0xF0:  # ADTS: layer 0, a known rate
        return head[2] >> 2 & 0xF < 13
    version, layer, bits, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer in (1, 2) and bits not in (0, 15) and rate != 3  # layers III and II
