"""Finding, checking and downloading files: a small set on a server of our own stands for the real ones."""

import gzip
import hashlib
import http.server
import multiprocessing
import socket
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lenet_lab.data import Data, download, idx
from lenet_lab.data.files import IdxSource
from lenet_lab.data.sources import SOURCES
from lenet_lab.records import LabError


def idx_bytes(values):
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def make_files():
    """Twelve training and six test images of three classes, as the bytes of the four files."""
    rng = np.random.RandomState(0)
    files = {}
    for part, n in (("train", 12), ("t10k", 6)):
        files[f"{part}-images-idx3-ubyte"] = idx_bytes(rng.randint(0, 256, (n, 28, 28)).astype(np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx_bytes(np.arange(n, dtype=np.uint8) % 3)
    return files


FILES = make_files()
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}
LARGEST = "train-images-idx3-ubyte"
PER_FILE = 2  # torchvision asks once to follow redirects and once to download


def sums(files):
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


TINY = IdxSource(
    folder="Tiny",
    classes=("a", "b", "c"),
    train_counts=(4, 4, 4),
    test_counts=(2, 2, 2),
    moments=(0.5, 0.29),
    sha256=sums(FILES),
)
GZ_ONLY = replace(TINY, sha256={}, gz_sha256={name: sums(PACKED)[f"{name}.gz"] for name in FILES})


class Mirror:
    """An HTTP server on this machine that hands out `files` and keeps what it was asked for."""

    def __init__(self):
        self.files, self.asked, mirror = dict(PACKED), [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                content = mirror.files.get(name)
                if self.command == "GET":
                    mirror.asked.append(name)
                if content is None:
                    self.send_error(404)
                    return
                body, length = content if isinstance(content, tuple) else (content, len(content))
                self.send_response(200)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                """A client that hangs up is part of the tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirrors():
    pair = Mirror(), Mirror()
    yield pair
    for mirror in pair:
        mirror.close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of its own, no LENET_LAB_DATA, no proxy, and the small set as a row of the table."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.delenv("LENET_LAB_DATA", raising=False)
    monkeypatch.setitem(SOURCES, "tiny", TINY)
    return tmp_path


@pytest.fixture
def cache(home):
    return home / "cache" / "lenet_lab" / "data"


def publish(monkeypatch, *urls):
    """Make torchvision know the small set and where it is published."""
    import torchvision.datasets

    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in PACKED.items()]
    known = SimpleNamespace(mirrors=list(urls), resources=resources)
    monkeypatch.setattr(torchvision.datasets, "Tiny", known, raising=False)


def place(root, files, folder="Tiny"):
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def tiny(**keys):
    return Data(name="tiny", val_size=3, normalize="unit", **keys)


def refusal(data):
    with pytest.raises(LabError) as refused:
        data.load()
    message = str(refused.value)
    assert "\n" not in message
    return message


# Reading


def test_plain_and_packed_files_give_the_same(home):
    place(home / "plain", FILES)
    place(home / "packed", PACKED)
    plain, packed = (tiny(root=str(home / kind)).load() for kind in ("plain", "packed"))
    assert plain.digest == packed.digest == tiny().digest()
    assert plain.train.images.equal(packed.train.images)
    whole = np.frombuffer(FILES[LARGEST], np.uint8, offset=16).reshape(12, 28, 28)
    assert np.array_equal((plain.train.images[:, 0] * 255).round().numpy(), whole[plain.train.index])


@pytest.mark.parametrize("name", list(FILES))
def test_one_flipped_bit_is_refused_by_name(home, name):
    raw = place(home / "root", FILES)
    content = bytearray(FILES[name])
    content[-5] ^= 1
    (raw / name).write_bytes(content)
    message = refusal(tiny(root=str(home / "root")))
    assert message.startswith(f"data.root: {raw / name} is damaged or not Tiny's: its SHA-256 is ")
    assert sums(FILES)[name] in message


def test_flipped_bits_in_packed_files_are_refused(home, monkeypatch):
    monkeypatch.setitem(SOURCES, "tiny", GZ_ONLY)
    content = bytearray(PACKED[f"{LARGEST}.gz"])
    content[4] ^= 1  # the time stamp: what it unpacks to is the same
    raw = place(home / "root", PACKED | {f"{LARGEST}.gz": bytes(content)})
    assert f"{raw / LARGEST}.gz is damaged" in refusal(tiny(root=str(home / "root")))


def test_packed_files_come_before_plain_ones_where_only_they_are_pinned(home, monkeypatch):
    monkeypatch.setitem(SOURCES, "tiny", GZ_ONLY)
    changed = bytearray(FILES[LARGEST])
    changed[20] ^= 1
    place(home / "root", PACKED | FILES | {LARGEST: bytes(changed)})
    assert tiny(root=str(home / "root")).load().digest == TINY.digest(None)


def test_plain_files_without_a_pin(home, monkeypatch):
    """Shape, class counts and grey value are checked, and SHA256SUMS if there; the digest tells the rest."""
    monkeypatch.setitem(SOURCES, "tiny", GZ_ONLY)
    raw, data = place(home / "root", FILES), tiny(root=str(home / "root"))
    assert data.load().digest == data.digest() == TINY.digest(None)
    changed = bytearray(FILES[LARGEST])
    changed[20] ^= 1
    (raw / LARGEST).write_bytes(changed)
    assert data.load().digest == data.digest() != TINY.digest(None)
    (raw.parent / "SHA256SUMS").write_text("".join(f"{value}  {name}\n" for name, value in sums(FILES).items()))
    assert f"{raw / LARGEST} is damaged" in refusal(data)


@pytest.mark.parametrize("option", ["fashion_mnist", "kmnist"])
@pytest.mark.mnist
def test_mnist_never_passes_for_another_set(mnist_root, home, option):
    """Same names, same shapes, another set's folder."""
    raw = home / "root" / SOURCES[option].folder / "raw"
    raw.parent.mkdir(parents=True)
    raw.symlink_to(mnist_root / "MNIST" / "raw")
    data = Data(name=option, root=str(home / "root"), val_size=0)
    assert "holds other numbers of each class" in refusal(data)


def test_another_sets_images_are_refused_by_their_mean(home, monkeypatch):
    monkeypatch.setitem(SOURCES, "tiny", GZ_ONLY)
    dark = idx_bytes(np.zeros((12, 28, 28), np.uint8))
    place(home / "root", FILES | {LARGEST: dark})
    assert "the mean grey value is another set's" in refusal(tiny(root=str(home / "root")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"\0\0\x0d" + b[3:], "not an IDX file of unsigned bytes"),
        (lambda b: b[:2], "not an IDX file of unsigned bytes"),
        (lambda b: b[:9], "the header is cut short"),
        (lambda b: b[:4] + struct.pack(">I", 13) + b[8:], "holds 13x28x28 values, not 12x28x28"),
        (lambda b: b[:-1], "9423 bytes long, not 9424"),
        (lambda b: b + b"\0", "9425 bytes long, not 9424"),
    ],
)
def test_idx_is_read_strictly(change, message):
    with pytest.raises(LabError, match=f"^some file: {message}$"):
        idx.parse(change(FILES[LARGEST]), (12, 28, 28), "some file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-9], "cut short"),
        (lambda b: b[:100] + bytes([b[100] ^ 255]) + b[101:], "damaged gzip file"),
        (lambda b: b + b, "and a rest"),
        (lambda b: gzip.compress(bytes(20_000_000)), "unpacks to more than 9424 bytes"),
        (lambda b: gzip.compress(b"short"), "unpacks to 5 bytes"),
        (lambda b: b"not gzip", "damaged gzip file"),
    ],
)
def test_unpacking_is_capped_and_strict(change, message):
    with pytest.raises(LabError, match=message):
        idx.gunzip(change(PACKED[f"{LARGEST}.gz"]), len(FILES[LARGEST]), "some file")


