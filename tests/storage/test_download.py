"""Downloading weights, from a server on the loopback address that behaves badly on demand."""

import hashlib
import http.server
import multiprocessing
import os
import threading
import time
import types

import pytest

import keras_resv2
from helpers.published import publish
from keras_resv2 import files
from keras_resv2.convert.readers.url import fetch_url
from keras_resv2.storage import download
from keras_resv2.storage import local as store


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; drops the connection `cuts` times after `cut_after` bytes; counts requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut_after, self.cuts, self.status, self.ranges = b"", None, 0, None, True
        self.busy, self.silent, self.delay = 0, False, 0.0
        self.requests = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/weights.h5"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        time.sleep(server.delay)
        if server.silent:
            return None
        if server.busy:
            server.busy -= 1
            return self.send_error(503)
        if server.status:
            return self.send_error(server.status)
        start = int(asked.split("=")[1].rstrip("-")) if asked and server.ranges else 0
        if start >= len(server.content):
            return self.send_error(416)
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: server.cut_after]
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def remote(server, tmp_path, monkeypatch):
    """A card without its file, whose URL is the server's."""
    folder = tmp_path / "weights"
    card, server.content = publish(folder, url=server.url, keep_file=False)
    monkeypatch.setattr(store, "weight_folders", lambda: [folder, store.home() / "weights"])
    return card


def cached(card):
    return store.home() / "weights" / card.name / str(card.version) / card.file


def test_a_file_is_downloaded_once(remote, server):
    for _ in range(2):
        assert keras_resv2.from_pretrained("resnet20-cifar10").count_params() > 0
    assert server.requests == [None]
    assert cached(remote).read_bytes() == server.content


def test_a_cut_connection_is_resumed_in_the_same_call(remote, server):
    server.cut_after, server.cuts = 100_000, 2
    keras_resv2.from_pretrained("resnet20-cifar10")
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]
    assert cached(remote).read_bytes() == server.content


