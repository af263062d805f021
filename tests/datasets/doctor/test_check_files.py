"""Archives that were not unpacked, files that are not images, empty and flat folders are recognised."""

import io
import shlex
import shutil
import subprocess
import zipfile

import pytest

from dassl.data.datasets import build_dataset
from datasets import download, synsets
from datasets.reading import UnusableData
from tests.datasets import layouts
from tests.datasets.checking import checked, field
from tests.datasets.settings import config
from tests.datasets.split_files import zhou_pets

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1234\n"
PAGE = b"<!DOCTYPE html><html><body>Too many users have viewed or downloaded this file</body></html>"


# ---- archives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["flowers-recognition.zip", "kaggle_flower_recognition/archive.zip"])
def test_a_published_archive_that_was_not_unpacked(tmp_path, capsys, where):
    """The printed command unpacks it, without a download."""
    layouts.make("KaggleFlower", tmp_path)
    folder = tmp_path / "kaggle_flower_recognition"
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in (folder / "flowers").rglob("*.jpg"):
            archive.write(file, file.relative_to(folder))
    shutil.rmtree(folder)
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / "all.zip").rename(tmp_path / where)
    status, text = checked(capsys, "KaggleFlower", "--root", tmp_path)
    assert status == 1
    assert field(text, "mistake") == [f"{tmp_path / where} is not unpacked"]
    [fix] = field(text, "fix")
    *bring, unpack = fix.split(" && ")
    if bring:
        subprocess.run(" && ".join(bring), shell=True, check=True)
    assert unpack == f"python -m datasets.download KaggleFlower --root {tmp_path}"
    assert download.main(shlex.split(unpack)[3:]) == 0
    capsys.readouterr()
    assert checked(capsys, "KaggleFlower", "--root", tmp_path)[0] == 0


@pytest.mark.parametrize("where", ["eurosat", "eurosat/2750"])
def test_any_archive_in_the_folder(tmp_path, capsys, where):
    (tmp_path / where).mkdir(parents=True)
    archive = tmp_path / where / "some.tar.gz"
    archive.write_bytes(b"any")
    (tmp_path / "other.zip").write_bytes(b"of no known name")
    _, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    place = tmp_path / "eurosat"
    assert field(text, "mistake") == [f"{archive} is not unpacked; unpack it so that {place} contains 2750/"]


# ---- images that are none, empty folders, flat folders ---------------------------------------------------------------


@pytest.mark.parametrize(
    "content, reason, remedy",
    [
        (LFS, "a Git LFS pointer", "git lfs pull"),
        (PAGE, "a web page", "download or unpack them again"),
        (b"", "an empty file", "download or unpack them again"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_files_that_are_not_images(tmp_path, capsys, content, reason, remedy, split):
    zhou_pets(tmp_path) if split else layouts.make("OxfordPets", tmp_path)
    for image in (tmp_path / "oxford_pets/images").glob("*.jpg"):
        image.write_bytes(content)
    status, text = checked(capsys, "OxfordPets", "--root", tmp_path)
    head = text.splitlines()[0]
    assert status == 1
    assert head.startswith("OxfordPets: cannot be used: 24 of 24 images looked at are not images, e.g. ")
    assert reason in head and remedy in head
    with pytest.raises(UnusableData, match=f"are not images, e.g. .*{reason}"):
        build_dataset(config("OxfordPets", tmp_path))


@pytest.mark.parametrize("file", ["imagelabels.mat", "cat_to_name.json", "split_zhou_OxfordFlowers.json"])
def test_lists_that_are_something_else(tmp_path, capsys, file):
    layouts.make("OxfordFlowers", tmp_path)
    (tmp_path / "oxford_flowers" / file).write_bytes(LFS)
    status, text = checked(capsys, "OxfordFlowers", "--root", tmp_path)
    assert status == 1 and file in text.splitlines()[0]


def test_an_empty_class_folder(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    (tmp_path / "eurosat/2750/New folder").mkdir()
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert status == 1
    assert f"class folders without an image in {tmp_path / 'eurosat/2750'}: New folder" in text.splitlines()[0]


def test_an_empty_folder(tmp_path, capsys):
    (tmp_path / "eurosat").mkdir()
    _, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert field(text, "mistake") == [f"{tmp_path / 'eurosat'} is empty"]
    (tmp_path / "eurosat/2750").mkdir()
    _, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert f"{tmp_path / 'eurosat/2750'} holds no class folders" in text.splitlines()[0]


def test_imagenet_with_a_flat_val(tmp_path, capsys):
    images = tmp_path / "imagenet/images"
    for name in synsets.shipped_ids("imagenet"):
        (images / "train" / name).mkdir(parents=True)
        (images / "train" / name / "1.JPEG").write_bytes(b"\xff\xd8\xff")
    (images / "val").mkdir()
    (images / "val/ILSVRC2012_val_00000001.JPEG").write_bytes(b"\xff\xd8\xff")
    status, text = checked(capsys, "ImageNet", "--root", tmp_path)
    assert status == 1
    assert f"{images / 'val'} is flat: 1 image in it and no class folders" in text.splitlines()[0]


def test_other_flat_images(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    for folder in list((tmp_path / "eurosat/2750").iterdir()):
        for number, image in enumerate(folder.iterdir()):
            image.rename(tmp_path / f"eurosat/2750/{folder.name}_{number}.jpg")
        folder.rmdir()
    _, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert f"{tmp_path / 'eurosat/2750'} is flat: 40 images in it and no class folders" in text.splitlines()[0]


def test_a_png_by_another_name_is_an_image(tmp_path, capsys):
    from PIL import Image

    layouts.make("EuroSAT", tmp_path)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    for image in (tmp_path / "eurosat/2750").rglob("*.jpg"):
        image.write_bytes(file.getvalue())
    assert checked(capsys, "EuroSAT", "--root", tmp_path, "--deep")[0] == 0
