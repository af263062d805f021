import errno
import hashlib
import http.client
import sys
import types

import pytest

from dassl.utils import disk, transfer
from dassl.utils.transfer import Damaged, Unreachable, fetch, fetch_from_drive, origin_of
from tests.datasets.fetch.web import Server, serve

CONTENT = bytes(range(256)) * 4000  # about 1 MB
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0, 0))
    found = Server(files={"/a.bin": CONTENT})
    web = serve(found)
    yield found
    web.shutdown()
    web.server_close()


@pytest.mark.parametrize("checksum", ["", MD5, SHA256])
def test_a_file(server, tmp_path, checksum):
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", checksum)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.bin.origin.json"]


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cuts["/a.bin"] = [300_000, 200_000, 100_000, 50_000]
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    starts = [asked for _, asked in server.asked]
    assert starts == ["", "bytes=300000-", "bytes=500000-", "bytes=600000-", "bytes=650000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_it_again(server, tmp_path):
    server.ranges = False
    server.cuts["/a.bin"] = [300_000, 400_000]
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    assert len(server.asked) == 3
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_it_ends_where_nothing_more_arrives(server, tmp_path):
    server.cuts["/a.bin"] = [300_000] + [0] * 20
    with pytest.raises(Unreachable, match="closed after 300,000 of 1,024,000 bytes; 300,000 bytes .* are kept"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    assert not (tmp_path / "a.bin").exists()
    assert len(server.asked) == 3  # and one more after each pause


def test_a_later_call_continues(server, tmp_path):
    server.cuts["/a.bin"] = [300_000] + [0] * 20
    with pytest.raises(Unreachable):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    server.cuts.clear()
    server.asked.clear()
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    assert server.asked == [("/a.bin", "bytes=300000-")]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("names_versions", [True, False])
def test_a_part_that_is_whole_already(server, tmp_path, names_versions):
    server.names_versions = names_versions
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    (tmp_path / "a.bin").rename(tmp_path / "a.bin.part")
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_file_that_has_changed_is_not_mixed_with_the_old_one(server, tmp_path):
    server.cuts["/a.bin"] = [300_000] + [0] * 20
    with pytest.raises(Unreachable):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    server.cuts.clear()
    server.files["/a.bin"] = CONTENT[::-1]
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_a_part_from_elsewhere_is_not_continued(server, tmp_path):
    server.files["/b.bin"] = CONTENT[::-1]
    server.cuts["/a.bin"] = [300_000] + [0] * 20
    with pytest.raises(Unreachable):
        fetch(f"{server.url}/a.bin", tmp_path / "c.bin")
    fetch(f"{server.url}/b.bin", tmp_path / "c.bin")
    assert (tmp_path / "c.bin").read_bytes() == CONTENT[::-1]


def test_a_wrong_checksum(server, tmp_path):
    wrong = "md5:" + "0" * 32
    with pytest.raises(Damaged, match=f"a.bin is damaged: its MD5 is {MD5[4:]}, expected {'0' * 32}"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_in_place_of_the_file(server, tmp_path):
    server.pages.add("/a.bin")
    with pytest.raises(Unreachable, match="a web page"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    server.files["/b.bin"] = b"<!doctype html><title>quota</title>"  # and one that says it is something else
    with pytest.raises(Damaged, match="a web page"):
        fetch(f"{server.url}/b.bin", tmp_path / "b.bin")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there(server, tmp_path):
    with pytest.raises(Unreachable, match="HTTP status 404"):
        fetch(f"{server.url}/gone.bin", tmp_path / "gone.bin")
    assert len(server.asked) == 1
    with pytest.raises(Unreachable, match="[Rr]efused"):
        fetch("http://127.0.0.1:1/a.bin", tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", ["", "²", "-5", "many"])
def test_a_server_that_does_not_tell_the_length(length, server, tmp_path):
    server.lengths["/a.bin"] = length
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_that_tells_a_wrong_length(server, tmp_path):
    server.lengths["/a.bin"] = "1000"  # too short: only the checksum tells
    with pytest.raises(Damaged):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    server.lengths["/a.bin"] = str(10**15)  # nothing is received that the disk cannot hold
    with pytest.raises(Unreachable, match=r"the server sends 1,000,000.0 GB, but .* are free"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    server.lengths["/a.bin"] = str(len(CONTENT) + 5)
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)  # too long: the next request tells that nothing is missing


def test_some_of_the_disk_stays_free(server, tmp_path, monkeypatch):
    """The disk is looked at while the file arrives, as its length need not be known."""
    server.lengths["/a.bin"] = ""
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=disk.SPARE + 1000))
    with pytest.raises(OSError, match="100 MB of it stay free") as error:
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)
    assert error.value.errno == errno.ENOSPC and error.value.filename.endswith("a.bin.part")
    monkeypatch.undo()
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", MD5)


def test_errors_of_the_network_are_not_those_of_the_disk(server, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(http.client.HTTPResponse, "read", broken)
    with pytest.raises(Unreachable, match="No route to host"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin")


@pytest.mark.parametrize("url", ["http://[::1/a", "http://:pw@host:x/a", "nothing", "http://h\u0000st/a", "http:///a"])
def test_urls_that_cannot_be_one(url, tmp_path):
    with pytest.raises(Unreachable):
        fetch(url, tmp_path / "a.bin")


def test_blanks_and_other_alphabets_in_a_url(server, tmp_path):
    server.files["/a%20%C3%A9.bin"] = CONTENT
    fetch(f"{server.url}/a é.bin", tmp_path / "a.bin", MD5)


# ---- Google Drive --------------------------------------------------------------------------------------------------


def gdown(monkeypatch, content):
    """Replace the package gdown by one that writes `content`, or raises it."""
    module = types.ModuleType("gdown")
    module.__spec__ = types.SimpleNamespace(name="gdown")

    def download(id, output, **_):
        if isinstance(content, Exception):
            raise content
        assert id == "abc"
        with open(output, "wb") as file:
            file.write(content)

    module.download = download
    monkeypatch.setitem(sys.modules, "gdown", module)


def test_a_file_of_google_drive(monkeypatch, tmp_path):
    gdown(monkeypatch, CONTENT)
    fetch_from_drive("abc", tmp_path / "a.json", MD5)
    assert (tmp_path / "a.json").read_bytes() == CONTENT
    assert origin_of(tmp_path / "a.json").exists()


def test_google_drive_without_gdown(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(Unreachable, match="needs the package gdown: `pip install gdown`"):
        fetch_from_drive("abc", tmp_path / "a.json")


@pytest.mark.parametrize(
    "content, found",
    [
        (RuntimeError("Too many users have viewed this file\nagain later"), "Google Drive: Too many users"),
        (b"<html>quota exceeded</html>", "a web page"),
        (b"{}", "is damaged"),
    ],
)
def test_google_drive_that_does_not_give_it(monkeypatch, tmp_path, content, found):
    gdown(monkeypatch, content)
    with pytest.raises(Unreachable, match=found):
        fetch_from_drive("abc", tmp_path / "a.json", MD5)
    assert list(tmp_path.iterdir()) == []