# Searching


def test_search_order(home, cache, monkeypatch):
    monkeypatch.setitem(SOURCES, "tiny", replace(TINY, sha256={}))
    changed = {}
    for byte, root in enumerate((cache, home / "environment", home / "root")):
        content = bytearray(FILES[LARGEST])
        content[20] = byte
        place(root, FILES | {LARGEST: bytes(content)})
        changed[root] = hashlib.sha256(content).hexdigest()
    (home / "empty").mkdir()
    digests = [tiny(root=str(home / "empty")).digest()]
    monkeypatch.setenv("LENET_LAB_DATA", str(home / "environment"))
    digests += [tiny(root=str(home / "empty")).digest(), tiny(root=str(home / "root")).digest()]
    expected = []
    for root in (cache, home / "environment", home / "root"):
        text = "".join(f"{value}  {n}\n" for n, value in sorted((sums(FILES) | {LARGEST: changed[root]}).items()))
        expected.append(hashlib.sha256(text.encode()).hexdigest())
    assert digests == expected


def test_nowhere_and_no_download_says_where_it_looked(home, cache, monkeypatch):
    for name in ("a", "b"):
        (home / name).mkdir()
    monkeypatch.setenv("LENET_LAB_DATA", str(home / "b"))
    assert refusal(tiny(root=str(home / "a"), download=False)) == (
        f"data=tiny: no Tiny files in data.root {home}/a/Tiny/raw, LENET_LAB_DATA {home}/b/Tiny/raw, "
        f"the cache {cache}/Tiny/raw; data.download=false; "
        "set data.root to a folder with Tiny/raw, or use data=digits, which needs no files"
    )
    assert not cache.exists()


