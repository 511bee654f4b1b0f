"""Fetching the demos, from a server on this machine only."""

import hashlib
import http.server
import threading
from typing import ClassVar

import polars as pl
import pytest

from medrec.data import fetch as fetching
from medrec.data.fetch import fetch
from medrec.types import MedrecError
from tests.conftest import demo_dir

FILES = {"admissions.csv": b"a" * 300_000, "sub/notes.csv": b"hello\n" * 1000}


class Server(http.server.BaseHTTPRequestHandler):
    """Serves FILES under /demo/1.0/, with ranges; the class attributes make it misbehave."""

    ranges = True
    break_after: int | None = None
    corrupt = False
    log: ClassVar[list[tuple[str, int]]] = []

    def do_GET(self):
        body = FILES.get(self.path.removeprefix("/demo/1.0/"))
        if body is None:
            self.send_error(404, "Not Found")
            return
        start = 0
        if self.ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416, "Range Not Satisfiable")
                return
        Server.log.append((self.path.rsplit("/", 1)[1], start))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        part = body[start:] if not self.corrupt else b"x" * (len(body) - start)
        self.wfile.write(part[: self.break_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def url(monkeypatch, tmp_path):
    """Address of the server; a demo called ``toy`` is known."""
    for name, value in {"ranges": True, "break_after": None, "corrupt": False, "log": []}.items():
        monkeypatch.setattr(Server, name, value)
    monkeypatch.setattr(fetching, "RELEASES", {"toy": "demo/1.0"})
    monkeypatch.setattr(fetching, "PACKAGE", tmp_path / "package")
    (tmp_path / "package" / "data").mkdir(parents=True)
    rows = [
        {"dataset": "toy", "path": path, "sha256": hashlib.sha256(body).hexdigest()} for path, body in FILES.items()
    ]
    pl.DataFrame([*rows, {"dataset": "other", "path": "x", "sha256": "0"}]).write_csv(
        tmp_path / "package" / "data" / "checksums.csv"
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_arrive_whole_and_are_not_fetched_twice(url, tmp_path):
    dest = tmp_path / "data" / "toy"
    assert fetch("toy", dest, url) == dest
    assert contents(dest) == FILES
    assert [path.name for path in dest.parent.iterdir()] == ["toy"]
    before = list(Server.log)
    fetch("toy", dest, url)
    assert Server.log == before


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(url, tmp_path, monkeypatch, ranges):
    monkeypatch.setattr(Server, "break_after", 200_000)
    with pytest.raises(MedrecError, match=r"connection broke.*admissions\.csv.*goes on there"):
        fetch("toy", tmp_path / "toy", url)
    assert not (tmp_path / "toy").exists()
    monkeypatch.setattr(Server, "break_after", None)
    monkeypatch.setattr(Server, "ranges", ranges)
    fetch("toy", tmp_path / "toy", url)
    assert contents(tmp_path / "toy") == FILES
    # A server that cannot resume sends the file from its start.
    assert Server.log == [("admissions.csv", 0), ("admissions.csv", 200_000 * ranges), ("notes.csv", 0)]


def test_a_wrong_checksum_is_refused_and_the_file_deleted(url, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "corrupt", True)
    with pytest.raises(MedrecError, match=r"admissions\.csv arrived, but its SHA-256 .*deleted; fetch again"):
        fetch("toy", tmp_path / "toy", url)
    assert not (tmp_path / "toy").exists()
    assert contents(tmp_path / ".toy-arriving") == {}
    monkeypatch.setattr(Server, "corrupt", False)
    fetch("toy", tmp_path / "toy", url)
    assert contents(tmp_path / "toy") == FILES


def test_a_whole_part_is_taken_as_it_is(url, tmp_path):
    part = tmp_path / ".toy-arriving" / "admissions.csv.part"
    part.parent.mkdir()
    part.write_bytes(FILES["admissions.csv"])
    fetch("toy", tmp_path / "toy", url)
    assert contents(tmp_path / "toy") == FILES
    assert Server.log == [("notes.csv", 0)]


def test_missing_page_and_dead_server(url, tmp_path):
    with pytest.raises(MedrecError, match=r"answers 404 Not Found"):
        fetch("toy", tmp_path / "toy", url + "/elsewhere")
    with pytest.raises(MedrecError, match=r"cannot be fetched: .*run the same command again"):
        fetch("toy", tmp_path / "toy", "http://127.0.0.1:1")


def test_another_folder_in_the_place_is_left_alone(url, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "mine.txt").write_text("mine")
    with pytest.raises(MedrecError, match=r"is there already.*Move it away"):
        fetch("toy", tmp_path / "toy", url)
    assert contents(tmp_path / "toy") == {"mine.txt": b"mine"}


def test_only_open_demos_can_be_fetched():
    with pytest.raises(MedrecError, match=r"'mimic3' cannot be fetched.*mimic3-demo, mimic4-demo, eicu-demo.*import"):
        fetch("mimic3")


@pytest.mark.parametrize("name", ["mimic4-demo", "eicu-demo"])
def test_our_checksums_are_those_of_the_files(name):
    """The demos at hand are PhysioNet's own bytes: nothing is left to fetch, so no server is asked."""
    folder = demo_dir(name)
    assert fetch(name, folder, "http://127.0.0.1:1") == folder


def test_checksums_cover_every_table_that_the_readers_use(demo_tables):
    listed = pl.read_csv(fetching.PACKAGE / "data" / "checksums.csv")
    assert listed["sha256"].str.contains("^[0-9a-f]{64}$").all()
    for layout in ("mimic3", "mimic4", "eicu"):
        used = {path.name.removesuffix(".gz") for files in demo_tables(layout).files.values() for path in files}
        names = listed.filter(pl.col("dataset") == f"{layout}-demo")["path"].str.split("/").list.last()
        assert used <= {name.removesuffix(".gz") for name in names}
        assert "LICENSE.txt" in set(names)
