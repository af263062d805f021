import errno
import os
import shutil
from types import SimpleNamespace

import pytest

from datasets.download import main
from datasets.fetch import archives, install
from datasets.known.remote import COOP
from datasets.suites import SOURCES
from datasets.table import ROWS
from tests.datasets.fetch.conftest import change, content_of, leftovers

PUBLIC = [row.name for row in ROWS.values() if any(file.urls or file.drive for file in row.files if not file.optional)]
LARGE = {"ImageNetV2", "ImageNetSketch", "ImageNetR"}  # like ImageNetA


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in LARGE])
def test_every_public_dataset_from_its_archives_to_usable(offer, server, tmp_path, capsys, name):
    made, root, row = offer(name), tmp_path / "data", ROWS[name]
    assert main([name, "--root", str(root)]) == 0
    text = capsys.readouterr().out
    assert f"{name}: ready, usable: " in text
    assert f" {row.classes} classes" in text
    places = [*(row.image_folders or (row.images,)), *row.needs]
    assert content_of(root / row.folder, places) == content_of(made, places)
    assert leftovers(root) == []
    asked = len(server.asked)
    assert main([name, "--root", str(root)]) == 0
    assert capsys.readouterr().out.count("\n") == 1  # nothing to do
    assert len(server.asked) == asked


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_rows_list_everything_that_is_needed(row):
    places = [place for file in row.files for place in file.places]
    assert len(places) == len(set(places))
    for file in row.files:
        kind, _, digest = file.checksum.partition(":")
        assert (kind, len(digest)) in {("", 0), ("md5", 32), ("sha256", 64)}
        assert all(url.startswith(("http://", "https://")) for url in (*file.urls, file.page) if url)
        assert file.urls or file.drive or file.page
    if all(file.optional for file in row.files):
        assert row.source or row.hub
        return
    for wanted in (*(row.image_folders or (row.images,)), *row.needs):
        assert any(f"{wanted}/".startswith(f"{place}/") or place.startswith(f"{wanted}/") for place in places), wanted


