"""Imperfect own data: classes of a single image, files that are not images, rotated photographs."""

import json

import pytest
from PIL import Image

import train
from dassl.data.datasets import build_dataset
from tests.datasets.checking import checked, field
from tests.datasets.own.images import class_folders, draw
from tests.datasets.settings import config


@pytest.fixture
def yaml_of(tmp_path):
    """yaml_of(folder): a file with a suite of the images in it."""

    def write(folder, **entry):
        file = tmp_path / "own.yaml"
        suite = {"NAME": "Suite", "TASKS": [{"ROOT": str(folder), **entry}]}
        file.write_text(json.dumps({"DATASET": suite}))
        return file

    return write


@pytest.fixture
def trained(tmp_path, capsys):
    """trained(YAML file, *settings): (status, what it prints, its errors) of a short run."""

    def call(file, *settings):
        out = tmp_path / "out"
        command = [
            "--trainer",
            "MTCoOp",
            "--dataset-config-file",
            file,
            "--output-dir",
            out,
            "--overwrite",
            "--seed",
            1,
        ]
        small = "OPTIM.MAX_EPOCH 1 DATALOADER.NUM_WORKERS 0 MODEL.BACKBONE.NAME tiny INPUT.SIZE (64,64) USE_CUDA False"
        status = train.main([*map(str, command), *small.split(), *settings])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


# ---- classes of one image ------------------------------------------------------------------------------------------


def test_a_task_without_a_test_image_is_refused_before_a_model_is_loaded(tmp_path, yaml_of, trained, capsys):
    folder = class_folders(tmp_path / "photos", count=1)
    file = yaml_of(folder)
    status, text = checked(capsys, file)
    assert status == 1 and "own: cannot be used" in text.replace("Suite", "own")
    assert "no image to test on: photos; add images" in text
    status, out, err = trained(file)
    assert status == 2 and "error: Suite: no image to test on: photos; add images" in err and "Loading" not in out
    assert not list(folder.glob("*.json"))  # else images that are added would be left out
    draw(folder, *(f"{name}/second.png" for name in ("ant", "bee", "cow")))
    assert len(build_dataset(config("Suite", TASKS=[{"ROOT": str(folder)}])).test) == 3


def test_whoever_wants_no_test_can_train_on_a_single_image_of_each_class(tmp_path, yaml_of, trained):
    status, out, err = trained(yaml_of(class_folders(tmp_path / "photos", count=1)), "TEST.NO_TEST", "True")
    assert (status, err) == (0, "") and (tmp_path / "out/prompt_learner/model.pth.tar-1").is_file()
    assert json.loads((tmp_path / "out/results.json").read_text())["status"] == "complete"


def test_classes_without_a_test_image_or_a_training_image_are_named(tmp_path, yaml_of, capsys):
    folder = class_folders(tmp_path / "photos", ("ant", "bee"))
    class_folders(folder, ("cow",), 1)
    expected = "WARNING: no test image of 1 class: cow"
    status, text = checked(capsys, yaml_of(folder))
    assert status == 0 and field(text, "note") == [expected]
    build_dataset(config("Suite", TASKS=[{"ROOT": str(folder)}]))
    assert f"photos: {expected}\n" in capsys.readouterr().out
    parts = {"train": ["ant/1.png", "bee/1.png"], "val": [], "test": ["ant/2.png", "cow/0.png"]}
    (folder / "mine.json").write_text(json.dumps(parts))
    status, text = checked(capsys, yaml_of(folder, SPLIT="mine.json"))
    gaps = [note for note in field(text, "note") if note.startswith("WARNING")]
    assert gaps == ["WARNING: no training image of 1 class: cow", "WARNING: no test image of 1 class: bee"]


def test_half_the_classes_of_which_none_is_tested(tmp_path):
    folder = class_folders(tmp_path / "photos", ("ant", "bee"))
    class_folders(folder, ("cow", "dog"), 1)

    def build(classes):
        return build_dataset(config("Suite", TASKS=[{"ROOT": str(folder)}], SUBSAMPLE_CLASSES=classes))

    assert len(build("base").test) == 6
    with pytest.raises(ValueError, match="Suite: in the new classes there is no image to test on: photos"):
        build("new")


def test_images_to_test_on_alone_are_not_trained_on(tmp_path, yaml_of, trained):
    for part in ("val", "test"):
        class_folders(tmp_path / "photos" / part, count=2)
    status, out, err = trained(yaml_of(tmp_path / "photos"))
    assert status == 2 and err == "error: Suite has no training images, so no batch can be formed\n"


# ---- broken files --------------------------------------------------------------------------------------------------


def test_files_that_are_not_images_are_all_named_and_no_split_is_made_of_them(tmp_path, yaml_of, trained, capsys):
    folder = class_folders(tmp_path / "photos", count=40)  # more than are looked at in large datasets
    (folder / "ant/7.png").write_bytes(b"")
    (folder / "bee/31.png").write_text("hello")
    file = yaml_of(folder)
    status, text = checked(capsys, file)
    assert status == 1 and "2 files that cannot be read; no split is made" in text
    assert sorted(line.split(": ")[0].split("/")[-2:] for line in field(text, "bad")) == [
        ["ant", "7.png"],
        ["bee", "31.png"],
    ]
    status, out, err = trained(file)
    assert status == 2 and "ant/7.png: the file is empty" in err and "bee/31.png: not an image format" in err
    assert "Loading" not in out and not list(folder.glob("*.json"))
    (folder / "ant/7.png").unlink()
    (folder / "bee/31.png").unlink()
    assert checked(capsys, file)[0] == 0


def test_an_image_that_breaks_a_run_leads_to_the_list_of_all(tmp_path, yaml_of, trained, capsys):
    folder = class_folders(tmp_path / "photos", count=2)
    for name in ("ant", "cow"):
        for i in range(2):
            path = folder / name / f"{i}.png"
            Image.effect_noise((50, 50), 90).save(path)
            path.write_bytes(path.read_bytes()[:900])  # the header is whole
    status, _, err = trained(yaml_of(folder))
    command = err.strip().rpartition("To list all unreadable images: ")[2]
    assert status == 2 and command.startswith("python -m datasets.check ") and command.endswith(" --deep")
    status, text = checked(capsys, *command.split()[3:])
    assert status == 1 and len(field(text, "bad")) == 4


# ---- photographs ---------------------------------------------------------------------------------------------------


def test_rotated_photographs_are_reported(tmp_path, yaml_of, capsys):
    folder = class_folders(tmp_path / "photos")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("ant", "bee"):
        Image.new("RGB", (16, 8)).save(folder / name / "phone.jpg", exif=exif)
    (note,) = field(checked(capsys, yaml_of(folder))[1], "note")
    assert note.startswith("2 photographs ") and "INPUT.EXIF_ROTATE True" in note
    build_dataset(config("Suite", TASKS=[{"ROOT": str(folder)}]))
    assert f"photos: {note}" in capsys.readouterr().out


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_task_name_is_reported(tmp_path, yaml_of, capsys, empty):
    folder = class_folders(tmp_path / "farm_animals", count=2)
    entry = {"ROOT": str(folder), "TASK_NAME": empty}
    assert build_dataset(config("Suite", TASKS=[entry])).space.tasks[0].name == "farm animals"
    expected = "TASK_NAME is empty; SoftCPT reads 'farm animals' instead"
    assert f"farm_animals: {expected}\n" in capsys.readouterr().out
    assert expected in field(checked(capsys, yaml_of(folder, TASK_NAME=empty))[1], "note")
