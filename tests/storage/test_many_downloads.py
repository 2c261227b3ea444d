"""Eight processes download the same weights from a server that is slow, interrupts or sends other data."""

import contextlib
import hashlib
import http.server
import subprocess
import sys
import threading

import pytest
from test_download import Server

from keras_resv2.storage import download

PROCESSES = 8
PROGRAM = """
import pathlib, sys
from keras_resv2.storage import download
url, path, size, sha256 = sys.argv[1:]
try:
    download.fetch(url, pathlib.Path(path), int(size), sha256)
except (OSError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def server():
    server = Server()
    server.content = CONTENT
    yield server
    server.shutdown()
    server.server_close()


def fetch_in_processes(server, path, content=CONTENT):
    """Returns exit codes and output of the processes."""
    words = [server.url, str(path), str(len(content)), hashlib.sha256(content).hexdigest()]
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stderr=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    said = [process.communicate(timeout=60)[1] for process in started]
    return [process.returncode for process in started], said


def left_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_of_a_slow_server_that_cuts_one_downloads(server, tmp_path):
    server.delay, server.cut_after, server.cuts = 0.3, 100_000, 2
    codes, _ = fetch_in_processes(server, tmp_path / "w.h5")
    assert codes == [0] * PROCESSES and (tmp_path / "w.h5").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]
    assert left_in(tmp_path) == ["w.h5"]


def test_no_process_accepts_files_of_a_lying_server(server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    codes, said = fetch_in_processes(server, tmp_path / "w.h5")
    assert codes == [1] * PROCESSES
    assert all("ValueError" in text and "not the expected file" in text and text.count("\n") == 1 for text in said)
    assert left_in(tmp_path) == []


def test_of_a_server_that_cuts_every_time_the_next_go_on(server, tmp_path):
    """Three attempts each: a process continues where the previous one stopped."""
    server.cut_after, server.cuts = 20_000, 1000
    codes, said = fetch_in_processes(server, tmp_path / "w.h5")
    assert codes == [1] * PROCESSES and all("Call again to resume" in text for text in said)
    assert (tmp_path / "w.h5.part").read_bytes() == CONTENT[: 3 * PROCESSES * 20_000]
    server.cuts = 0
    download.fetch(server.url, tmp_path / "w.h5", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert server.requests[-1] == f"bytes={3 * PROCESSES * 20_000}-" and (tmp_path / "w.h5").read_bytes() == CONTENT


class Endless(http.server.BaseHTTPRequestHandler):
    """Does not send the size, and continues as long as there is a client."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 16))

    def log_message(self, *arguments):
        pass


def test_no_more_is_taken_than_may_be(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ValueError, match="more than 1000000 bytes"):
            download.fetch(f"http://127.0.0.1:{server.server_address[1]}/x", tmp_path / "x", None, "0" * 32, 1_000_000)
    finally:
        server.shutdown()
        server.server_close()
    assert left_in(tmp_path) == []
