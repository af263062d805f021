import json
import shutil

import pytest

from dassl.data.datasets import build_dataset
from tests.datasets import layouts
from tests.datasets.settings import config
from tests.datasets.split_files import dk_flowers, zhou_pets


def refused(kind, name, root):
    with pytest.raises(kind) as error:
        build_dataset(config(name, root))
    return str(error.value)


def test_missing_images_are_named_and_counted(tmp_path):
    def change(split):
        split["test"][0][0] = "gone_1.jpg"
        split["train"][0][0] = "elsewhere/gone_2.jpg"

    zhou_pets(tmp_path, change)
    text = refused(FileNotFoundError, "OxfordPets", tmp_path)
    assert "2 of 111 images of the split are not in" in text
    assert "gone_1.jpg" in text and "elsewhere/gone_2.jpg" in text
    assert "split_zhou_OxfordPets.json" in text


def test_at_most_three_offenders_are_shown(tmp_path):
    def change(split):
        for entry in split["test"]:
            entry[0] = "gone_" + entry[0]

    zhou_pets(tmp_path, change)
    text = refused(FileNotFoundError, "OxfordPets", tmp_path)
    assert "37 of 111 images" in text
    assert text.count("gone_") == 3


def test_one_label_with_two_names(tmp_path):
    zhou_pets(tmp_path, lambda split: split["test"][3].__setitem__(2, "poodle"))
    text = refused(ValueError, "OxfordPets", tmp_path)
    assert "label 3 has two names, 'breed_ad' and 'poodle'" in text


def test_too_few_classes(tmp_path):
    def change(split):
        for entries in split.values():
            entries[:] = [e for e in entries if e[1] < 30]

    zhou_pets(tmp_path, change)
    assert "found 30 classes, expected 37" in refused(ValueError, "OxfordPets", tmp_path)


def test_labels_beyond_the_class_list(tmp_path):
    dk_flowers(tmp_path, lambda content: content["test"][0].__setitem__(1, [5]))
    text = refused(ValueError, "KaggleFlower", tmp_path)
    assert "1 image with a label that is not in the class list" in text
    assert "test daisy/image_0003.jpg: label 5 of 5 classes" in text


def test_several_labels_an_image(tmp_path):
    dk_flowers(tmp_path, lambda content: content["test"][0].__setitem__(1, [0, 1]))
    text = refused(ValueError, "KaggleFlower", tmp_path)
    assert "as many labels as tasks of daisy/image_0003.jpg, found [0, 1] and [0]" in text
    dk_flowers(tmp_path / "twice", lambda content: content["test"].append([content["test"][0][0], [1], [0]]))
    assert "in test with the labels 0 and 1" in refused(ValueError, "KaggleFlower", tmp_path / "twice")


def test_an_image_to_train_and_to_test_on(tmp_path):
    zhou_pets(tmp_path, lambda split: split["test"].extend(split["train"][:4]))
    text = refused(ValueError, "OxfordPets", tmp_path)
    assert "4 images in more than one split" in text
    assert "Amber_fern_aa_1.jpg in train and test" in text and text.count(" in train and test") == 3


def test_an_image_with_two_labels(tmp_path):
    dk_flowers(tmp_path, lambda content: content["test"].append([content["test"][0][0], [4], [0]]))
    text = refused(ValueError, "KaggleFlower", tmp_path)
    assert "daisy/image_0003.jpg in test with the labels 0 and 4" in text


def test_an_image_may_serve_several_tasks(tmp_path):
    """A garment is to train on in one task and to test on in another."""
    layouts.make("Fashion20", tmp_path)
    build_dataset(config("Fashion20", tmp_path))
    path = tmp_path / "fashion20/split_fixed_Fashion20.json"
    content = json.loads(path.read_text())
    image, _, task = content["train"][0]
    content["test"].append([image, 0, task + 1])
    path.write_text(json.dumps(content))
    assert len(build_dataset(config("Fashion20", tmp_path)).test) == len(content["test"])


def test_paths_from_the_top_of_another_machine(tmp_path):
    zhou_pets(
        tmp_path, lambda split: split["test"][0].__setitem__(0, f"{tmp_path}/oxford_pets/images/Amber_fern_aa_3.jpg")
    )
    assert "1 of 111 images of the split is not in" in refused(FileNotFoundError, "OxfordPets", tmp_path)


def test_a_path_that_is_no_text(tmp_path):
    zhou_pets(tmp_path, lambda split: split["test"][0].__setitem__(0, 5))
    assert "expected a path at the beginning of [5, 0, 'breed_aa']" in refused(ValueError, "OxfordPets", tmp_path)


@pytest.mark.parametrize("text", ["", "<html>", "[]", "{}", '{"train": [], "val": [], "test": [["a.jpg"]]}'])
def test_a_file_that_is_no_split(tmp_path, text):
    layouts.make("OxfordPets", tmp_path)
    (tmp_path / "oxford_pets/split_zhou_OxfordPets.json").write_text(text)
    found = refused(ValueError, "OxfordPets", tmp_path)
    assert "split_zhou_OxfordPets.json is not a split file of a known kind" in found


