"""The IDX format of the MNIST files, read strictly.

Format: two zero bytes, a type code (8 = unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values in row-major order (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from lenet_lab.records import LabError

_UNSIGNED_BYTE = 8


def header_size(shape: tuple[int, ...]) -> int:
    """Bytes before the values."""
    return 4 + 4 * len(shape)


def file_size(shape: tuple[int, ...]) -> int:
    """Bytes of a whole file of unsigned bytes."""
    return header_size(shape) + int(np.prod(shape))


def parse(content: bytes, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """The values of an IDX file of unsigned bytes as a read-only view of `content`.

    Args:
        content: the whole file.
        shape: what the file must hold.
        where: the file's name, for the error.

    Raises:
        LabError: another type or shape, or a length that does not fit the header.
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise LabError(f"{where}: not an IDX file of unsigned bytes")
    dimensions = content[3]
    if len(content) < 4 + 4 * dimensions:
        raise LabError(f"{where}: the header is cut short")
    found = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    if found != shape:
        raise LabError(f"{where}: holds {_times(found)} values, not {_times(shape)}")
    if len(content) != file_size(shape):
        raise LabError(f"{where}: {len(content)} bytes long, not {file_size(shape)}")
    return np.frombuffer(content, np.uint8, offset=header_size(shape)).reshape(shape)


def gunzip(packed: bytes, size: int, where: str) -> bytes:
    """The content of a .gz file of one member that must unpack to `size` bytes, and is not unpacked further.

    Raises:
        LabError: damaged, cut short, longer or shorter than `size`, or followed by something else.
    """
    unpacker = zlib.decompressobj(wbits=31)  # 31: a gzip header and its checksum are required
    try:
        content = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise LabError(f"{where}: damaged gzip file ({error})") from None
    if len(content) > size:
        raise LabError(f"{where}: unpacks to more than {size} bytes")
    if not unpacker.eof:
        raise LabError(f"{where}: the gzip file is cut short")
    if len(content) < size or unpacker.unused_data:
        raise LabError(f"{where}: unpacks to {len(content)} bytes and a rest, not {size} bytes")
    return content


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
