"""Common mistakes with data folders are recognised, and the printed command fixes them."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.datasets import layouts
from tests.datasets.checking import checked, field

PAGE_ON_CHECK = (Path(__file__).parents[3] / "docs/data-check.md").read_text(encoding="utf-8")


def nest(folder, name):
    """Put all that lies in a folder one level deeper, into `name`."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    aside.rename(folder / name)


def nested(dataset, folder, *names):
    """What puts all that lies in a folder of a dataset into `names`, one after the other."""

    def change(root):
        layouts.make(dataset, root)
        for name in names:
            nest(root / folder, name)

    return change


def moved(dataset, here, there):
    """What gives a folder or file of a dataset another place."""

    def change(root):
        layouts.make(dataset, root)
        (root / here).rename(root / there)

    return change


caltech_too_deep = nested("Caltech101", "caltech-101", "caltech-101")
dtd_two_too_deep = nested("DescribableTextures", "dtd", "dtd", "dtd-r1.0.1")
images_in_images = nested("EuroSAT", "eurosat/2750", "2750")
flat_images_in_images = nested("OxfordPets", "oxford_pets/images", "images")
aircraft_data = nested("FGVCAircraft", "fgvc_aircraft", "data")


def aircraft_archive(root):
    layouts.make("FGVCAircraft", root)
    nest(root / "fgvc_aircraft", "data")
    (root / "fgvc_aircraft").rename(root / "fgvc-aircraft-2013b")


folder_capitals = moved("OxfordPets", "oxford_pets", "Oxford_Pets")
images_capitals = moved("OxfordPets", "oxford_pets/images", "oxford_pets/Images")
list_capitals = moved("OxfordPets", "oxford_pets/annotations/test.txt", "oxford_pets/annotations/Test.txt")
torchvision_name = moved("OxfordPets", "oxford_pets", "oxford-iiit-pet")


def without_folder(root):
    layouts.make("Caltech101", root)
    (root / "caltech-101/101_ObjectCategories").rename(root / "101_ObjectCategories")
    (root / "caltech-101").rmdir()


def sun_without_folder(root):
    (root / "SUN397/a/abbey").mkdir(parents=True)


def classes_too_high(root):
    layouts.make("EuroSAT", root)
    (root / "eurosat/2750").rename(root / "aside")
    (root / "eurosat").rmdir()
    (root / "aside").rename(root / "eurosat")


other_images_name = moved("EuroSAT", "eurosat/2750", "eurosat/EuroSAT_RGB")


def one_deeper_in_root(root):
    layouts.make("EuroSAT", root)
    layouts.make("KaggleFlower", root)
    (root / "downloads").mkdir()
    (root / "eurosat").rename(root / "downloads/eurosat")
    (root / "oxford_pets").mkdir()  # so that the root is right


def list_elsewhere(root):
    layouts.make("StanfordCars", root, images=2)
    (root / "stanford_cars/devkit/cars_meta.mat").rename(root / "stanford_cars/cars_meta.mat")


@pytest.mark.parametrize(
    "name, broken",
    [
        ("Caltech101", caltech_too_deep),
        ("DescribableTextures", dtd_two_too_deep),
        ("EuroSAT", images_in_images),
        ("OxfordPets", flat_images_in_images),
        ("FGVCAircraft", aircraft_data),
        ("FGVCAircraft", aircraft_archive),
        ("OxfordPets", folder_capitals),
        ("OxfordPets", images_capitals),
        ("OxfordPets", list_capitals),
        ("OxfordPets", torchvision_name),
        ("Caltech101", without_folder),
        ("EuroSAT", classes_too_high),
        ("EuroSAT", other_images_name),
        ("StanfordCars", list_elsewhere),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_printed_command_fixes_the_mistake(tmp_path, capsys, name, broken):
    root = tmp_path / "my data"  # with a space, which the commands must quote
    root.mkdir()
    broken(root)
    status, text = checked(capsys, name, "--root", root)
    assert status == 1
    for fix in field(text, "fix"):
        subprocess.run(fix, shell=True, check=True)
    status, text = checked(capsys, name, "--root", root)
    assert status == 0, text
    assert not list(root.rglob("*.tmp")) and not list(root.rglob("aside"))


def test_images_folder_of_the_dataset_s_own_name(tmp_path, capsys):
    sun_without_folder(tmp_path)
    _, text = checked(capsys, "SUN397", "--root", tmp_path)
    assert field(text, "mistake") == [f"{tmp_path / 'SUN397'} belongs at {tmp_path / 'sun397/SUN397'}"]
    subprocess.run(field(text, "fix")[0], shell=True, check=True)
    assert (tmp_path / "sun397/SUN397/a/abbey").is_dir()


def test_a_dataset_in_another_folder_of_the_root(tmp_path, capsys):
    one_deeper_in_root(tmp_path)
    _, text = checked(capsys, "EuroSAT", "OxfordPets", "KaggleFlower", "--root", tmp_path)
    fix = [line for line in field(text, "fix") if "eurosat" in line or "downloads" in line]
    assert fix == [f"--root {tmp_path / 'downloads'}"]


def test_the_page_on_it_shows_what_is_printed(tmp_path, capsys):
    for name in ("OxfordPets", "DescribableTextures"):
        layouts.make(name, tmp_path)
    nest(tmp_path / "dtd", "dtd")
    yaml = tmp_path / "suite.yaml"
    yaml.write_text("DATASET:\n  NAME: Suite\n  TASKS: [OxfordPets, DescribableTextures, EuroSAT, Icon13/faces]\n")
    _, text = checked(capsys, yaml, "--root", tmp_path)
    shown = re.search(r"<!-- printed: suite -->\n\n```\n(.*?)```", PAGE_ON_CHECK, re.DOTALL)[1]
    assert text.replace(str(tmp_path), "/data") == shown


# ---- the data root -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["..", "eurosat", "eurosat/2750"])
def test_a_wrong_data_root(tmp_path, capsys, given):
    layouts.make("EuroSAT", tmp_path / "data")
    layouts.make("KaggleFlower", tmp_path / "data")
    for names in (["EuroSAT"], ["General10"], ["EuroSAT", "General10"]):
        status, text = checked(capsys, *names, "--root", tmp_path / "data" / given)
        assert status == 1
        lines = text.splitlines()
        head = next(i for i, line in enumerate(lines) if line.startswith("  mistake"))
        assert lines[head][11:].strip().startswith("another data root: ")
        assert lines[head + 1].split() == ["fix", "--root", str(tmp_path / "data")]
        assert "EuroSAT: missing" not in text  # it is there, below the right root
    status, _ = checked(capsys, "EuroSAT", "--root", tmp_path / "data")
    assert status == 0


def test_a_data_root_that_is_not_there(tmp_path, capsys):
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path / "nowhere")
    assert status == 1
    assert f"folder not found: {tmp_path / 'nowhere'}" in field(text, "mistake")[0]
