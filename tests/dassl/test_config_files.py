"""Configuration files that are damaged, hostile or mistaken: one line each, quickly. And files that repeat a run."""

import os

import pytest

import datasets  # noqa: F401
from dassl.config import ConfigError, config_hash, differences, get_cfg_default, load, parse_yaml, read_yaml
from dassl.runs.record import CONFIG
from dassl.runs.writer import write_config
from dassl.utils import UserError, read_json, write_json

LETTERS = "abcdefghijkl"
DOUBLED = [f"{here}: &{here} [{','.join([f'*{before}'] * 9)}]" for before, here in zip(LETTERS, LETTERS[1:])]  # noqa: B905
MERGED = [line.replace("[", "{<<: [").replace("]", "]}") for line in DOUBLED]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("\n".join(["a: &a [x]", *DOUBLED]), "more than 200,000 keys and values, counting what aliases"),
        ("\n".join(["a: &a {x: 1}", *MERGED]), "more than 200,000 keys and values, counting what aliases"),
        ("a: &a [*a]", "the alias *a stands for something that contains it in line 1"),
        ("a: " + "[" * 5000, "more than 50 levels inside each other"),
        ("- " * 5000 + "x", "more than 50 levels inside each other"),
        ("SEED: " + "1" * 5000, "is too large"),
        ("SEED: 0x" + "f" * 5000, "is too large"),
        ("SEED: 1" + ":59" * 2000, "is too large"),
        ("OPTIM:\n  LR: 1\n  LR: 2\n", "the key LR is given twice, first in line 2 in line 3"),
        ("OPTIM:\n\tLR: 1\n", "indent with spaces, not with tabs"),
        ("SEED: 2020-13-45", "month must be in 1..12"),
        ("SEED: !!timestamp x", "not readable as YAML"),
        ("SEED: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("SEED: 1\n---\nSEED: 2\n", "expected a single document"),
        ("? [1, 2]\n: 3\n", "unhashable key"),
        ("OPTIM: *unknown", "undefined alias"),
        (b"\x93\x00\xff", "not text in UTF-8"),
        ("SEED: 1\n".encode("utf-16"), "not text in UTF-8"),
        (b"a: \x00", "special characters are not allowed"),
        ("a: '" + "x" * 5_000_000 + "'", "larger than 4 MiB"),
        ("just words", "expected settings as KEY: value, found str"),
        ('_BASE_: "a\\0b"', "expected the path of a file"),
        ("_BASE_: .", "Is a directory; expected a YAML file"),
        ("SEED: .nan", "SEED = nan: expected a number between"),
    ],
)
def test_each_content_that_cannot_be_used_is_one_short_message(tmp_path, content, expected):
    file = tmp_path / "a.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        load(get_cfg_default(), [str(file)])
    text = str(caught.value)
    assert text.startswith(f"a problem in the configuration: {file}") and expected in text
    assert "\n" not in text and len(text) < 1000


def test_paths_that_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.symlink("loop", tmp_path / "loop")
    places = {
        tmp_path / "pipe": "a pipe, not a file",
        tmp_path: "Is a directory",
        tmp_path / "loop": "symbolic links",
        "/dev/zero": "a device, not a file",
        "a\0b": "embedded null byte",
        "x" * 300: "File name too long",
    }
    for place, expected in places.items():
        with pytest.raises(UserError, match=expected):
            read_yaml(place)
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "gone")


def test_a_missing_file_is_answered_with_a_similar_name(tmp_path):
    (tmp_path / "tiny_ep20.yaml").write_text("SEED: 1\n")
    with pytest.raises(ConfigError, match="no such file; did you mean .*tiny_ep20.yaml"):
        load(get_cfg_default(), [str(tmp_path / "tiny_ep20")])
    with pytest.raises(ConfigError, match="no such file; the folder .*none does not exist either"):
        load(get_cfg_default(), [str(tmp_path / "none" / "a.yaml")])


def test_bases_that_name_each_other_again_and_again_end(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.yaml").write_text(f"_BASE_: [{i + 1}.yaml, {i + 1}.yaml]\n")
    (tmp_path / "40.yaml").write_text("SEED: 1\n")
    with pytest.raises(
        ConfigError, match="a problem in the configuration: .*more than 100 files are named under _BASE_"
    ):
        load(get_cfg_default(), [str(tmp_path / "0.yaml")])


def test_aliases_merge_keys_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("\ufeffa: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": [{"x": 1, "y": 2}] * 2}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    "entry",
    [
        {"ROOT": "photos", "NAME": "mine", "TASK_NAME": "animals"},
        {"ROOT": "photos", "CLASSNAMES": {"z": "zebra", "b": "bee"}, "NAME": "mine"},
        {"ROOT": "photos", "CLASSNAMES": {10: "ten", 9: "nine", "a": "letter", 1.5: "half"}},
    ],
)
def test_the_order_of_keys_in_an_entry_is_not_a_change(tmp_path, entry):
    cfg, other = get_cfg_default(), get_cfg_default()
    for each, mapping in ((cfg, entry), (other, dict(reversed(entry.items())))):
        load(
            each,
            [],
            ["OUTPUT_DIR", str(tmp_path), "DATASET.TASKS", [mapping], "DATASET.TASK_NAMES", {"b": "x", "a": "y"}],
        )
    assert config_hash(cfg) == config_hash(other)
    write_config(cfg)
    file = str(tmp_path / CONFIG)
    assert differences(cfg, file) == differences(other, file) == []
    repeated = get_cfg_default()
    load(repeated, [file])
    assert differences(repeated, file) == [] and config_hash(repeated) == config_hash(cfg)
    changed = get_cfg_default()
    load(changed, [file], ["DATASET.TASKS", [{**entry, "ROOT": "others"}]])
    assert [key for key, _, _ in differences(changed, file)] == ["DATASET.TASKS"]


def test_names_that_are_not_text_come_back_from_json(tmp_path):
    texts = ["caf\u00e9", "\udcff.png", "\U0001f600"]
    write_json(texts, tmp_path / "texts.json")
    assert read_json(tmp_path / "texts.json") == texts
