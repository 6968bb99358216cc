"""Downloads from a server on this machine that behaves as badly as real ones do."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from data_files import idx_bytes

from limbeck.data import get
from limbeck.data.download import fetch
from limbeck.data.known import Download, KnownSet, known_set
from limbeck.errors import LimbeckError

BLOB = np.random.default_rng(0).integers(0, 256, 300_000).astype(np.uint8).tobytes()
NAME = "train-images-idx3-ubyte.gz"


class Server(ThreadingHTTPServer):
    """Serves ``files``; the other attributes say how badly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []  # bytes of the next answers, after which the connection ends
        self.honours_range = True
        self.shifted_range = False
        self.tells_length = True
        self.requests: list[str | None] = []  # the Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.requests.append(wanted)
        body = server.files.get(self.path.lstrip("/"))
        if body is None:
            self.send_error(404)
            return
        start = 0
        if wanted and server.honours_range:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))  # type: ignore[union-attr]
            if start >= len(body):
                self.send_response(416)
                self.end_headers()
                return
            start = start - 1 if server.shifted_range else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.tells_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + server.break_after.pop(0) if server.break_after else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def plain_set(blob: bytes = BLOB) -> KnownSet:
    """A set of one gzipped file with the given contents."""
    return dataclasses.replace(
        known_set("fashion-mnist"),
        downloads=(Download(name=NAME, sha256=sha256(zipped(blob))),),
        files=MappingProxyType({NAME: sha256(blob)}),
    )


def zipped(blob: bytes, level: int = 9) -> bytes:
    return gzip.compress(blob, level, mtime=0)


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def archive_set(raw: bytes, **contents: bytes) -> KnownSet:
    return dataclasses.replace(
        known_set("cifar10"),
        downloads=(Download(name="cifar-10-binary.tar.gz", sha256=sha256(raw), members=tuple(contents)),),
        files=MappingProxyType({name: sha256(blob) for name, blob in contents.items()}),
    )


def test_download_reports_and_puts_in_place(server: Server, tmp_path: Path) -> None:
    server.files[NAME] = zipped(BLOB)
    seen: list[tuple[str, int, int | None]] = []
    folder = fetch(plain_set(), tmp_path, url_base=server.url + "/", progress=lambda *row: seen.append(row))
    assert folder == tmp_path / "fashion-mnist"
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (folder / NAME).read_bytes() == server.files[NAME]
    total = len(server.files[NAME])
    assert seen[-1] == (NAME, total, total) and [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    fetch(plain_set(), tmp_path, url_base=server.url)
    assert len(server.requests) == 1  # nothing is fetched twice


def test_broken_off_then_resumed(server: Server, tmp_path: Path) -> None:
    raw = server.files[NAME] = zipped(BLOB)
    server.break_after = [100_000, 50_000]
    part = tmp_path / "fashion-mnist" / f"{NAME}.part"
    for have in (100_000, 150_000):
        with pytest.raises(LimbeckError, match=rf"broke off after {have} of {len(raw)} bytes.*same command.*resume"):
            fetch(plain_set(), tmp_path, url_base=server.url)
        assert part.read_bytes() == raw[:have] and not part.with_suffix("").exists()
    seen: list[int] = []
    fetch(plain_set(), tmp_path, url_base=server.url, progress=lambda _, done, __: seen.append(done))
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]
    assert part.with_suffix("").read_bytes() == raw and not part.exists()
    assert seen[0] > 150_000


def test_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    raw = server.files[NAME] = zipped(BLOB)
    server.break_after, server.honours_range = [100_000], False
    with pytest.raises(LimbeckError, match="broke off"):
        fetch(plain_set(), tmp_path, url_base=server.url)
    folder = fetch(plain_set(), tmp_path, url_base=server.url)
    assert server.requests == [None, "bytes=100000-"] and (folder / NAME).read_bytes() == raw