def test_a_root_that_is_not_there_is_refused(home, cache, monkeypatch):
    place(cache, FILES)  # not taken instead
    assert refusal(tiny(root=str(home / "nowhere"))).startswith(f"data.root: data.root={home}/nowhere is not there")
    monkeypatch.setenv("LENET_LAB_DATA", str(home / "gone"))
    assert refusal(tiny()).startswith(f"data.root: LENET_LAB_DATA={home}/gone is not there")


def test_a_root_that_is_a_file_is_refused(home):
    (home / "file").write_text("")
    assert refusal(tiny(root=str(home / "file"))).startswith("data.root: cannot read")


@pytest.mark.parametrize("place_of_fault", ["folder", "file"])
def test_unreadable_files_are_refused(home, monkeypatch, place_of_fault):
    """Simulated: the super-user, who runs many containers, can read everything."""
    raw = place(home / "root", FILES)
    denied = raw if place_of_fault == "folder" else raw / LARGEST
    method = "iterdir" if place_of_fault == "folder" else "read_bytes"
    real = getattr(Path, method)

    def guarded(self, *arguments):
        if self == denied:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments)

    monkeypatch.setattr(Path, method, guarded)
    message = refusal(tiny(root=str(home / "root")))
    assert message.startswith(f"data.root: cannot read {denied}")
    assert message.endswith("(Permission denied)")


def test_an_incomplete_set_is_refused(home):
    raw = place(home / "root", FILES)
    (raw / LARGEST).unlink()
    assert refusal(tiny(root=str(home / "root"))) == (
        f"data.root: {raw} is incomplete: {LARGEST} missing; complete or remove it"
    )


# Downloading


def test_download_into_the_cache(cache, monkeypatch, mirrors, capfd):
    publish(monkeypatch, mirrors[0].url)
    timeout = socket.getdefaulttimeout()
    arrays = tiny().load()
    assert arrays.digest == TINY.digest(None)
    assert {path.name: path.read_bytes() for path in (cache / "Tiny" / "raw").iterdir()} == PACKED
    assert {path.name for path in cache.iterdir()} == {"Tiny", ".Tiny.lock"}
    assert capfd.readouterr() == ("", "")  # no bar where there is no terminal
    assert socket.getdefaulttimeout() == timeout
    asked = list(mirrors[0].asked)
    assert set(asked) == set(PACKED)
    tiny().load()
    assert mirrors[0].asked == asked


def test_a_terminal_gets_a_progress_bar(monkeypatch, mirrors, capsys):
    import sys

    publish(monkeypatch, mirrors[0].url)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    tiny().prepare()
    assert f"{LARGEST}.gz: 100%" in capsys.readouterr().err


BAD = {
    "missing": None,
    "corrupt": bytes(len(PACKED[f"{LARGEST}.gz"])),
    "cut short": (PACKED[f"{LARGEST}.gz"][:500], len(PACKED[f"{LARGEST}.gz"])),
    "oversized": bytes(1_000_000),
    "oversized without a length": (bytes(1_000_000), None),
    "oversized behind a small length": (bytes(1_000_000), 20),
}


@pytest.mark.parametrize("fault", list(BAD))
def test_the_second_mirror_serves_what_the_first_cannot(cache, monkeypatch, mirrors, fault):
    mirrors[0].files[f"{LARGEST}.gz"] = BAD[fault]
    publish(monkeypatch, mirrors[0].url, mirrors[1].url)
    monkeypatch.setattr(download, "answering", lambda urls, name: (list(urls), []))
    assert tiny().load().digest == TINY.digest(None)
    assert f"{LARGEST}.gz" in mirrors[1].asked


@pytest.mark.parametrize("fault", list(BAD))
def test_a_bad_download_leaves_nothing_behind(cache, monkeypatch, mirrors, fault):
    for mirror in mirrors:
        mirror.files[f"{LARGEST}.gz"] = BAD[fault]
    publish(monkeypatch, *(mirror.url for mirror in mirrors))
    message = refusal(tiny())
    assert message.startswith(f"data=tiny: no Tiny files in the cache {cache}/Tiny/raw; {LARGEST}.gz could not be ")
    assert all(mirror.url in message for mirror in mirrors)
    assert message.endswith("use data=digits, which needs no files")
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [".Tiny.lock"]


