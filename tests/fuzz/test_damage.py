"""Damaged files end in right results or in one message with status 2: no traceback, no hang, no wrong number.

The damage is random and seeded. FUZZ_ROUNDS (environment) multiplies the number of tries, FUZZ_SEED changes them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tarfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import interpret_prompt
import parse_test_res
import predict
import train
from datasets.doctor import command as doctor
from datasets.fetch.archives import ArchiveError, unpack
from tests.fuzz.damage import damage, damage_bytes

ROUNDS = float(os.environ.get("FUZZ_ROUNDS", "1"))
SEED = os.environ.get("FUZZ_SEED", "0")
LONGEST = 120  # seconds until a try counts as hanging

DATA = """\
DATASET:
  NAME: Suite
  TASKS:
    - {ROOT: photos/pets, NAME: pets, TASK_NAME: kinds of pets, CLASSNAMES: {a: cat, b: dog, c: hen}}
    - {TASK_NAME: kinds of cars, ROOT: photos/cars/list.csv, NAME: cars, METRIC: macro_f1}
"""
METHOD = """\
INPUT: {SIZE: [64, 64], TRANSFORMS: [normalize]}
OPTIM: {NAME: sgd, LR: 0.01, MAX_EPOCH: 2}
DATALOADER: {NUM_WORKERS: 0, TRAIN_X: {BATCH_SIZE: 8}}
TRAIN: {TENSORBOARD: false, CHECKPOINT_FREQ: 1, CHECKPOINT_KEEP: 0}
MODEL: {BACKBONE: {NAME: tiny}}
TRAINER: {NAME: MTCoOp, MTCOOP: {N_CTX: 4}}
SEED: 1
"""
TRAIN = ("--config-file", "method.yaml", "--dataset-config-file", "data.yaml", "--output-dir")


def draw(folder: Path) -> None:
    """Images of two tasks with three classes each, one as folders, one as a table."""
    rng = np.random.default_rng(0)
    rows = ["path,label"]
    for task in ("pets", "cars"):
        for label in "abc":
            for number in range(6):
                path = folder / "photos" / task / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 255, (1, 1, 3)) + rng.integers(-20, 20, (40, 44, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
                if task == "cars":
                    rows.append(f"{label}/{number}.png,{label}")
    (folder / "photos" / "cars" / "list.csv").write_text("\n".join(rows) + "\n")


@contextmanager
def in_folder(folder: Path):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with images, settings, a finished run, and its predictions and table."""
    folder = tmp_path_factory.mktemp("world")
    draw(folder)
    (folder / "data.yaml").write_text(DATA)
    (folder / "method.yaml").write_text(METHOD)
    with in_folder(folder):
        assert train.main([*TRAIN, "run"]) == 0
    return folder


class Try:
    """A copy of the world as current folder, in which one file is damaged, and calls of programs there."""

    def __init__(self, capsys):
        self.capsys = capsys

    def damage(self, number, *patterns):
        """Damage a file that matches one of `patterns`. Returns what was damaged, for the message of a failure."""
        rng = random.Random(f"{SEED} {patterns} {number}")
        files = sorted(path for pattern in patterns for path in Path().glob(pattern))
        return damage(rng.choice(files), rng)

    def call(self, program, *arguments, allowed=(0, 2)):
        """(status, text on stdout) of a program called in this process. An error has a message and no traceback."""
        self.capsys.readouterr()
        before = signal.signal(signal.SIGALRM, self._hangs)
        signal.alarm(LONGEST)
        try:
            status = program.main(list(arguments))
        except SystemExit as end:
            status = end.code
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        found = self.capsys.readouterr()
        assert status in allowed, (status, found.err)
        assert "Traceback" not in found.err
        assert status == 0 or found.err or found.out, "an error without a message"
        return status, found.out

    @staticmethod
    def _hangs(*_):
        raise TimeoutError("the program hangs")


@pytest.fixture
def one(world, tmp_path, capsys):
    shutil.copytree(world, tmp_path / "world")
    with in_folder(tmp_path / "world"):
        yield Try(capsys)


def tries(count):
    """Parametrize a test by the number of the try."""
    return pytest.mark.parametrize("number", range(round(count * ROUNDS)))


