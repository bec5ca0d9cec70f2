"""One file of many members that is whole or refused: an uncompressed zip with digests inside and a seal at its end.

The same members give the same bytes. `SHA256SUMS` holds the digest of every member; the last 64 bytes of the file,
which a zip counts as its comment, are the digest of all bytes before them, so no bit of the frame can change either.
Members are stored as they are: reading one never makes more of it than the file holds.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lenet_lab.records import LabError

SUMS = "SHA256SUMS"
MAX_MEMBERS = 200_000
MAX_MEMBER = 512 << 20
MAX_TOTAL = 16 << 30
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = (stat.S_IFREG | 0o644) << 16
_SEAL = b"sha256:"
_CHUNK = 1 << 20


def safe(name: str) -> bool:
    """Whether a member's name is a relative path of plain parts, on any system."""
    parts = name.split("/")
    plain = all(
        re.fullmatch(r"[\w@+=,][\w.@+=, -]*", part, re.ASCII) and not part.endswith((".", " ")) for part in parts
    )
    return plain and len(name) <= 500


def write(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a file of these members, in this order, all of it or nothing.

    Raises:
        LabError: it cannot be written, or something else is there already.
    """
    if path.exists() and not is_sealed(path):
        raise LabError(f"{path}: is there already and is no export; name another file")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    sums = []
    try:
        with part.open("x+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, content in members:
                    sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
                    archive.writestr(_info(name), content)
                archive.writestr(_info(SUMS), "".join(sums))
                archive.comment = _SEAL + b"0" * 64
            file.seek(0)
            digest = _digest(file, file.seek(0, os.SEEK_END) - 64)
            file.seek(-64, os.SEEK_END)
            file.write(digest.encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise LabError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def is_sealed(path: Path) -> bool:
    """Whether a file ends as `write` ends one; it may be damaged all the same."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 64 - len(_SEAL)))
        return file.read(len(_SEAL)) == _SEAL


class Sealed:
    """A checked file, open for reading."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, sums: dict[str, str]) -> None:
        self.path, self.sums, self._archive = path, sums, archive

    def read(self, name: str) -> bytes:
        """A member, checked once more.

        Raises:
            LabError: it is not there, or has changed since.
        """
        if name not in self.sums:
            raise LabError(f"{self.path}: {name}: is missing from the file")
        content = self._archive.read(name)
        if hashlib.sha256(content).hexdigest() != self.sums[name]:
            raise LabError(f"{self.path}: {name}: is damaged: its digest does not hold")
        return content


@contextmanager
def opened(path: Path) -> Iterator[Sealed]:
    """Open a file after checking every bit of it.

    Raises:
        LabError: it is missing, damaged, cut, too large, or made by somebody else's hand; the line names the member.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from None
    with file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception:  # whatever damage makes of the frame
            raise LabError(f"{path}: is cut short, damaged, or no export of lenet_lab") from None
        with archive:
            yield Sealed(path, archive, _checked(path, file, archive))


def _checked(path: Path, file: IO[bytes], archive: zipfile.ZipFile) -> dict[str, str]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise LabError(f"{path}: {len(infos)} members; at most {MAX_MEMBERS} are read")
    seen: set[str] = set()
    for info in infos:
        if why := _wrong(info, seen):
            raise LabError(f"{path}: {info.orig_filename[:200]!r}: {why}")
        seen.add(info.filename.casefold())
    size, total = file.seek(0, os.SEEK_END), sum(info.file_size for info in infos)
    if total > MAX_TOTAL:
        raise LabError(f"{path}: holds more than {MAX_TOTAL >> 30} GiB, the most that is read")
    if total > size:
        raise LabError(f"{path}: is cut short or damaged: its members are larger than itself")
    if not infos or infos[-1].filename != SUMS:
        raise LabError(f"{path}: {SUMS}: is missing at the end of the file")
    sums = _sums(path, _content(path, archive, infos[-1]))
    names = [info.filename for info in infos[:-1]]
    for name in sorted(set(names) ^ set(sums)):
        raise LabError(f"{path}: {name!r}: {'is not listed in' if name in names else 'is missing, listed in'} {SUMS}")
    for info in infos[:-1]:
        if hashlib.sha256(_content(path, archive, info)).hexdigest() != sums[info.filename]:
            raise LabError(f"{path}: {info.filename}: is damaged: its digest does not hold")
    file.seek(-64, os.SEEK_END)
    if archive.comment != _SEAL + file.read(64) or _digest(file, size - 64).encode() != archive.comment[len(_SEAL) :]:
        raise LabError(f"{path}: the frame round its members: is damaged: its seal does not hold")
    return sums


def _wrong(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    if info.filename != info.orig_filename or not safe(info.filename):
        return "is no name for a member: a relative path of plain parts is"
    if info.filename.casefold() in seen:
        return "is there twice"
    if info.external_attr != _MODE:
        return "is no plain file (a link or a folder)"
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits or info.file_size != info.compress_size:
        return "is compressed or encrypted; members are stored as they are"
    if info.file_size > MAX_MEMBER:
        return f"is larger than {MAX_MEMBER >> 20} MiB, the most that is read"
    return None


def _content(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        content = archive.read(info)
    except Exception:  # whatever damage makes of a header
        raise LabError(f"{path}: {info.filename}: is cut short or damaged") from None
    if len(content) != info.file_size:
        raise LabError(f"{path}: {info.filename}: is cut short")
    return content


def _sums(path: Path, content: bytes) -> dict[str, str]:
    lines = content.decode("ascii", errors="replace").splitlines()
    pairs = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
    if not all(pairs) or len({pair[2] for pair in pairs if pair}) != len(pairs):
        raise LabError(f"{path}: {SUMS}: is damaged: not one digest and name a line")
    return {pair[2]: pair[1] for pair in pairs if pair}


def _digest(file: IO[bytes], size: int) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0:
        chunk = file.read(min(_CHUNK, size))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _info(name: str) -> zipfile.ZipInfo:
    if not safe(name):
        raise LabError(f"{name!r}: is no name for a member of an export")
    info = zipfile.ZipInfo(name, _TIME)
    info.external_attr, info.create_system = _MODE, 3
    return info
