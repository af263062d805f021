"""Other sources than the published URLs: archives that users bring, mirrors, Google Drive, accounts."""

import json
import os
import shutil

import pytest

from dassl.utils.locks import locked
from datasets.download import main
from datasets.suites import SOURCES
from tests.datasets import layouts
from tests.datasets.fetch.conftest import leftovers
from tests.datasets.fetch.published import published


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


def test_an_archive_brought_after_an_interrupted_download_is_kept(offer, server, tmp_path, capsys):
    offer("EuroSAT")
    command, folder = ["EuroSAT", "--root", str(tmp_path / "data")], tmp_path / "data/eurosat"
    server.cuts["/EuroSAT.zip"] = [1000, 0, 0]
    assert main(command) == 1
    (folder / "EuroSAT.zip").write_bytes(server.files["/EuroSAT.zip"])
    assert main(command) == 0
    assert sorted(os.listdir(folder)) == ["2750", "EuroSAT.zip"]


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
    assert f"to download it again, delete {folder}/2750" in text
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
    assert "note       split_zhou_UCF101.json is missing" in text  # the mirror does not have it
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
    assert "ImageNet: has to be downloaded by hand" in text
    assert "images/val/<class>/*" in text
    assert f"[ImageNet('{tmp_path}/imagenet/images', part)" in text
    assert "from       Baidu pan https://pan.baidu.com/s/1ITXWaRVVXi1PLnbXVa_kjA?pwd=67c4" in text


def test_two_at_once(offer, tmp_path, capsys):
    offer("EuroSAT")
    (tmp_path / "data").mkdir()
    with locked(tmp_path / "data/.eurosat.lock"):
        assert main(["EuroSAT", "--root", str(tmp_path / "data")]) == 1
    assert "EuroSAT: another download of it is running" in capsys.readouterr().out


def test_a_suite_and_what_ships_with_the_project(server, tmp_path, capsys):
    assert main(["Icon5", "Plant6", "--root", str(tmp_path / "data"), "--dry-run"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("Icon13: nothing has to be downloaded, usable: 5,467 images")
    assert "by hand    flowers-recognition.zip (about 235 MB): https://www.kaggle.com/datasets/alxmamaev/" in text
    assert "download   Plant_leaf_diseases_dataset_without_augmentation.zip (about 868 MB): https://" in text
    assert "to download: about 868 MB; on disk at most about 1.9 GB; free in " in text
    assert not (tmp_path / "data").exists()
    assert main(["Icon5", "--root", str(tmp_path / "data")]) == 0


def test_what_ships_with_the_project_needs_no_root(server, capsys):
    assert main(["icon5", "Icon13"]) == 0
    assert capsys.readouterr().out.startswith("Icon13: nothing has to be downloaded, usable: ")
    assert server.asked == []


@pytest.mark.parametrize(
    "arguments, found",
    [
        (["OxfordPet", "--root", "x"], "did you mean OxfordPets?"),
        (
            ["icon13", "OxfordPets"],
            "error: OxfordPets needs --root DATA: the directory that contains all dataset directories",
        ),
        (["OxfordPets", "--root", "x", "--mirror", "ftp://x/y"], "expected http://…, https://… or a folder"),
        (["OxfordPets", "--root", "x", "--mirror", "nowhere"], "this folder does not exist"),
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