def test_no_image_to_test_on(tmp_path):
    zhou_pets(tmp_path, lambda split: split["test"].clear())
    assert "no image to test on" in refused(ValueError, "OxfordPets", tmp_path)


def test_a_class_folder_too_many_is_named_where_the_names_are_known(tmp_path):
    layouts.make("EuroSAT", tmp_path)
    shutil.copytree(tmp_path / "eurosat/2750/River", tmp_path / "eurosat/2750/Creek")
    text = refused(ValueError, "EuroSAT", tmp_path)
    assert "found 11 classes, expected 10; not among the expected ones: Creek" in text


def test_a_class_folder_too_many_where_the_names_are_not_known(tmp_path):
    layouts.make("Caltech101", tmp_path)
    shutil.copytree(
        tmp_path / "caltech-101/101_ObjectCategories/Faces", tmp_path / "caltech-101/101_ObjectCategories/A"
    )
    text = refused(ValueError, "Caltech101", tmp_path)
    assert "found 101 classes, expected 100; first ones: A, Faces, Leopards" in text


def test_an_empty_class_folder(tmp_path):
    layouts.make("EuroSAT", tmp_path)
    for path in (tmp_path / "eurosat/2750/River").iterdir():
        path.unlink()
    assert "without an image" in refused(ValueError, "EuroSAT", tmp_path)
    assert "River" in refused(ValueError, "EuroSAT", tmp_path)


def test_a_part_without_some_classes(tmp_path):
    layouts.make("FruitVegetable", tmp_path)
    shutil.rmtree(tmp_path / "fruit_vegetable/images/test/jalepeno")
    text = refused(ValueError, "FruitVegetable", tmp_path)
    assert "lacks class folders of the other parts: jalepeno" in text


@pytest.mark.parametrize(
    "name, file, old, new, expected",
    [
        ("FGVCAircraft", "fgvc_aircraft/images_variant_val.txt", "707-320", "747", "a variant of variants.txt"),
        ("OxfordPets", "oxford_pets/annotations/test.txt", " 37 1 37", " 38 1 38", "expected 1 to 37"),
        ("OxfordPets", "oxford_pets/annotations/test.txt", " 37 1 37", " 36 2 36", "class 36 has two names"),
        ("SUN397", "sun397/Testing_01.txt", "/a/abbey/", "/a/abby/", "a folder of ClassName.txt"),
        ("UCF101", "ucf101/ucfTrainTestlist/testlist01.txt", "YoYo/", "Yo/", "an action of classInd.txt"),
        ("OxfordFlowers", "oxford_flowers/cat_to_name.json", '"7":', '"x":', "no name for class 7"),
        ("OxfordFlowers", "oxford_flowers/cat_to_name.json", '{"1"', '<html>{"1"', "is not JSON of the form"),
        ("OxfordFlowers", "oxford_flowers/imagelabels.mat", "MATLAB", "HTML", "cannot be read as a MATLAB file"),
        ("Fashion20", "fashion20/task_info.csv", "\t4\t", " 4 ", "four columns separated by tabs"),
    ],
)
def test_annotations_that_contradict_themselves(tmp_path, name, file, old, new, expected):
    layouts.make(name, tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(b"<html>" if path.suffix == ".mat" else content.replace(old.encode(), new.encode()))
    text = refused(ValueError, name, tmp_path)
    assert expected in text
    assert path.name in text


def test_fashion_folders_beyond_the_class_list(tmp_path):
    layouts.make("Fashion20", tmp_path)
    shutil.copytree(tmp_path / "fashion20/images/0/0", tmp_path / "fashion20/images/0/4")
    assert "expected class numbers 0 to 3" in refused(ValueError, "Fashion20", tmp_path)


def test_cars_test_annotations_without_labels(tmp_path):
    import numpy as np
    from scipy.io import savemat

    layouts.make("StanfordCars", tmp_path)
    notes = np.zeros((1, 2), dtype=[("bbox_x1", "O"), ("fname", "O")])
    notes[0, 0], notes[0, 1] = (1, "00001.jpg"), (1, "00002.jpg")
    savemat(str(tmp_path / "stanford_cars/cars_test_annos_withlabels.mat"), {"annotations": notes})
    assert "found the class number ''" in refused(ValueError, "StanfordCars", tmp_path)


@pytest.mark.parametrize("number", ["\N{SUPERSCRIPT TWO}", "1" * 6000])
def test_damaged_annotations_are_one_message(number, tmp_path):
    folder = layouts.make("OxfordPets", tmp_path) / "oxford_pets" / "annotations"
    for file in folder.glob("*.txt"):
        lines = file.read_text().splitlines()
        name, *rest = lines[-1].split()
        file.write_text("\n".join([*lines[:-1], " ".join([name, number, *rest[1:]])]) + "\n", encoding="utf-8")
    assert "OxfordPets: cannot be used: its files in" in refused(ValueError, "OxfordPets", tmp_path)


def test_a_deeply_nested_split_file_is_one_message(tmp_path):
    zhou_pets(tmp_path, lambda split: None)
    (file,) = tmp_path.rglob("split_zhou_OxfordPets.json")
    file.write_text("[" * 100_000)
    assert "is not a split file of a known kind" in refused(ValueError, "OxfordPets", tmp_path)
