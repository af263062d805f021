import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from datasets import archives, install, transfer
from datasets.download import main
from datasets.suites import SOURCES
from datasets.table import ROWS
from tests.datasets import layouts
from tests.datasets.published_archives import published
from tests.datasets.web import Server, serve


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0,))
    monkeypatch.setitem(__import__("sys").modules, "gdown", None)
    found = Server()
    web = serve(found)
    yield found
    web.shutdown()
    web.server_close()


@pytest.fixture
def offer(server, monkeypatch, tmp_path):
    """offer(name): serve the archives of a dataset as they are published, from a row that points to them; returns
    the folder of what they hold. Files on Google Drive are served only if `drive`.
    """

    def call(name, drive=True, **changes):
        row = ROWS[name]
        made = layouts.make(name, tmp_path / "made", images=2) / row.folder
        files = []
        for file in row.files:
            if file.optional or (file.drive and not drive):
                files.append(replace(file, urls=()))
                continue
            content = published(file.name, made)
            server.files[f"/{file.name}"] = content
            urls = (f"{server.url}/{file.name}",) if file.urls or file.drive else ()
            checksum = "md5:" + hashlib.md5(content).hexdigest() if file.checksum else ""
            files.append(replace(file, urls=urls, drive="", checksum=checksum, size=1, unpacked=1))
        monkeypatch.setattr(SOURCES[name], "row", replace(row, files=tuple(files), **changes))
        return made

    return call


def change(monkeypatch, name, **changes):
    """Change the first file of an offered row and leave out the others."""
    row = SOURCES[name].row
    monkeypatch.setattr(SOURCES[name], "row", replace(row, files=(replace(row.files[0], **changes),)))


def content_of(folder, places):
    """{path: content} of the files in some places of a folder."""
    paths = [path for place in places for path in [folder / place, *(folder / place).rglob("*")]]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def leftovers(root):
    """Everything that is hidden, or an archive, or a part of one."""
    endings = (".zip", ".tar", ".gz", ".tgz", ".part", ".json", ".damaged")
    found = [path.name for path in root.rglob("*") if path.name.startswith(".") or path.name.endswith(endings)]
    return sorted(name for name in found if name != "cat_to_name.json")


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
        assert row.source
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
    assert "'../../../evil', which lies outside of the folder; nothing of it is used; it has" in capsys.readouterr().out
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "data/fgvc_aircraft").exists()


def test_a_dead_url_gives_the_alternatives(offer, server, tmp_path, capsys):
    offer("EuroSAT")
    server.files.clear()
    assert main(["EuroSAT", "OxfordPets", "--root", str(tmp_path / "data"), "--dry-run"]) in (0, 1)
    capsys.readouterr()
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert f"{server.url}/EuroSAT.zip: HTTP status 404" in text
    assert f"to         {tmp_path}/data/eurosat/EuroSAT.zip" in text
    assert "elsewhere  https://huggingface.co/datasets/zhengli97/prompt_learning_dataset" in text
    assert "0 of 1 usable; not: EuroSAT" in text
    assert list((tmp_path / "data").iterdir()) == []  # no empty folder that could be taken for a dataset


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
    assert f"EuroSAT needs about 294 MB in {tmp_path / 'data'}, free are 300 MB" in capsys.readouterr().err
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
    assert "to fetch: about 14 MB; on disk at most about 214 MB; free in" in capsys.readouterr().out
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 0


def test_a_file_larger_than_thought(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT")
    change(monkeypatch, "EuroSAT", size=0, unpacked=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=install.SPARE + 1000))
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert "EuroSAT: EuroSAT.zip needs about " in text
    assert "free are 100 MB" in text
    assert not (tmp_path / "data/eurosat").exists()


def test_a_disk_that_becomes_full(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    assert "EuroSAT: [Errno 28] No space left on device. What has been fetched is kept" in capsys.readouterr().out
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "data/eurosat").iterdir()) == [
        "EuroSAT.zip",
        "EuroSAT.zip.origin.json",
    ]


