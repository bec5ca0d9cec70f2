"""Downloads through torchvision: locked, capped, verified in a temporary folder, then moved into place."""

from __future__ import annotations

import fcntl
import http.client
import logging
import queue
import shutil
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_lab.data.idx import file_size
from lenet_lab.records import LabError

if TYPE_CHECKING:
    from lenet_lab.data.files import IdxSource

TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


def fetch(source: IdxSource, root: Path) -> Path:
    """Download the four .gz files of `source` and return their folder `<root>/<folder>/raw`.

    Processes that want the same set at the same time wait for the first; one that dies leaves nothing.

    Raises:
        LabError: no mirror gave a file that is what it must be, or the folder cannot be written.
    """
    raw, part = root / source.folder / "raw", root / f".{source.folder}.part"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{source.folder}.lock"):
            if raw.is_dir() and any(raw.iterdir()):  # another process had it downloaded meanwhile
                return raw
            shutil.rmtree(part, ignore_errors=True)
            try:
                _fetch_all(source, part)
                raw.parent.mkdir(exist_ok=True)
                part.replace(raw)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise LabError(f"cannot download into {root} ({_line(error)})") from None
    return raw


def _fetch_all(source: IdxSource, part: Path) -> None:
    from torchvision import datasets

    published = getattr(datasets, source.folder)
    md5 = dict(published.resources)
    mirrors, failures = answering([*published.mirrors, *source.more_mirrors], next(iter(md5)))
    if not mirrors:
        raise LabError(f"no mirror can be reached: {'; '.join(failures)}")
    part.mkdir()
    _log.info("downloading %s from %s", source.folder, mirrors[0])
    for name in source.shapes:
        _fetch_one(source, name, part, mirrors, md5[f"{name}.gz"])


def _fetch_one(source: IdxSource, name: str, part: Path, mirrors: list[str], md5: str) -> None:
    """One file from the first mirror that gives it whole; that mirror is asked first for the next file."""
    from torchvision.datasets.utils import download_url

    from lenet_lab.data.files import packed_limit

    packed = part / f"{name}.gz"
    failures = []
    for mirror in list(mirrors):
        try:
            with _limited(packed_limit(file_size(source.shapes[name])), packed.name):
                download_url(f"{mirror}{packed.name}", part, packed.name, md5)
            source.content(part, name)
        except (OSError, RuntimeError, http.client.HTTPException, LabError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            packed.unlink(missing_ok=True)
            failures.append(f"{mirror}: {_line(error)}")
        else:
            mirrors.remove(mirror)
            mirrors.insert(0, mirror)
            return
    raise LabError(f"{packed.name} could not be downloaded: {'; '.join(failures)}")


def answering(mirrors: list[str], name: str) -> tuple[list[str], list[str]]:
    """The mirrors to try, the one that answered first; or none, and why not, if none answers in time.

    All are asked at once, each in a thread that nobody waits for: a name look-up, or a host with many
    addresses, can take minutes to fail and knows no timeout.
    """
    answers: queue.Queue[tuple[str, str | None]] = queue.Queue()
    for mirror in mirrors:
        threading.Thread(target=lambda m=mirror: answers.put((m, _probe(m + name))), daemon=True).start()
    failures: dict[str, str] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while len(failures) < len(mirrors):
        try:
            mirror, failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            failures = {m: failures.get(m, f"no answer within {TIMEOUT_S:g} s") for m in mirrors}
            break
        if failure is None:
            rest = [m for m in mirrors if m != mirror and m not in failures]
            return [mirror, *rest], []
        failures[mirror] = failure
    return [], [f"{mirror}: {failures[mirror]}" for mirror in mirrors]


def _probe(url: str) -> str | None:
    """None if a server answers at all, else why not."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, http.client.HTTPException) as error:
        return _line(error)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _limited(limit: int, name: str) -> Iterator[None]:
    """Within, torchvision's download stops past `limit` bytes and a silence of TIMEOUT_S.

    Its bar shows on terminals alone. torchvision offers none of these; its bar sees every block of a download
    and can stop it.
    """
    from torchvision.datasets import utils

    bar: Any = utils.tqdm

    class Meter(bar):
        def __init__(self, *, total: int | None = None, **keywords: Any) -> None:
            self.seen = 0
            self._cap(total or 0)
            super().__init__(total=total, desc=name, disable=not sys.stderr.isatty(), **keywords)

        def _cap(self, size: int) -> None:
            if size > limit:
                raise LabError(f"longer than {limit} bytes")

        def update(self, n: int = 1) -> Any:
            self.seen += n
            self._cap(self.seen)
            return super().update(n)

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    utils.tqdm = Meter
    try:
        yield
    finally:
        utils.tqdm = bar
        socket.setdefaulttimeout(timeout)


def _line(error: BaseException) -> str:
    """An error's message on one line."""
    http_error = isinstance(error, urllib.error.HTTPError)
    cause = error if http_error else getattr(error, "reason", error)
    return " ".join(str(cause).split()) or type(error).__name__