def test_an_endless_download_is_stopped_at_the_cap(cache, monkeypatch, mirrors):
    """Past the cap the connection is dropped: the file on disk never grows with what is sent."""
    sizes, real = [], Path.unlink

    def unlink(self, missing_ok=False):
        sizes.append(self.stat().st_size)
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    mirrors[0].files[f"{LARGEST}.gz"] = (bytes(50_000_000), None)
    publish(monkeypatch, mirrors[0].url)
    assert "longer than 10457 bytes" in refusal(tiny())
    assert max(sizes) < 100_000


def test_content_is_verified_even_where_the_published_sum_fits(cache, monkeypatch, mirrors):
    """Somebody who controls the mirror and its MD5 sums still cannot pass another set off."""
    other = gzip.compress(idx_bytes(np.ones((12, 28, 28), np.uint8)), mtime=0)
    mirrors[0].files[f"{LARGEST}.gz"] = other
    monkeypatch.setitem(PACKED, f"{LARGEST}.gz", other)
    publish(monkeypatch, mirrors[0].url)
    assert "is damaged or not Tiny's" in refusal(tiny())
    assert not (cache / "Tiny" / "raw").exists()


def test_no_network_is_one_error_within_seconds(home, cache, monkeypatch):
    """One mirror refuses the connection, one has no address, one never answers."""
    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        ports = silent.getsockname()[1], closed.getsockname()[1]
        closed.close()
        urls = f"http://127.0.0.1:{ports[1]}/", "http://mirror.invalid/", f"http://127.0.0.1:{ports[0]}/"
        publish(monkeypatch, *urls)
        start = time.monotonic()
        message = refusal(tiny())
        assert time.monotonic() - start < 5
    assert "no mirror can be reached" in message
    assert all(url in message for url in urls)
    assert f"{cache}/Tiny/raw" in message
    assert "data=digits" in message
    assert {path.name for path in cache.iterdir()} == {".Tiny.lock"}


def test_a_mirror_that_falls_silent_is_left(cache, monkeypatch, mirrors):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(download, "answering", lambda urls, name: (list(urls), []))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publish(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/", mirrors[0].url)
        assert tiny().load().digest == TINY.digest(None)


def test_a_mirror_that_does_not_answer_costs_no_time(monkeypatch, mirrors):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        start = time.monotonic()
        found = download.answering([silent_url, mirrors[0].url], "t10k-labels-idx1-ubyte.gz")
        assert time.monotonic() - start < 5
    assert found == ([mirrors[0].url, silent_url], [])


def test_a_cache_that_cannot_be_written_is_one_error(home, monkeypatch, mirrors):
    (home / "cache").write_text("a file where the folder would be")
    publish(monkeypatch, mirrors[0].url)
    message = refusal(tiny())
    assert "cannot read" in message or "cannot download into" in message


def test_what_a_killed_download_left_is_swept_away(cache, monkeypatch, mirrors):
    (cache / ".Tiny.part").mkdir(parents=True)
    (cache / ".Tiny.part" / f"{LARGEST}.gz").write_bytes(b"half")
    publish(monkeypatch, mirrors[0].url)
    tiny().prepare()
    assert {path.name for path in cache.iterdir()} == {"Tiny", ".Tiny.lock"}


def test_four_that_start_together_download_once(cache, monkeypatch, mirrors):
    """The lock belongs to an open file, so threads stand for processes here."""
    publish(monkeypatch, mirrors[0].url)
    found = []
    threads = [threading.Thread(target=lambda: found.append(download.fetch(TINY, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / "Tiny" / "raw"] * 4
    assert sorted(mirrors[0].asked) == sorted([*PACKED] * PER_FILE)


def _fetch_in_a_process(url, cache, barrier, results):
    """Runs in a fresh interpreter."""
    import torchvision.datasets

    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in PACKED.items()]
    torchvision.datasets.Tiny = SimpleNamespace(mirrors=[url], resources=resources)
    barrier.wait()
    try:
        raw = download.fetch(TINY, cache)
        results.put({path.name for path in raw.iterdir()})
    except LabError as error:
        results.put(str(error))


@pytest.mark.slow
def test_processes_that_start_together_download_once(cache, mirrors):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lenet_lab.sweeps.preload", "processes"])
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (mirrors[0].url, cache, barrier, results)
    processes = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert found == [set(PACKED)] * 2
    assert sorted(mirrors[0].asked) == sorted([*PACKED] * PER_FILE)