def strict_json(text):
    """The value of a JSON text without NaN and infinities."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def numbers_of(folder):
    found = strict_json(Path(folder, "results.json").read_text())
    return found["mean"], [task["value"] for task in found["tasks"]]


def probabilities(rows):
    return [[c["probability"] for task in row["tasks"] for c in task["classes"]] for row in rows if "tasks" in row]


@pytest.fixture
def expected(world, capsys):
    with in_folder(world):
        assert predict.main(["run", "photos/pets/a", "--json"]) == 0
    return probabilities(json.loads(capsys.readouterr().out))


@tries(24)
def test_damaged_settings_are_reported_or_used(number, one):
    """Settings may be damaged into other valid ones, which are then used."""
    one.damage(number, "*.yaml")
    status, _ = one.call(train, *TRAIN, "new", "--no-train")
    assert status == 2 or Path("new").is_dir()


@tries(12)
def test_a_damaged_list_of_images_or_split_is_reported_or_used(number, one):
    one.damage(number, "photos/**/*.csv", "photos/**/*.json")
    one.call(train, *TRAIN, "new", "--no-train")
    one.call(doctor, "data.yaml", allowed=(0, 1, 2))  # 1: it has found problems


@tries(24)
def test_damaged_files_of_a_run_do_not_stop_its_readers(number, one, expected):
    """The table notes a damaged run; predictions are those of the model, or refused."""
    what = one.damage(number, "run/*.json", "run/*.yaml", "run/log.txt")
    one.call(parse_test_res, "run")
    status, out = one.call(predict, "run", "photos/pets/a", "--json")
    if status == 0:
        found = probabilities(strict_json(out))
        assert found == expected or what.startswith(("tasks.json", "config.yaml")), what
    one.call(interpret_prompt, "run")


@tries(16)
def test_a_damaged_run_is_not_taken_for_another_one(number, one):
    """The same command skips the finished run, repeats it with the same numbers, or is refused."""
    reference = numbers_of("run")
    what = one.damage(number, "run/**/*.json", "run/*.yaml", "run/*/model.pth.tar-*", "run/*/checkpoint")
    status, _ = one.call(train, *TRAIN, "run")
    if status == 0 and not what.startswith("results.json: another value"):
        assert numbers_of("run") == reference, what


@tries(16)
def test_a_damaged_checkpoint_is_never_used(number, one, expected):
    reference = numbers_of("run")
    what = one.damage(number, "run/*/model.pth.tar-2")
    status, out = one.call(predict, "run", "photos/pets/a", "--json")
    assert status == 2 or probabilities(strict_json(out)) == expected, what
    Path("run/results.json").unlink()  # the run counts as interrupted and is resumed
    status, _ = one.call(train, *TRAIN, "run")
    assert status == 2 or numbers_of("run") == reference, what


@tries(16)
def test_damaged_images_are_reported_and_others_classified(number, one, expected):
    what = one.damage(number, "photos/pets/a/*.png")
    status, out = one.call(predict, "run", "photos/pets/a", "--json")
    rows = probabilities(strict_json(out)) if out else []
    assert status == 2 or len(rows) == len(expected) or what.endswith("a folder"), what
    assert sum(row in expected for row in rows) >= len(expected) - 1, what
    one.call(train, *TRAIN, "new", "--no-train")


@pytest.fixture(scope="module")
def stored(world):
    """The test of the run, with the features of its images in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch, in_folder(world):
        patch.setenv("SOFTCPT_CACHE", str(world / "cache"))
        assert train.main([*TRAIN, "test", "--eval-only", "--model-dir", "run"]) == 0
    return numbers_of(world / "test")


@tries(16)
def test_damaged_features_are_computed_again(number, stored, one, monkeypatch):
    what = one.damage(number, "cache/**/*.safetensors")
    monkeypatch.setenv("SOFTCPT_CACHE", str(Path("cache").absolute()))
    status, _ = one.call(train, *TRAIN, "new", "--eval-only", "--model-dir", "run")
    assert status == 0, what
    assert numbers_of("new") == stored, what


def archives(folder: Path) -> dict[str, Path]:
    """Archives of each format with the same 20 files."""
    content = {f"set/{n % 3}/{n}.txt": random.Random(n).randbytes(40 * n) for n in range(20)}
    for path, data in content.items():
        (folder / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / path).write_bytes(data)
    made = {}
    for mode in ("", "gz", "bz2", "xz"):
        made[f"tar.{mode}"] = folder / f"set.tar.{mode}"
        with tarfile.open(made[f"tar.{mode}"], f"w:{mode}") as archive:
            archive.add(folder / "in" / "set", "set")
    made["zip"] = folder / "set.zip"
    with zipfile.ZipFile(made["zip"], "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    return made


def files_of(folder: Path, sizes: bool):
    files = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {path: len(data) for path, data in files.items()} if sizes else files


@pytest.mark.parametrize("kind", ["tar.", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_damaged_archive_is_refused_or_gives_all_its_files(kind, tmp_path):
    """A plain tar has no checksum of its files: there, names and sizes are compared. Lost blocks, and files replaced by
    zeros like those at its end, do not show.
    """
    archive = archives(tmp_path)[kind]
    whole, there = archive.read_bytes(), files_of(tmp_path / "in", kind == "tar.")
    for number in range(round(120 * ROUNDS)):
        rng = random.Random(f"{SEED} {kind} {number}")
        damaged = damage_bytes(whole, rng)
        if kind == "tar.":
            lost = len(damaged) != len(whole) and (len(damaged) - len(whole)) % 512 == 0
            if lost or not any(new for new, old in zip(damaged, whole, strict=False) if new != old):
                continue
        archive.write_bytes(damaged)
        target = tmp_path / "out"
        target.mkdir()
        try:
            unpack(archive, target)
        except (ArchiveError, OSError):
            pass
        else:
            assert files_of(target, kind == "tar.") == there, number
        shutil.rmtree(target)
