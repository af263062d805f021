"""Public few-shot sets: exactly the listed images, and one clear error for files that do not fit."""

import hashlib
import json

import pytest

import train
from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.fewshot_files import find_files
from datasets.icon13.source import read_index
from tests.datasets.settings import config
from tests.datasets.split_files import PETS, zhou_pets


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """(data root, CoOp's split): two training, one validation and one test image of each of 37 breeds."""
    root = tmp_path_factory.mktemp("pets")

    def change(split):
        images = sorted(path.name for path in (root / "oxford_pets/images").glob("*.jpg"))
        spare = [images[label * 6 + 3] for label in range(37)]
        split["train"] += [[name, label, PETS[label]] for label, name in enumerate(spare)]

    return root, zhou_pets(root, change)


def images_of(items):
    return sorted((item.impath.rpartition("/")[2], item.label) for item in items or [])


def lines(path, entries, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("impath", "label", "classname")
    content = [{**dict(zip(keys, entry, strict=True)), "domain": 0, **more} for entry in entries]
    path.write_text("\n".join(json.dumps(line) for line in content) + "\n")
    return str(path)


def chosen(pets, given, shots=1, seed=1, **more):
    return build_dataset(config("OxfordPets", pets[0], seed, NUM_SHOTS=shots, FEWSHOT_SPLIT=str(given), **more))


def refused(pets, given, **more):
    with pytest.raises(UserError) as error:
        chosen(pets, given, **more)
    return str(error.value)


def test_lines_give_exactly_their_images(pets, tmp_path):
    picked = pets[1]["train"][37:]
    far = [[f"/home/them/data/oxford_pets/images/{name}", label, breed] for name, label, breed in picked]
    found = chosen(pets, lines(tmp_path / "set.jsonl", far, camera="x", feature=[0.5]))
    assert images_of(found.train_x) == sorted((name, label) for name, label, _ in picked)
    val = chosen(pets, "", shots=1).val  # by the usual rule, as the file lists none
    assert images_of(found.val) == images_of(val)
    assert len(found.test) == 37
    assert found.fewshot_split["name"] == "set.jsonl" and len(found.fewshot_split["sha256"]) == 64
    assert found.more_images


@pytest.mark.parametrize("form", ["positions", "entries", "both"])
def test_an_index_gives_its_training_and_validation_images(pets, tmp_path, form):
    train, val = pets[1]["train"][:37], pets[1]["val"][:20]
    content = {
        "positions": {"train": list(range(37)), "val": list(range(20)), "setup": "shot_1"},
        "entries": {"train": train, "val": val},
        "both": {part: {"indices": list(range(len(items))), "data": [{"impath": name, "label": label}
                 for name, label, _ in items]} for part, items in (("train", train), ("val", val))},
    }[form]  # fmt: skip
    path = tmp_path / "shot_1-seed_1.json"
    path.write_text(json.dumps(content))
    found = chosen(pets, path)
    assert images_of(found.train_x) == sorted((name, label) for name, label, _ in train)
    assert images_of(found.val) == sorted((name, label) for name, label, _ in val)


def test_half_of_the_classes(pets, tmp_path):
    path = lines(tmp_path / "a.jsonl", pets[1]["train"][:37])
    found = chosen(pets, path, SUBSAMPLE_CLASSES="new")
    assert [label for _, label in images_of(found.train_x)] == list(range(18))
    assert images_of(found.train_x)[0][0] == pets[1]["train"][19][0]


def test_validation_images_can_come_from_the_training_split_and_are_not_drawn_twice(pets, tmp_path):
    content = {"train": pets[1]["train"][:37], "val": pets[1]["train"][37:]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = chosen(pets, tmp_path / "a.json")
    assert images_of(found.val) == sorted((name, label) for name, label, _ in content["val"])
    assert "of train in split_zhou" in found.places["val"][0]
    path = lines(tmp_path / "b.jsonl", pets[1]["train"][:36] + pets[1]["val"][36:])
    assert len(chosen(pets, path).val) == 36  # the last breed has no validation image left


@pytest.mark.parametrize(
    "name",
    ["oxford_pets/shot_1-seed_3.json", "2sfs/oxford_pets_1shots_seed3.jsonl", "seed3/1shot/OxfordPets.jsonl"]
    + ["pets/seed_3/shots_1.jsonl", "seed3_shots1/oxford-pets.json"],
)
def test_a_folder_is_searched_by_dataset_seed_and_shots(pets, tmp_path, name):
    lines(tmp_path / name, pets[1]["train"][:37])
    for other in ("oxford_pets/shot_1-seed_1.json", "oxford_pets/shot_16-seed_3.json", "dtd/shot_1-seed_3.json"):
        lines(tmp_path / other, pets[1]["train"][37:])
    found = chosen(pets, tmp_path, seed=3)
    assert images_of(found.train_x) == sorted((name, label) for name, label, _ in pets[1]["train"][:37])


def test_the_longer_name_of_another_dataset_is_not_taken(tmp_path):
    for name in ("imagenet_a", "imagenet"):
        lines(tmp_path / name / "shot_1-seed_1.json", [])
    known = ["ImageNet", "imagenet", "ImageNetA"]
    found = find_files(str(tmp_path), "", {"ImageNet": ["ImageNet", "imagenet"]}, known, 1, 1)
    assert found == {"ImageNet": tmp_path / "imagenet/shot_1-seed_1.json"}


def test_a_folder_without_the_file_says_what_was_looked_for(pets, tmp_path):
    lines(tmp_path / "oxford_pets/shot_1-seed_1.json", pets[1]["train"][:37])
    text = refused(pets, tmp_path, seed=2)
    assert "OxfordPets: no .jsonl or .json file whose path has OxfordPets or oxford_pets" in text
    assert "seed2 and 1shots" in text and "Found oxford_pets/shot_1-seed_1.json" in text
    assert "\n" not in text
    lines(tmp_path / "oxford_pets/shot_1-seed_1.jsonl", pets[1]["train"][:37])
    assert "2 files fit: oxford_pets/shot_1-seed_1.json, oxford_pets/shot_1-seed_1.jsonl" in refused(pets, tmp_path)
    assert "set DATASET.NUM_SHOTS" in refused(pets, tmp_path, shots=-1)


def test_missing_images_are_named(pets, tmp_path):
    entries = [[f"gone_{i}.jpg", 0, PETS[0]] for i in range(5)] + pets[1]["train"][:37]
    text = refused(pets, lines(tmp_path / "a.jsonl", entries))
    assert (
        "5 of 42 images are not among the images of OxfordPets: gone_0.jpg, gone_1.jpg, gone_2.jpg and 2 more" in text
    )
    (tmp_path / "b.json").write_text('{"train": [0, 1, 999]}')
    assert "1 of 3 images is not among the images of OxfordPets: 999" in refused(pets, tmp_path / "b.json")


@pytest.mark.parametrize(
    "label, name, found",
    [(1, PETS[1], "listed as 1 breed_ab"), (1, "", "listed as 1"), (0, PETS[5], f"listed as 0 {PETS[5]}")]
    + [(None, "unknown", "listed as unknown"), (99, "", "listed as 99")],
)
def test_labels_that_contradict_the_dataset(pets, tmp_path, label, name, found):
    image = pets[1]["train"][0][0]
    (tmp_path / "a.jsonl").write_text(json.dumps({"impath": image, "label": label, "classname": name}))
    text = refused(pets, tmp_path / "a.jsonl")
    assert f"1 of 1 labels contradicts OxfordPets: oxford_pets/images/{image} is 0 (breed aa), {found}" in text


def test_test_images_are_refused(pets, tmp_path):
    text = refused(pets, lines(tmp_path / "a.jsonl", pets[1]["test"][:2]))
    assert "2 images are for testing in the split of OxfordPets (split_zhou_OxfordPets.json)" in text


@pytest.mark.parametrize(
    "content, found",
    [
        ("", "found no images"),
        ("{broken", "line 1 is '{broken'"),
        ('{"a": 1}', "found the keys a"),
        ('{"train": 5}', "train is '5'"),
        ("[1.5]", "entry 1 of train is '1.5'"),
        ('{"label": 1}\n{"label": 2}', "entry 1 of train is"),
        ('{"train": [], "val": [1]}', "found the keys train, val"),
        ('{"impath": "x.jpg", "label": [1]}', "entry 1 of train is"),
    ],
)
def test_files_of_another_form(pets, tmp_path, content, found):
    (tmp_path / "a.json").write_text(content)
    text = refused(pets, tmp_path / "a.json")
    assert text.startswith(str(tmp_path / "a.json")) and found in text and "expected one image per line" in text


def test_the_number_of_shots_has_to_fit(pets, tmp_path):
    path = lines(tmp_path / "a.jsonl", pets[1]["train"])
    assert "lists 2 training images per class, and DATASET.NUM_SHOTS is 1; set it to 2" in refused(pets, path)
    path = lines(tmp_path / "b.jsonl", pets[1]["train"][:37])
    assert "lists 1 training images per class, and DATASET.NUM_SHOTS is 4" in refused(pets, path, shots=4)
    assert len(chosen(pets, path, shots=-1).train_x) == 37
    assert "in both train and val" in refused(pets, _both(tmp_path, pets))


def _both(tmp_path, pets):
    (tmp_path / "c.json").write_text(json.dumps({"train": pets[1]["train"][:37], "val": pets[1]["train"][:1]}))
    return tmp_path / "c.json"


def test_positions_need_the_published_split(tmp_path, pets):
    (tmp_path / "a.json").write_text('{"train": [0]}')
    cfg = config("Icon13", NUM_SHOTS=1, FEWSHOT_SPLIT=str(tmp_path / "a.json"))
    with pytest.raises(UserError, match="lists positions in CoOp's split file, and the split of Icon13 comes from"):
        build_dataset(cfg)
    assert "does not exist: looked for " in refused(pets, "nowhere.jsonl")
    with pytest.raises(UserError, match="is one file, and the run has 10 datasets"):
        build_dataset(config("General10", pets[0], NUM_SHOTS=1, FEWSHOT_SPLIT=str(tmp_path / "a.json")))


def test_a_run_records_the_file(tmp_path):
    classes, images = {}, read_index()["images"]
    for image in images:
        if image["task"] == "faces" and image["split"] == "train":
            classes.setdefault(image["cls"], image["file"])
    path = tmp_path / "faces.jsonl"
    path.write_text("\n".join(json.dumps({"path": file, "class": name}) for name, file in classes.items()))
    words = "--trainer ProtoNet --seed 1 --config-file configs/trainers/ProtoNet/tiny.yaml DATASET.NAME Icon13"
    words += f" DATASET.SUBSAMPLE_TASKS faces DATASET.FEWSHOT_SPLIT {path} --output-dir {tmp_path / 'run'}"
    assert train.main([*words.split(), "DATALOADER.FEATURE_CACHE", "False"]) == 0
    found = json.loads((tmp_path / "run/results.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    each = {"name": "faces.jsonl", "sha256": digest}
    assert found["fewshot_split"] == {**each, "shots": 1, "files": {"Icon13": each}}
    assert (found["protocol"], found["shots"]) == ("few-shot", 1)
