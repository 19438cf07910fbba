"""Java's keystore of certificates -> the same one without the time of its making.

Run as a program (`python java_keystore.py FILE SECONDS`) it changes a file in place; any Python 3 will do.
"""

import hashlib
import struct
import sys
from pathlib import Path

PATH = Path(__file__)


def timeless(data: bytes, epoch: int) -> bytes:
    """A keystore (JKS, version 2) with every entry's date set to ``epoch`` (seconds). Pure.

    Its seal is a SHA-1 over the store's public password and the entries. ValueError for another format.
    """
    entries, place = bytearray(data[:-20]), 12
    try:
        magic, version, count = struct.unpack_from(">III", entries)
        if (magic, version) != (0xFEEDFEED, 2) or _seal(data[:-20]) != data[-20:]:
            raise ValueError("it is no JKS keystore of version 2")
        for _ in range(count):
            tag, alias = struct.unpack_from(">IH", entries, place)
            if tag != 2:
                raise ValueError("it holds more than certificates")
            struct.pack_into(">q", entries, place + 6 + alias, epoch * 1000)
            place += 14 + alias
            place += 2 + struct.unpack_from(">H", entries, place)[0]
            place += 4 + struct.unpack_from(">I", entries, place)[0]
    except struct.error as error:
        raise ValueError("it is cut short") from error
    if place != len(entries):
        raise ValueError("it is longer than it says")
    return bytes(entries) + _seal(bytes(entries))


def _seal(entries: bytes) -> bytes:
    return hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + entries).digest()  # noqa: S324 (JKS's)


if __name__ == "__main__":
    keystore = Path(sys.argv[1])
    keystore.write_bytes(timeless(keystore.read_bytes(), int(sys.argv[2])))
