"""Datasets from the Hugging Face hub, played by a local server that speaks its API."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from datasets.download import main
from datasets.known.remote import COOP
from datasets.suites import SOURCES
from datasets.table import ROWS
from tests.datasets.fetch.conftest import content_of, leftovers
from tests.datasets.small_files import picture
from tests.datasets.split_files import zhou_pets

CIFAR = "clip-benchmark/wds_vtab-cifar10"
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def shard(samples, ending="cls"):
    """A tar of {key: label} with an image and a label file each."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for key, label in samples.items():
            for name, content in ((f"{key}.jpg", picture(label)), (f"{key}.{ending}", str(label).encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def cifar():
    """The files of a webdataset: 40 training images in two shards, 20 test images in one."""
    parts = {"train/0.tar": range(20), "train/1.tar": range(20, 40), "test/0.tar": range(20)}
    return {
        "README.md": b"x",
        "classnames.txt": "\n".join(NAMES).encode(),
        "zeroshot_classification_templates.txt": b"a photo of a {c}.\na blurry photo of a {c}.",
        "train/nshards.txt": b"2",
        "test/nshards.txt": b"1",
        **{path: shard({f"s{i:07d}": i % 10 for i in numbers}) for path, numbers in parts.items()},
    }


def at(path, repository=CIFAR):
    return f"/datasets/{repository}/resolve/c0ffee/{path}"


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def command(tmp_path):
    return ["CIFAR10", "--root", str(tmp_path / "data")]


def test_a_webdataset_is_laid_out(hub, server, command, tmp_path, capsys):
    hub(CIFAR, cifar())
    assert main(command) == 0
    text, folder = capsys.readouterr().out, tmp_path / "data/wds_vtab-cifar10"
    assert "CIFAR10: ready, usable: 60 images, 10 classes" in text
    assert names(folder)[:2] == ["classnames.txt", "images/labels.tsv"]
    assert len(names(folder / "images")) == 61 and not (folder / "train").exists()
    assert (folder / "images/train/s0000013.jpg").read_bytes() == picture(3)
    source = SOURCES["CIFAR10"].load(str(tmp_path / "data"))
    assert source.tasks[0].templates == ("a photo of a {}.", "a blurry photo of a {}.")
    assert source.tasks[0].classnames == tuple(NAMES)
    assert {len(part) for part in (source.test, [*source.train, *source.val])} == {20, 40}
    asked = len(server.asked)
    assert main(command) == 0 and len(server.asked) == asked


def test_another_name_of_the_repository(hub, command, capsys):
    hub("clip-benchmark/wds_cifar10", cifar())
    assert main(command) == 0
    assert "CIFAR10: ready" in capsys.readouterr().out


def test_an_interrupted_shard_goes_on(hub, server, command, tmp_path, capsys):
    hub(CIFAR, cifar())
    server.cuts[at("train/1.tar")] = [3000, 0, 0, 0]
    assert main(command) == 1
    text, folder = capsys.readouterr().out, tmp_path / "data/wds_vtab-cifar10"
    assert "CIFAR10: " + server.url + at("train/1.tar") + ": the connection was closed after 3,000 of" in text
    assert not (folder / "images").exists() and not list(folder.glob(".unpacking-*"))
    server.cuts.clear()
    server.asked.clear()
    assert main(command) == 0
    assert (at("train/1.tar"), "bytes=3000-") in server.asked
    assert at("train/0.tar") not in dict(server.asked)
    assert leftovers(folder) == []


def test_a_wrong_checksum_leaves_nothing(hub, server, command, tmp_path, capsys):
    hub(CIFAR, cifar())
    server.files[at("test/0.tar")] = shard({"s1": 1})
    server.files[at("classnames.txt")] += b" "
    folder = tmp_path / "data/wds_vtab-cifar10"
    assert main(command) == 1
    assert "classnames.txt is damaged: it has another hash than in the repository" in capsys.readouterr().out
    assert not (folder / "classnames.txt").exists()
    server.files[at("classnames.txt")] = server.files[at("classnames.txt")][:-1]
    assert main(command) == 1
    found = [line for line in capsys.readouterr().out.splitlines() if "SHA256" in line]
    assert len(found) == 1 and "0.tar is damaged: its SHA256 is " in found[0]
    assert not (folder / "test/0.tar").exists() and not (folder / "images").exists()


@pytest.mark.parametrize("case", ["no network", "offline", "no repository", "not a webdataset"])
def test_one_line_says_why_the_hub_has_nothing(hub, server, monkeypatch, command, tmp_path, capsys, case):
    if case == "no network":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    if case == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if case == "not a webdataset":
        hub(CIFAR, {"README.md": b"x"})
    expected = {
        "no network": "Connection refused",
        "offline": "offline",
        "no repository": "there is no such repository",
    }
    assert main(command) == 1
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if line.startswith("CIFAR10: ")]
    assert len(lines) == 2 and expected.get(case, "has no train/0.tar, test/0.tar, classnames.txt") in lines[0]
    assert lines[1] == "CIFAR10: incomplete, by hand:" and "Traceback" not in printed.err
    assert f"or         hf download {CIFAR} --repo-type dataset --local-dir {tmp_path}/data/" in printed.out
    assert os.listdir(tmp_path / "data") == [".wds_vtab-cifar10.lock"]


@pytest.mark.parametrize("place", ["own", "mirror"])
def test_shards_that_people_bring_need_no_network(server, monkeypatch, command, tmp_path, capsys, place):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = tmp_path / ("data/wds_vtab-cifar10" if place == "own" else "usb/wds_vtab-cifar10")
    for path, content in cifar().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    assert main([*command, *(["--mirror", str(tmp_path / "usb")] if place == "mirror" else [])]) == 0
    assert "CIFAR10: ready, usable: 60 images" in capsys.readouterr().out
    assert {"train/0.tar", "train/1.tar", "test/0.tar"} <= set(names(folder))  # not ours to delete


def test_shards_with_gaps_are_not_taken_for_whole(hub, command, tmp_path, capsys):
    hub(CIFAR, cifar())
    folder = tmp_path / "data/wds_vtab-cifar10"
    for path in ("classnames.txt", "train/0.tar", "test/0.tar", "train/nshards.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(cifar()[path])
    assert main(command) == 0
    assert "usable: 60 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "samples, ending, found",
    [
        ({"a": 1, "b": 2}, "txt", "train/0.tar: a has no label; expected a.jpg and a.cls"),
        ({"a": 1, "d/a": 1}, "cls", ""),
    ]
    + [({"../../a": 1}, "cls", "")],
)
def test_shards_of_another_form(hub, command, tmp_path, capsys, samples, ending, found):
    files = {"classnames.txt": "\n".join(NAMES).encode(), "test/0.tar": shard({"a": 1})}
    hub(CIFAR, files | {"train/0.tar": shard(samples, ending)})
    assert main(command) == (1 if found else 0)
    assert found in capsys.readouterr().out
    assert not list(tmp_path.glob("*.jpg")) and not list((tmp_path / "data").glob("*.jpg"))
    assert (tmp_path / "data/wds_vtab-cifar10/images").exists() != bool(found)


def test_a_damaged_shard_is_deleted(hub, server, command, tmp_path, capsys):
    files = cifar()
    files["train/1.tar"] = files["train/1.tar"][:5000]  # in the repository, with its checksum
    hub(CIFAR, files)
    assert main(command) == 1
    assert "CIFAR10: train/1.tar is damaged" in capsys.readouterr().out
    folder = tmp_path / "data/wds_vtab-cifar10"
    assert (folder / "train/0.tar").exists() and not (folder / "train/1.tar").exists()
    assert not (folder / "images").exists()


# ---- CoOp's sets ---------------------------------------------------------------------------------------------------


def zipped(folder: Path, top: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{top}/{path.relative_to(folder).as_posix()}")
    return file.getvalue()


@pytest.fixture
def pets(offer, hub, tmp_path):
    """Pets on the hub in CoOp's layout, with its split file; the published links are dead."""
    offer("OxfordPets", hub=COOP)
    zhou_pets(tmp_path / "theirs")
    content = zipped(tmp_path / "theirs/oxford_pets", "oxford_pets")
    hub(COOP.repos[0], {"README.md": b"x", "oxford_pets.zip": content})
    return content


def test_the_hub_comes_first_and_brings_the_split(pets, server, tmp_path, capsys):
    assert main(["OxfordPets", "--root", str(tmp_path / "data")]) == 0
    folder = tmp_path / "data/oxford_pets"
    assert content_of(folder, ["images"]) == content_of(tmp_path / "theirs/oxford_pets", ["images"])
    assert (folder / "split_zhou_OxfordPets.json").is_file() and leftovers(folder) == ["split_zhou_OxfordPets.json"]
    assert not any("tar.gz" in path for path, _ in server.asked)
    assert "OxfordPets: ready, usable" in capsys.readouterr().out


def test_the_published_links_follow_a_hub_that_cannot_be_reached(pets, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["OxfordPets", "--root", str(tmp_path / "data")]) == 0
    text = capsys.readouterr().out
    assert "OxfordPets: http://127.0.0.1:9/datasets/zhengli97/prompt_learning_dataset: " in text
    assert "OxfordPets: ready" in text


def test_an_archive_of_the_hub_is_resumed_and_verified(pets, server, tmp_path, capsys):
    path = at("oxford_pets.zip", COOP.repos[0])
    server.cuts[path] = [len(pets) // 2]
    server.files = {path: content for path, content in server.files.items() if not path.endswith(".tar.gz")}
    assert main(["OxfordPets", "--root", str(tmp_path / "data")]) == 0
    assert (path, f"bytes={len(pets) // 2}-") in server.asked
    server.files[path] = pets[:-1] + b"x"
    assert main(["OxfordPets", "--root", str(tmp_path / "other")]) == 1
    text = capsys.readouterr().out
    assert "oxford_pets.zip is damaged: its SHA256 is" in text and "it has been deleted" in text
    assert os.listdir(tmp_path / "other") == [".oxford_pets.lock"]


def test_files_in_the_cache_of_the_library_are_used(pets, server, tmp_path, capsys):
    commit = tmp_path / "cache/datasets--zhengli97--prompt_learning_dataset/snapshots/c0ffee"
    commit.mkdir(parents=True)
    (commit / "oxford_pets.zip").write_bytes(pets)
    assert main(["OxfordPets", "--root", str(tmp_path / "data")]) == 0
    assert f"using {commit}/oxford_pets.zip" in capsys.readouterr().out
    assert (commit / "oxford_pets.zip").exists()
    assert not any("resolve" in path for path, _ in server.asked)


def test_single_files_of_the_hub_have_their_published_names(offer, hub, server, tmp_path, capsys):
    offer("OxfordPets", hub=COOP)
    files = {name: server.files.pop(f"/{name}") for name in ("images.tar.gz", "annotations.tar.gz")}
    others = {f"stanford_cars/{name}": b"x" for name in files}
    hub(COOP.repos[0], {f"oxford_pets/{name}": content for name, content in files.items()} | others)
    assert main(["OxfordPets", "--root", str(tmp_path / "data")]) == 0
    assert leftovers(tmp_path / "data") == []


def test_an_archive_of_the_hub_with_a_published_name_and_another_layout(offer, hub, server, tmp_path, capsys):
    made = offer("Caltech101", hub=COOP)
    server.files.clear()
    hub(COOP.repos[0], {"caltech-101.zip": zipped(made, "caltech-101")})
    assert main(["Caltech101", "--root", str(tmp_path / "data")]) == 0
    text = capsys.readouterr().out
    assert "does not hold" not in text and "Caltech101: ready" in text
    assert leftovers(tmp_path / "data") == []


def test_dead_links_are_said_to_be_dead(tmp_path, capsys):
    assert main(["StanfordCars", "--root", str(tmp_path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert f"download   from the hub: {COOP.page}" in text
    assert "cars_train.tgz (dead: its host no longer serves the file)" in text


def test_every_row_names_one_repository_and_folder():
    rows = [row for row in ROWS.values() if row.hub and row.hub.shards]
    assert len({row.hub.repos for row in rows}) == len({row.folder for row in rows}) == len(rows) == 18