def test_a_download_given_up_is_resumed_by_the_next_call(remote, server):
    server.cut_after, server.cuts = 1000, 3
    with pytest.raises(ConnectionError, match=f"interrupted after 3000 of {remote.size} bytes"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    assert not cached(remote).exists()
    keras_resv2.from_pretrained("resnet20-cifar10")
    assert server.requests[-1] == "bytes=3000-"
    assert cached(remote).read_bytes() == server.content


def test_a_server_without_ranges_starts_again(remote, server):
    server.ranges, server.cut_after, server.cuts = False, 1000, 1
    keras_resv2.from_pretrained("resnet20-cifar10")
    assert cached(remote).read_bytes() == server.content


def test_a_wrong_beginning_is_thrown_away(remote, server):
    """Data left by another file does not end up in this one."""
    path = cached(remote)
    path.parent.mkdir(parents=True)
    path.with_name("weights.h5.part").write_bytes(b"x" * 5000)
    keras_resv2.from_pretrained("resnet20-cifar10")
    assert server.requests == ["bytes=5000-", None]
    assert path.read_bytes() == server.content


@pytest.mark.parametrize("change", [lambda c: c[:-1] + b"?", lambda c: c + b"more"])
def test_a_wrong_sum_or_size_is_refused_and_deleted(remote, server, change):
    server.content = change(server.content)
    with pytest.raises(ValueError, match="not the expected file"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    assert [path.suffix for path in cached(remote).parent.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("status", [404, 403])
def test_a_server_that_refuses(remote, server, status):
    server.status = status
    with pytest.raises(ConnectionError, match=f"HTTP {status}"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    assert len(server.requests) == 1


def test_no_server(remote, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="refused"):
        keras_resv2.from_pretrained("resnet20-cifar10")


def test_the_error_of_a_read_only_cache_names_the_variable_to_set(remote, server, tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    blocked.chmod(0o500)
    if os.access(blocked, os.W_OK):  # the superuser writes anywhere but into a file's inside
        blocked.rmdir()
        blocked.write_text("")
    monkeypatch.setenv("KERAS_RESV2_HOME", str(blocked))
    with pytest.raises(OSError, match=r"cannot write .* KERAS_RESV2_HOME"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    assert server.requests == []


def test_an_absent_file_is_not_blamed_on_the_cache(tmp_path):
    with pytest.raises(ConnectionError, match=r"absent\.h5 does not exist"):
        download.fetch((tmp_path / "absent.h5").as_uri(), tmp_path / "cache/weights.h5", None, "0" * 64)


def test_errors_while_the_lock_is_held_are_not_blamed_on_the_cache(tmp_path):
    with pytest.raises(PermissionError, match=r"^of the caller$"), download.file_lock(tmp_path / "weights.h5"):
        raise PermissionError("of the caller")


def test_a_read_only_cache_that_has_the_file_is_enough(remote, server, monkeypatch):
    keras_resv2.from_pretrained("resnet20-cifar10")
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("nothing needs to be written"))
    keras_resv2.from_pretrained("resnet20-cifar10")


def test_parallel_processes_download_once(remote, server):
    path, server.delay = cached(remote), 2.0
    context = multiprocessing.get_context("spawn")
    arguments = (server.url, path, remote.size, remote.sha256)
    # Not a function of this module: the processes would import it, and Keras with it.
    processes = [context.Process(target=download.fetch, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert server.requests == [None]
    assert path.read_bytes() == server.content


def test_the_error_of_a_damaged_cached_file_says_to_delete_it(remote):
    keras_resv2.from_pretrained("resnet20-cifar10")
    cached(remote).write_bytes(b"x" * remote.size)
    with pytest.raises(ValueError, match="Delete it to download it again"):
        keras_resv2.from_pretrained("resnet20-cifar10")


def test_files_by_address_are_verified_each_time(tmp_path, monkeypatch):
    """Their names have the first digits of their checksum, but safetensors files contain none."""
    monkeypatch.setenv("KERAS_RESV2_HOME", str(tmp_path / "home"))
    content = b"weights" * 1000
    source = tmp_path / f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
    source.write_bytes(content)
    path = fetch_url(source.as_uri())
    assert path.read_bytes() == content and fetch_url(source.as_uri()) == path
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match="is damaged: its checksum differs"):
        fetch_url(source.as_uri())


def test_a_shorter_file_is_refused(remote, server):
    """A login page is not an interrupted connection."""
    server.content = b"<html>log in</html>"
    with pytest.raises(ValueError, match="19 bytes"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    assert not cached(remote).with_name("weights.h5.part").exists()


def test_a_cut_and_then_a_wrong_sum(remote, server):
    server.content = server.content[:-1] + b"?"
    server.cut_after, server.cuts = 1000, 2
    with pytest.raises(ValueError, match="not the expected file"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    assert not cached(remote).with_name("weights.h5.part").exists()


def test_a_complete_part_of_a_killed_process_is_used(remote, server):
    path = cached(remote)
    path.parent.mkdir(parents=True)
    path.with_name("weights.h5.part").write_bytes(server.content)
    keras_resv2.from_pretrained("resnet20-cifar10")
    assert server.requests == [] and path.exists()


def test_a_busy_server_is_asked_again(remote, server):
    server.busy = 1
    keras_resv2.from_pretrained("resnet20-cifar10")
    assert server.requests == [None, None]


def test_a_server_that_does_not_answer(remote, server, monkeypatch):
    """The connection opens, and closes without an answer."""
    server.silent = True
    with pytest.raises(ConnectionError, match="Call again"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    assert len(server.requests) == download.ATTEMPTS


def test_a_file_of_unknown_size_with_an_md5(server, tmp_path):
    """The checksum of some publishers; also when resumed."""
    server.content, path = bytes(range(256)) * 40, tmp_path / "file"
    checksum = hashlib.md5(server.content).hexdigest()
    server.cut_after, server.cuts = 1000, 3
    with pytest.raises(ConnectionError, match=r"interrupted after 3000 of \? bytes"):
        download.fetch(server.url, path, None, checksum)
    download.fetch(server.url, path, None, checksum)
    assert server.requests[-1] == "bytes=3000-" and path.read_bytes() == server.content


def test_a_whole_part_of_unknown_size_is_taken(server, tmp_path):
    server.content = b"x" * 5000
    (tmp_path / "file.part").write_bytes(server.content)
    download.fetch(server.url, tmp_path / "file", None, hashlib.md5(server.content).hexdigest())
    assert server.requests == [] and (tmp_path / "file").exists()


def test_a_full_disk_is_reported_and_leaves_no_file(server, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    server.content = b"x" * 5000
    (tmp_path / "file.part").symlink_to("/dev/full")
    with pytest.raises(files.DiskFullError, match=r"the disk of .* is full.* Free some space and try again"):
        download.fetch(server.url, tmp_path / "file", 5000, hashlib.sha256(server.content).hexdigest())
    assert os.listdir(tmp_path) == ["file.lock"]


def test_ctrl_c_keeps_what_came(server, tmp_path, monkeypatch):
    server.content, server.cut_after, server.cuts = bytes(range(256)) * 40, 1000, 1
    monkeypatch.setattr(download, "time", types.SimpleNamespace(sleep=_interrupt))
    with pytest.raises(KeyboardInterrupt):
        download.fetch(server.url, tmp_path / "file", 10240, hashlib.sha256(server.content).hexdigest())
    assert (tmp_path / "file.part").read_bytes() == server.content[:1000]
    monkeypatch.undo()
    download.fetch(server.url, tmp_path / "file", 10240, hashlib.sha256(server.content).hexdigest())
    assert server.requests == [None, "bytes=1000-"] and (tmp_path / "file").read_bytes() == server.content


def _interrupt(seconds):
    raise KeyboardInterrupt


@pytest.mark.parametrize("left", [b"", b"y" * 100, b"y" * 9000])
def test_a_file_of_unknown_size_with_another_sum(server, tmp_path, left):
    server.content, part = b"x" * 5000, tmp_path / "file.part"
    if left:
        part.write_bytes(left)
    with pytest.raises(ValueError, match="not the expected file"):
        download.fetch(server.url, tmp_path / "file", None, "0" * 32)
    assert not part.exists() and not (tmp_path / "file").exists()