def test_interrupted_while_unpacking(offer, server, monkeypatch, tmp_path, capsys):
    offer("EuroSAT")
    command, folder = ["EuroSAT", "--root", str(tmp_path / "data")], tmp_path / "data/eurosat"

    def killed(archive, target, room=None):
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
    assert "variants.txt was there already and is left as it was" in capsys.readouterr().out
    assert (folder / "variants.txt").read_text() == text


def test_archives_are_kept_if_wanted(offer, tmp_path, capsys):
    offer("EuroSAT")
    assert main(["EuroSAT", "--root", str(tmp_path / "data"), "--keep-archives"]) == 0
    assert leftovers(tmp_path / "data") == ["EuroSAT.zip"]
    assert f"kept {tmp_path}/data/eurosat/EuroSAT.zip" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["flowers-recognition.zip", "archive.zip"])
def test_what_was_fetched_by_hand_is_unpacked(offer, server, tmp_path, capsys, name):
    offer("KaggleFlower")
    command, folder = ["KaggleFlower", "--root", str(tmp_path / "data")], tmp_path / "data/kaggle_flower_recognition"
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "from       https://www.kaggle.com/datasets/alxmamaev/flowers-recognition" in text
    assert f"to         {folder}/flowers-recognition.zip or archive.zip" in text
    folder.mkdir()
    (folder / name).write_bytes(server.files["/flowers-recognition.zip"])
    assert main(command) == 0
    assert (folder / name).exists()  # not ours to delete
    assert server.asked == []


@pytest.mark.parametrize("name", ["FruitVegetable", "KaggleMushroom", "KaggleVegetable", "PlantSeedlingV1"])
def test_archives_that_people_bring(offer, server, tmp_path, name):
    offer(name)
    file = SOURCES[name].row.files[0].name
    (tmp_path / "brought").mkdir()
    (tmp_path / "brought" / file).write_bytes(server.files[f"/{file}"])
    command = [name, "--root", str(tmp_path / "data"), "--mirror", str(tmp_path / "brought")]
    assert main([*command, "--dry-run"]) == 0
    assert main(command) == 0
    assert leftovers(tmp_path / "data") == []
    assert os.listdir(tmp_path / "brought") == [file]


def test_nothing_of_a_mirror_is_deleted(offer, server, tmp_path, capsys):
    offer("EuroSAT")
    other = tmp_path / "other/eurosat"
    other.mkdir(parents=True)
    (other / "EuroSAT.zip").write_bytes(server.files["/EuroSAT.zip"])
    (other / "EuroSAT.zip.origin.json").write_text("{}")  # the mirror is a data root with a download under way
    assert main(["EuroSAT", "--root", str(tmp_path / "data"), "--mirror", str(tmp_path / "other")]) == 0
    assert sorted(os.listdir(other)) == ["EuroSAT.zip", "EuroSAT.zip.origin.json"]
    assert server.asked == []


def test_a_dataset_that_is_there_but_wrong(offer, server, tmp_path, capsys):
    made, folder = offer("EuroSAT"), tmp_path / "data/eurosat"
    shutil.copytree(made / "2750", folder / "2750")
    shutil.rmtree(folder / "2750/River")
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert "EuroSAT: broken, found 9 classes, expected 10" in text
    assert f"to have it fetched again, delete {folder}/2750" in text
    assert server.asked == []


def test_something_else_under_the_name_of_the_archive(offer, server, tmp_path, capsys):
    offer("EuroSAT")
    folder = tmp_path / "data/eurosat"
    folder.mkdir(parents=True)
    (folder / "EuroSAT.zip").write_bytes(b"<html>not found</html>")
    assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 0
    assert "EuroSAT.zip is a web page, not the file; it is now called EuroSAT.zip.damaged" in capsys.readouterr().out
    assert (folder / "EuroSAT.zip.damaged").read_bytes() == b"<html>not found</html>"


