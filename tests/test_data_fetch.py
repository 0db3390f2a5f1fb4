"""Downloads from a server on this machine: resumed, checked, refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from cnnext import data
from cnnext.data import cifar, mnist_idx
from cnnext.data.fetch import Remote, fetch
from data_files import cifar10_files, fashion_files, one_line, tar_of

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """`files` by path; `log` has (path, Range) of each request; `breaks` cuts answers off after so much."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.log: list[tuple[str, str | None]] = []
        self.breaks: list[int] = []
        self.ranges = True

    def remote(self, name: str, content: bytes, md5: str | None = None) -> Remote:
        self.files[f"/{name}"] = content
        url = f"http://127.0.0.1:{self.server_port}/{name}"
        return Remote(url, md5 or hashlib.md5(content).hexdigest())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.log.append((self.path, asked))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(tmp_path, server):
    remote = server.remote("set.bin", CONTENT)
    for _ in range(2):
        assert fetch(remote, tmp_path / "new").read_bytes() == CONTENT
    assert server.log == [("/set.bin", None)]
    assert left(tmp_path / "new") == ["set.bin"]


def test_what_was_cut_off_goes_on_where_it_stopped(tmp_path, server):
    remote = server.remote("set.bin", CONTENT)
    server.breaks = [100_000, 50_000]
    for have in (100_000, 150_000):
        one_line(
            lambda: fetch(remote, tmp_path), remote.url, f"cut off after {have} of 300000 bytes", "set.bin"
        )
        assert left(tmp_path) == ["set.bin.part"]
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.log] == [None, "bytes=100000-", "bytes=150000-"]
    assert left(tmp_path) == ["set.bin"]


def test_a_server_that_sends_no_parts(tmp_path, server):
    remote = server.remote("set.bin", CONTENT)
    server.ranges = False
    (tmp_path / "set.bin.part").write_bytes(b"other" * 1000)
    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_all_was_there_but_its_name(tmp_path, server):
    remote = server.remote("set.bin", CONTENT)
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert fetch(remote, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [b"", b"something else"])
def test_a_wrong_checksum_leaves_nothing(tmp_path, server, begun):
    remote = server.remote("set.bin", CONTENT, None if begun else hashlib.md5(b"").hexdigest())
    if begun:
        (tmp_path / "set.bin.part").write_bytes(begun)
    one_line(lambda: fetch(remote, tmp_path), remote.url, "the checksum is", remote.md5)
    assert left(tmp_path) == []


def test_what_is_not_there(tmp_path, server):
    remote = server.remote("set.bin", CONTENT)
    del server.files["/set.bin"]
    one_line(lambda: fetch(remote, tmp_path), remote.url, "Not Found", f"put set.bin into {tmp_path}")


def test_no_network(tmp_path, server):
    remote = server.remote("set.bin", CONTENT)
    closed = Remote(remote.url.replace(str(server.server_port), "1"), remote.md5)
    one_line(lambda: fetch(closed, tmp_path), closed.url, "refused", f"put set.bin into {tmp_path}")


def test_a_folder_that_cannot_be(tmp_path, server):
    (tmp_path / "file").touch()
    remote = server.remote("set.bin", CONTENT)
    one_line(lambda: fetch(remote, tmp_path / "file"), "cannot write", str(tmp_path / "file"))


def test_mnist_and_fashion_mnist(tmp_path, server, monkeypatch):
    remotes = {
        name.removesuffix("-ubyte"): server.remote(f"{name}.gz", gzip.compress(content))
        for name, content in fashion_files().items()
    }
    monkeypatch.setattr(mnist_idx, "_MNIST", remotes)
    monkeypatch.setattr(mnist_idx, "_FASHION", remotes)
    for reader, folder in ((data.mnist, tmp_path / "a"), (data.fashion_mnist, tmp_path / "b")):
        with pytest.raises(data.DataError, match="no such folder"):
            reader(folder)
        for _ in range(2):
            assert len(reader(folder, "train", download=True)) == 30
        assert reader(folder, "test").note is None
    assert len(server.log) == 8


def test_cifar10(tmp_path, server, monkeypatch):
    files, pixels, _ = cifar10_files()
    archive = tar_of(tmp_path / "made.tar.gz", {f"cifar-10-batches-bin/{n}": c for n, c in files.items()})
    monkeypatch.setattr(cifar, "_CIFAR10", server.remote("cifar-10-binary.tar.gz", archive.read_bytes()))
    for _ in range(2):
        images = data.cifar10(tmp_path / "new", "test", download=True)
    np.testing.assert_array_equal(images.images, pixels[10:])
    assert len(server.log) == 1


def test_the_published_files():
    """Each over https, under its own name, with an MD5."""
    remotes = [*mnist_idx._MNIST.values(), *mnist_idx._FASHION.values(), cifar._CIFAR10, cifar._CIFAR100]
    assert len({remote.md5 for remote in remotes}) == len(remotes) == 10
    for remote in remotes:
        assert re.fullmatch(r"https://[\w./~-]+\.gz", remote.url)
        assert re.fullmatch(r"[0-9a-f]{32}", remote.md5)
    assert all(remote.name == f"{stem}-ubyte.gz" for stem, remote in mnist_idx._FASHION.items())
