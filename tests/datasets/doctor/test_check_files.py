"""Archives that were not unpacked, files that are no images, empty and flat folders: all recognised by name."""

import io
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from dassl.data.datasets import build_dataset
from tests.datasets import layouts
from tests.datasets.checking import checked, field
from tests.datasets.settings import config
from tests.datasets.split_files import zhou_pets

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1234\n"
PAGE = b"<!DOCTYPE html><html><body>Too many users have viewed or downloaded this file</body></html>"


# ---- archives ------------------------------------------------------------------------------------------------------


def tar(path, folder, name):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, name)
    shutil.rmtree(folder)


def zipped(path, folder, name):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, f"{name}/{file.relative_to(folder)}")
    shutil.rmtree(folder)


@pytest.mark.parametrize("where", ["mushrooms.tgz", "Kaggle_Mushroom.tar.gz", "kaggle_mushroom/some.tar.gz"])
def test_a_tar_that_was_not_unpacked(tmp_path, capsys, where):
    layouts.make("KaggleMushroom", tmp_path)
    folder = tmp_path / "kaggle_mushroom"
    tar(tmp_path / where, *([folder / "Mushrooms", "Mushrooms"] if "/" in where else [folder, "kaggle_mushroom"]))
    status, text = checked(capsys, "KaggleMushroom", "--root", tmp_path)
    assert status == 1
    assert field(text, "mistake")[0] == f"archive not unpacked: {tmp_path / where}"
    subprocess.run(field(text, "fix")[0], shell=True, check=True)
    status, text = checked(capsys, "KaggleMushroom", "--root", tmp_path)
    assert status == 0, text


@pytest.mark.parametrize("top", ["2750", "."])
def test_a_zip_in_the_folder_of_images(tmp_path, capsys, top):
    layouts.make("EuroSAT", tmp_path)
    zipped(tmp_path / "all.zip", tmp_path / "eurosat/2750", top)
    (tmp_path / "eurosat/2750").mkdir()
    (tmp_path / "all.zip").rename(tmp_path / "eurosat/2750/all.zip")
    _, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert field(text, "mistake")[0].startswith("archive not unpacked: ")
    where = tmp_path / "eurosat" if top == "2750" else tmp_path / "eurosat/2750"
    assert field(text, "fix")[0] == f"unzip -q {tmp_path / 'eurosat/2750/all.zip'} -d {where}"


@pytest.mark.parametrize(
    "content, text",
    [(PAGE, "a web page"), (b"", "an empty file"), (b"PK\3\4 cut off", "cannot be read as an archive")],
)
def test_an_archive_that_is_none(tmp_path, capsys, content, text):
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat/EuroSAT.zip").write_bytes(content)
    _, found = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert field(found, "mistake")[0].startswith(f"damaged archive: {tmp_path / 'eurosat/EuroSAT.zip'}")
    assert text in field(found, "mistake")[0]


# ---- images that are none, empty folders, flat folders ---------------------------------------------------------------


@pytest.mark.parametrize(
    "content, mistake, fix",
    [(LFS, "Git LFS pointers", "lfs pull"), (PAGE, "web pages", "--deep"), (b"", "empty files", "--deep")],
)
@pytest.mark.parametrize("split", [False, True])
def test_files_that_are_no_images(tmp_path, capsys, content, mistake, fix, split):
    zhou_pets(tmp_path) if split else layouts.make("OxfordPets", tmp_path)
    for image in (tmp_path / "oxford_pets/images").glob("*.jpg"):
        image.write_bytes(content)
    status, text = checked(capsys, "OxfordPets", "--root", tmp_path)
    assert status == 1
    assert field(text, "mistake")[0].startswith(f"{mistake} saved as images: 24 of 24 images looked at")
    assert fix in field(text, "fix")[0]
    with pytest.raises(ValueError, match=f"{mistake} saved as images"):
        build_dataset(config("OxfordPets", tmp_path))


@pytest.mark.parametrize("file", ["imagelabels.mat", "cat_to_name.json", "split_zhou_OxfordFlowers.json"])
def test_lists_that_are_something_else(tmp_path, capsys, file):
    layouts.make("OxfordFlowers", tmp_path)
    (tmp_path / "oxford_flowers" / file).write_bytes(LFS)
    _, text = checked(capsys, "OxfordFlowers", "--root", tmp_path)
    assert field(text, "mistake")[0].startswith("Git LFS pointers saved as lists: ")
    assert file in field(text, "mistake")[0]


def test_an_empty_class_folder(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    shutil.rmtree(tmp_path / "eurosat/2750/River")
    (tmp_path / "eurosat/2750/River").mkdir()
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert status == 1
    assert field(text, "mistake")[0].startswith(f"empty class folders: 1 of 10 in {tmp_path / 'eurosat/2750'}: River")


@pytest.mark.parametrize("folder", ["eurosat", "eurosat/2750"])
def test_an_empty_folder(tmp_path, capsys, folder):
    (tmp_path / folder).mkdir(parents=True)
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert status == 1
    assert field(text, "mistake")[0] == f"empty folder: there is nothing in {tmp_path / folder}"


def test_imagenet_with_a_flat_val(tmp_path, capsys):
    images = tmp_path / "imagenet/images"
    for file in ("train/n01440764/n01440764_1.JPEG", "val/ILSVRC2012_val_00000001.JPEG"):
        (images / file).parent.mkdir(parents=True)
        (images / file).write_bytes(b"\xff\xd8\xff")
    status, text = checked(capsys, "ImageNet", "--root", tmp_path)
    assert status == 1
    assert field(text, "mistake")[0].startswith(f"ImageNet val/ is flat: 1 image in {images / 'val'}")
    assert field(text, "fix")[0].startswith(f"cd {images / 'val'} && ")
    assert "valprep.sh" in field(text, "fix")[0]


def test_other_flat_images(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    for folder in list((tmp_path / "eurosat/2750").iterdir()):
        for number, image in enumerate(folder.iterdir()):
            image.rename(tmp_path / f"eurosat/2750/{folder.name}_{number}.jpg")
        folder.rmdir()
    _, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert field(text, "mistake")[0].startswith(f"images are flat: 40 images in {tmp_path / 'eurosat/2750'}")


def test_a_png_by_another_name_is_an_image(tmp_path, capsys):
    from PIL import Image

    layouts.make("EuroSAT", tmp_path)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    for image in (tmp_path / "eurosat/2750").rglob("*.jpg"):
        image.write_bytes(file.getvalue())
    assert checked(capsys, "EuroSAT", "--root", tmp_path, "--deep")[0] == 0