def test_an_interrupted_download_goes_on(offer, server, tmp_path, capsys):
    offer("EuroSAT")
    size = len(server.files["/EuroSAT.zip"])
    server.cuts["/EuroSAT.zip"] = [size // 3, size // 3]
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 0
    assert [asked for _, asked in server.asked] == ["", f"bytes={size // 3}-", f"bytes={size // 3 * 2}-"]
    assert "EuroSAT: ready" in capsys.readouterr().out


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_failed_goes_on_with_the_next_command(offer, server, tmp_path, capsys, ranges):
    offer("EuroSAT")
    server.ranges = ranges
    half = len(server.files["/EuroSAT.zip"]) // 2
    server.cuts["/EuroSAT.zip"] = [half, 0, 0, 0]
    command = ["EuroSAT", "--root", str(tmp_path / "data")]
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "the connection was closed after" in text
    assert f"again      python -m datasets.download EuroSAT --root {tmp_path / 'data'}" in text
    assert not (tmp_path / "data/eurosat/2750").exists()
    server.cuts.clear()
    server.asked.clear()
    assert main(command) == 0
    assert server.asked == [("/EuroSAT.zip", f"bytes={half}-" if ranges else server.asked[0][1])]
    assert leftovers(tmp_path / "data") == []


def test_a_wrong_checksum_is_deleted_and_the_next_place_tried(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT")
    good = SOURCES["EuroSAT"].row.files[0].urls[0]
    server.files["/old/EuroSAT.zip"] = server.files["/EuroSAT.zip"][:-1] + b"x"
    change(monkeypatch, "EuroSAT", urls=(f"{server.url}/old/EuroSAT.zip", good))
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 0
    text = capsys.readouterr().out
    assert "EuroSAT.zip is damaged: its MD5 is " in text
    assert "; it has been deleted" in text
    assert leftovers(tmp_path / "data") == []


def test_a_damaged_archive_without_a_checksum(offer, server, monkeypatch, tmp_path, capsys):
    offer("FGVCAircraft")
    content = bytearray(server.files["/fgvc-aircraft-2013b.tar.gz"])
    content[len(content) // 2] ^= 0xFF
    server.files["/fgvc-aircraft-2013b.tar.gz"] = bytes(content)
    assert main(["FGVCAircraft", "--root", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert "fgvc-aircraft-2013b.tar.gz is damaged (" in text
    assert "; it has been deleted" in text
    assert not (tmp_path / "data/fgvc_aircraft").exists()


def test_an_archive_that_leaves_its_folder(offer, server, tmp_path, capsys):
    import io
    import tarfile

    offer("FGVCAircraft")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in ("fgvc-aircraft-2013b/data/variants.txt", "../../../evil"):
            archive.addfile(tarfile.TarInfo(name))
    server.files["/fgvc-aircraft-2013b.tar.gz"] = file.getvalue()
    assert main(["FGVCAircraft", "--root", str(tmp_path / "data")]) == 1
    assert "'../../../evil', which lies outside its folder; nothing of it is used; it has" in capsys.readouterr().out
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "data/fgvc_aircraft").exists()


def test_a_dead_url_gives_the_alternatives(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT", hub=COOP)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.files.clear()
    assert main(["EuroSAT", "OxfordPets", "--root", str(tmp_path / "data"), "--dry-run"]) in (0, 1)
    capsys.readouterr()
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert f"{server.url}/EuroSAT.zip: HTTP status 404" in text
    assert f"to         {tmp_path}/data/eurosat/EuroSAT.zip" in text
    assert "elsewhere  https://huggingface.co/datasets/zhengli97/prompt_learning_dataset" in text
    assert "0 of 1 usable; not: EuroSAT" in text
    assert os.listdir(tmp_path / "data") == [".eurosat.lock"]  # no empty folder that could be taken for a dataset


def test_a_page_that_took_the_place_of_the_file(offer, server, tmp_path, capsys):
    offer("EuroSAT")
    server.pages.add("/EuroSAT.zip")
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    assert "the server sent a web page in place of the file" in capsys.readouterr().out


def test_the_disk_is_looked_at_before_anything_is_fetched(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT")
    change(monkeypatch, "EuroSAT", size=94, unpacked=200)  # as published
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=300_000_000))
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    assert (
        f"EuroSAT: about 294 MB are needed in {tmp_path / 'data'}, and 100 MB to spare, but 300 MB are free"
        in capsys.readouterr().err
    )
    assert server.asked == []
    assert not (tmp_path / "data").exists()


def test_what_has_arrived_needs_no_room_again(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT")
    change(monkeypatch, "EuroSAT", size=94, unpacked=200)
    part = tmp_path / "data/eurosat/EuroSAT.zip.part"
    part.parent.mkdir(parents=True)
    with open(part, "wb") as file:
        file.truncate(80_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=320_000_000))
    assert main(["EuroSAT", "--root", str(tmp_path / "data"), "--dry-run"]) == 0
    assert "to download: about 14 MB; on disk at most about 214 MB; free in" in capsys.readouterr().out
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_becomes_full(offer, server, monkeypatch, tmp_path, capsys, number):
    offer("EuroSAT")

    def full(file, blocks):
        raise OSError(number, os.strerror(number), file.name)

    monkeypatch.setattr(archives, "write_sparing", full)
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    found, err = capsys.readouterr()
    line = next(line for line in found.splitlines() if os.strerror(number) in line)
    assert line.startswith(f"EuroSAT: {tmp_path}") and "Downloaded files are kept" in line and err == ""
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "data/eurosat").iterdir()) == [
        "EuroSAT.zip",
        "EuroSAT.zip.origin.json",
    ]


def test_interrupted_while_unpacking(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT")
    command, folder = ["EuroSAT", "--root", str(tmp_path / "data")], tmp_path / "data/eurosat"

    def killed(archive, target):
        (target / "2750/Forest").mkdir(parents=True)
        os._exit(9)

    if os.fork() == 0:
        monkeypatch.setattr(install, "unpack", killed)
        main(command)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    left = [path.name for path in folder.iterdir() if path.name.startswith(".unpacking-")]
    assert len(left) == 1
    assert not (folder / "2750").exists()
    asked = len(server.asked)
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "removed what an interrupted run had begun to unpack" in text
    assert f"using {folder}/EuroSAT.zip" in text
    assert len(server.asked) == asked  # the archive was there
    assert leftovers(tmp_path / "data") == []  # and, being ours, is deleted as ever


def test_what_is_there_is_left_alone(offer, server, tmp_path, capsys):
    made, folder = offer("OxfordPets"), tmp_path / "data/oxford_pets"
    shutil.copytree(made / "images", folder / "images")
    mine = folder / "images" / sorted(os.listdir(folder / "images"))[1]
    mine.write_bytes(mine.read_bytes() + b"mine")
    before = content_of(folder, ["images"])
    assert main(["OxfordPets", "--root", str(tmp_path / "data")]) == 0
    assert [path for path, _ in server.asked] == ["/annotations.tar.gz"]
    assert content_of(folder, ["images"]) == before


def test_an_archive_of_which_a_part_is_there(offer, server, tmp_path, capsys):
    made, folder = offer("FGVCAircraft"), tmp_path / "data/fgvc_aircraft"
    folder.mkdir(parents=True)
    text = (made / "variants.txt").read_text() + "\n"
    (folder / "variants.txt").write_text(text)
    (folder / "images").mkdir()  # empty: not there
    assert main(["FGVCAircraft", "--root", str(tmp_path / "data")]) == 0
    assert "variants.txt was there already and is left unchanged" in capsys.readouterr().out
    assert (folder / "variants.txt").read_text() == text


@pytest.mark.parametrize(
    "mirror",
    ["ftp://host", "http://", "http://[::1", "http://host:port", "http://host:99999", "http://u:p@host", "http:// x"]
    + ["http://host/?q=", "https://host/#a", "nowhere", "a\0b", "file:///data"],
)
def test_mirrors_that_cannot_be_one(mirror, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main(["EuroSAT", "--root", str(tmp_path), "--mirror", mirror])
    assert error.value.code == 2 and "error: --mirror " in capsys.readouterr().err
