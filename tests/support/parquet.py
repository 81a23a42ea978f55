"""Parquet files that are not what they say."""

import struct
from io import BytesIO

import pyarrow.parquet as pq


def saying(content: bytes, rows: int) -> bytes:
    """The same file, that says in its footer that it has so many rows."""
    truly = pq.read_metadata(BytesIO(content)).num_rows
    (size,) = struct.unpack("<I", content[-8:-4])
    footer = content[-8 - size : -8].replace(_number(truly), _number(rows), 1)  # the first one is of the whole file
    forged = content[: -8 - size] + footer + struct.pack("<I", len(footer)) + content[-4:]
    assert pq.read_metadata(BytesIO(forged)).num_rows == rows
    return forged


def _number(value: int) -> bytes:
    """As Thrift's compact protocol writes what is not negative: seven bits a byte, the lowest first."""
    left, written = value << 1, bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*written, left])