def test_server_with_another_range_does_not_spoil_the_file(server: Server, tmp_path: Path) -> None:
    server.files[NAME] = zipped(BLOB)
    server.break_after, server.shifted_range = [100_000], True
    for message in ("broke off", "SHA-256 differs"):
        with pytest.raises(LimbeckError, match=message):
            fetch(plain_set(), tmp_path, url_base=server.url)
    assert list((tmp_path / "fashion-mnist").iterdir()) == []
    fetch(plain_set(), tmp_path, url_base=server.url)


def test_a_part_that_is_too_long_starts_again(server: Server, tmp_path: Path) -> None:
    raw = server.files[NAME] = zipped(BLOB)
    part = tmp_path / "fashion-mnist" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(raw + b"more")
    folder = fetch(plain_set(), tmp_path, url_base=server.url)
    assert server.requests == [f"bytes={len(raw) + 4}-", None] and (folder / NAME).read_bytes() == raw


def test_a_complete_part_needs_no_server(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "fashion-mnist" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(zipped(BLOB))
    fetch(plain_set(), tmp_path, url_base=server.url)
    assert server.requests == [] and part.with_suffix("").read_bytes() == zipped(BLOB) and not part.exists()


def test_a_part_of_another_file_is_found_out(server: Server, tmp_path: Path) -> None:
    server.files[NAME] = zipped(BLOB)
    part = tmp_path / "fashion-mnist" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(b"<html>please log in</html>")
    with pytest.raises(LimbeckError, match="not the official file .*SHA-256 differs.*deleted"):
        fetch(plain_set(), tmp_path, url_base=server.url)
    assert not part.exists()
    fetch(plain_set(), tmp_path, url_base=server.url)


def test_wrong_hash(server: Server, tmp_path: Path) -> None:
    server.files[NAME] = zipped(BLOB[:-1] + b"?")
    with pytest.raises(LimbeckError, match=rf"{server.url}/{NAME} is not the official file"):
        fetch(plain_set(), tmp_path, url_base=server.url)
    assert list((tmp_path / "fashion-mnist").iterdir()) == []
    server.files[NAME] = b"<html>please log in</html>"
    with pytest.raises(LimbeckError, match="is not the official file"):
        get("fashion-mnist", data_dir=tmp_path, url_base=server.url)


def test_a_mirror_may_compress_again(server: Server, tmp_path: Path) -> None:
    server.files[NAME] = zipped(BLOB, level=1)
    assert server.files[NAME] != zipped(BLOB)
    fetch(plain_set(), tmp_path, url_base=server.url)
    assert gzip.decompress((tmp_path / "fashion-mnist" / NAME).read_bytes()) == BLOB


def test_a_damaged_file_in_place_is_replaced(server: Server, tmp_path: Path) -> None:
    server.files[NAME] = zipped(BLOB)
    file = tmp_path / "fashion-mnist" / NAME
    file.parent.mkdir()
    for damaged in (zipped(BLOB)[:-9], zipped(b"other"), b""):
        file.write_bytes(damaged)
        fetch(plain_set(), tmp_path, url_base=server.url)
        assert file.read_bytes() == zipped(BLOB)
    file.unlink()
    file.with_suffix("").write_bytes(BLOB)  # without .gz counts too
    fetch(plain_set(), tmp_path, url_base=server.url)
    assert len(server.requests) == 3 and not file.exists()


def test_unknown_length(server: Server, tmp_path: Path) -> None:
    server.files[NAME], server.tells_length = zipped(BLOB), False
    totals: set[int | None] = set()
    fetch(plain_set(), tmp_path, url_base=server.url, progress=lambda _, __, total: totals.add(total))
    assert totals == {None}


def test_no_such_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=rf"{server.url}/{NAME} answered 404 Not Found"):
        fetch(plain_set(), tmp_path, url_base=server.url)


def test_closed_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(LimbeckError, match=r"cannot be reached \(Connection refused\).*same command again to resume"):
        get("mnist", data_dir=tmp_path, url_base=f"http://127.0.0.1:{port}")