def test_an_archive_with_other_folders_than_expected(offer, server, tmp_path, capsys):
    offer("KaggleMushroom")
    folder = tmp_path / "data/kaggle_mushroom"
    folder.mkdir(parents=True)
    layouts.make("KaggleFlower", tmp_path / "other", images=2)
    wrong = published("flowers-recognition.zip", tmp_path / "other/kaggle_flower_recognition")
    (folder / "archive.zip").write_bytes(wrong)
    assert main(["KaggleMushroom", "--root", str(tmp_path / "data")]) == 1
    assert "archive.zip does not hold Mushrooms (at its top: flowers): unpack it by hand" in capsys.readouterr().out
    assert (folder / "archive.zip").exists()


def test_a_mirror_comes_first(offer, server, tmp_path, capsys):
    offer("UCF101", drive=False)
    row = SOURCES["UCF101"].row
    for file in row.files[:2]:
        content = published(file.name, tmp_path / "made/ucf101")
        server.files[f"/all/ucf101/{file.name}"] = content
    assert main(["UCF101", "--root", str(tmp_path / "data"), "--mirror", f"{server.url}/all/"]) == 0
    assert {path for path, _ in server.asked} >= {f"/all/ucf101/{file.name}" for file in row.files}
    text = capsys.readouterr().out
    assert "UCF101: ready" in text
    assert "note       split_zhou_UCF101.json is not there" in text  # the mirror does not have it
    assert "Without it the split is made by a rule: the published test list" in text


def test_a_mirror_with_the_published_split(offer, server, tmp_path, capsys):
    from tests.datasets.split_files import zhou_pets

    offer("OxfordPets")
    zhou_pets(tmp_path / "other")
    path = tmp_path / "other/oxford_pets/split_zhou_OxfordPets.json"
    server.files[f"/oxford_pets/{path.name}"] = path.read_bytes()
    assert main(["OxfordPets", "--root", str(tmp_path / "data"), "--mirror", server.url]) in (0, 1)
    assert json.loads((tmp_path / "data/oxford_pets" / path.name).read_text()) == json.loads(path.read_text())


def test_google_drive_without_gdown(offer, tmp_path, capsys):
    offer("UCF101", drive=False)
    assert main(["UCF101", "--root", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert "Google Drive needs the package gdown: `pip install gdown`" in text
    assert "from       https://drive.google.com/file/d/10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O/view" in text


def test_what_needs_an_account(tmp_path, server, capsys):
    assert main(["ImageNet", "Fashion20", "--root", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "ImageNet: has to be fetched by hand" in text
    assert "images/val/<class>/*" in text
    assert f"[ImageNet('{tmp_path}/imagenet/images', part)" in text
    assert "from       Baidu pan https://pan.baidu.com/s/1ITXWaRVVXi1PLnbXVa_kjA?pwd=67c4" in text


def test_two_at_once(offer, tmp_path, capsys):
    offer("EuroSAT")
    folder = tmp_path / "data/eurosat"
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    finally:
        os.close(handle)
    assert "EuroSAT: another download of it is running" in capsys.readouterr().out


def test_a_suite_and_what_ships_with_the_project(server, tmp_path, capsys):
    assert main(["Icon5", "Plant6", "--root", str(tmp_path / "data"), "--dry-run"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("Icon13: nothing to do, usable: 5,467 images")
    assert "by hand    flowers-recognition.zip (about 235 MB): https://www.kaggle.com/datasets/alxmamaev/" in text
    assert "fetch      Plant_leaf_diseases_dataset_without_augmentation.zip (about 868 MB): https://" in text
    assert "to fetch: about 868 MB; on disk at most about 1.9 GB; free in " in text
    assert not (tmp_path / "data").exists()
    assert main(["Icon5", "--root", str(tmp_path / "data")]) == 0


@pytest.mark.parametrize(
    "arguments, found",
    [
        (["OxfordPet", "--root", "x"], "did you mean OxfordPets?"),
        (["OxfordPets"], "required: --root"),
        (["OxfordPets", "--root", "x", "--mirror", "ftp://x/y"], "expected http://…, https://… or a folder"),
        (["OxfordPets", "--root", "x", "--mirror", "nowhere"], "there is no such folder"),
        (["OxfordPets", "--root", __file__], "is not a folder"),
        (["--root", "x"], "NAME"),
    ],
)
def test_wrong_arguments(server, capsys, arguments, found):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert found in capsys.readouterr().err
    assert server.asked == []