def test_bad_addresses(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="starts with http:// or https://"):
        get("mnist", data_dir=tmp_path, url_base="file:///etc")
    with pytest.raises(LimbeckError, match="cannot be reached"):
        get("mnist", data_dir=tmp_path, url_base="http://127.0.0.1:port")


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="Unknown data set 'fashion-mnits'; did you mean 'fashion-mnist'"):
        get("fashion-mnits", data_dir=tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "fashion-mnist").write_text("a file where the folder should be")
    with pytest.raises(LimbeckError, match="Cannot write to .*fashion-mnist"):
        get("fashion-mnist", data_dir=tmp_path)


def test_default_place_is_the_first_of_the_look_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "variable"))
    monkeypatch.setattr("limbeck.data.download.known_set", lambda name: plain_set())
    server.files[NAME] = zipped(BLOB)
    assert get("fashion-mnist", url_base=server.url) == tmp_path / "variable/fashion-mnist"


FOLDER = "cifar-10-batches-bin"
A, B = BLOB[:1000], BLOB[1000:3000]


def test_archive(server: Server, tmp_path: Path) -> None:
    raw = archive(
        **{f"{FOLDER}/a.bin": A, "../evil.bin": B, "/a.bin": B, f"{FOLDER}/readme.html": B, f"{FOLDER}/b.bin": B}
    )
    known = archive_set(raw, **{"a.bin": A, "b.bin": B})
    server.files["cifar-10-binary.tar.gz"] = raw
    server.break_after = [len(raw) // 2]
    with pytest.raises(LimbeckError, match="broke off"):
        fetch(known, tmp_path, url_base=server.url)
    folder = fetch(known, tmp_path, url_base=server.url)
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "b.bin"]
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]
    assert (folder / "a.bin").read_bytes() == A and (folder / "b.bin").read_bytes() == B
    fetch(known, tmp_path, url_base=server.url)
    assert len(server.requests) == 2
    (folder / "b.bin").write_bytes(A)  # damaged later
    fetch(known, tmp_path, url_base=server.url)
    assert (folder / "b.bin").read_bytes() == B and len(server.requests) == 3


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (archive(**{f"{FOLDER}/a.bin": A}), r"lacks cifar-10-batches-bin/b\.bin"),
        (archive(**{f"{FOLDER}/a.bin": A, f"{FOLDER}/b.bin": A}), r"b\.bin .* is not the official file"),
        (archive(**{f"{FOLDER}/a.bin": A, f"{FOLDER}/b.bin": B})[:1500], "damaged archive"),
        (b"no archive at all", "damaged archive"),
    ],
)
def test_bad_archives(server: Server, tmp_path: Path, raw: bytes, message: str) -> None:
    server.files["cifar-10-binary.tar.gz"] = raw
    with pytest.raises(LimbeckError, match=message):
        fetch(archive_set(raw, **{"a.bin": A, "b.bin": B}), tmp_path, url_base=server.url)
    assert not (tmp_path / FOLDER / "b.bin").exists()


def test_a_link_in_an_archive_is_not_followed(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo(f"{FOLDER}/a.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    raw = server.files["cifar-10-binary.tar.gz"] = buffer.getvalue()
    with pytest.raises(LimbeckError, match="lacks"):
        fetch(archive_set(raw, **{"a.bin": A}), tmp_path, url_base=server.url)


def test_the_whole_of_mnist_from_a_mirror(server: Server, tmp_path: Path) -> None:
    """The registry's own hashes, on the real contents."""
    from limbeck.data.registry import embedded_folder, locate

    embedded = embedded_folder(known_set("mnist"))
    assert embedded is not None
    for download in known_set("mnist").downloads:
        server.files[download.name] = (embedded / download.name).read_bytes()
    folder = get("mnist", data_dir=tmp_path, url_base=server.url)
    assert locate("mnist", tmp_path) == folder and len(server.requests) == 4
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(zipped(idx_bytes(np.zeros(10_000, np.uint8))))
    get("mnist", data_dir=tmp_path, url_base=server.url)
    assert len(server.requests) == 5
