"""Settings: declared once, merged from files and the command line, all problems reported at once."""

import pytest
from yacs.config import CfgNode as CN

from dassl import config
from dassl.config import ConfigError, declare, get_cfg_default, load
from dassl.config.rules import nearest_key
from dassl.config.tree import flatten
from dassl.utils.errors import nearest


@pytest.fixture
def cfg():
    return get_cfg_default()


def write(path, text):
    path.write_text(text)
    return str(path)


def test_dassls_keys_and_defaults(cfg):
    assert cfg.VERSION == 1 and cfg.OUTPUT_DIR == "./output/run" and cfg.SEED == -1 and cfg.USE_CUDA is True
    assert cfg.OPTIM.NAME == "adam" and cfg.OPTIM.LR == 0.0003 and cfg.OPTIM.WARMUP_EPOCH == -1
    assert cfg.OPTIM.STEPSIZE == (-1,) and cfg.OPTIM.WARMUP_RECOUNT is True and cfg.OPTIM.LEGACY_REPEAT_STEP == 0
    assert cfg.TEST.EVALUATOR == "Classification" and cfg.TEST.FINAL_MODEL == "last_step"
    assert cfg.TRAIN.CHECKPOINT_FREQ == 10 and cfg.TRAIN.PRINT_FREQ == 10 and cfg.TRAIN.COUNT_ITER == "train_x"
    assert cfg.DATALOADER.TRAIN_X.SAMPLER == "RandomSampler" and cfg.DATASET.NUM_SHOTS == -1
    assert cfg.MODEL.INIT_WEIGHTS == "" and cfg.MODEL.BACKBONE.PRETRAINED is True


def test_coops_way_works(tmp_path, cfg):
    cfg.TRAINER.COOP = CN()
    cfg.TRAINER.COOP.N_CTX = 16
    cfg.merge_from_file(write(tmp_path / "a.yaml", "OPTIM:\n  LR: 0.002\nTRAINER:\n  COOP:\n    N_CTX: 4\n"))
    cfg.merge_from_list(["TRAINER.COOP.N_CTX", 8, "INPUT.SIZE", "(32, 32)"])
    cfg.freeze()
    assert cfg.OPTIM.LR == 0.002 and cfg.TRAINER.COOP.N_CTX == 8 and cfg.INPUT.SIZE == (32, 32)


def test_later_sources_win_and_values_take_the_defaults_type(tmp_path, cfg):
    cfg.TRAINER.COOP = CN({"N_CTX": 16})  # not declared, set in code
    text = "OPTIM:\n  LR: 1e-3\n  MAX_EPOCH: 7\nINPUT:\n  SIZE: [64, 64]\n  RRCROP_SCALE: (0.1, 1)\n"
    a = write(tmp_path / "a.yaml", text)
    text = "OPTIM:\n  MAX_EPOCH: 8\nTEST:\n# all commented out\nTRAINER:\n  COOP:\n    N_CTX: 4\n"
    b = write(tmp_path / "b.yaml", text)
    load(cfg, [a, None, b], ["OPTIM.GAMMA", "1", "SEED", 0, "DATASET.SUBSAMPLE_TASKS", "task3", "USE_CUDA", "false"])
    assert cfg.OPTIM.LR == 0.001 and cfg.OPTIM.MAX_EPOCH == 8 and cfg.OPTIM.GAMMA == 1.0 and cfg.SEED == 0
    assert cfg.INPUT.SIZE == (64, 64) and cfg.INPUT.RRCROP_SCALE == (0.1, 1) and cfg.TRAINER.COOP.N_CTX == 4
    assert cfg.DATASET.SUBSAMPLE_TASKS == "task3" and cfg.USE_CUDA is False
    load(cfg, [], ["DATASET.SUBSAMPLE_TASKS", "[0, 2]", "DATASET.NAME", "123"])
    assert cfg.DATASET.SUBSAMPLE_TASKS == [0, 2] and cfg.DATASET.NAME == "123"


def test_the_nearest_of_several_words():
    kinds = ("lin", "linmean", "lincls", "mlp", "transformer")
    wrong = {"linear": "lin", "Lineer": "lin", "linmeen": "linmean", "linclass": "lincls", "mlps": "mlp", "tree": None}
    assert {word: nearest(word, kinds) for word in wrong} == wrong


def test_all_problems_at_once_with_source_key_and_nearest(tmp_path, cfg):
    before = flatten(cfg)
    file = write(
        tmp_path / "a.yaml", "OPTIM:\n  LRR: 1\n  NAME: sdg\n  LR: fast\n  MAX_EPOCH: 2.5\nTEST: 3\nOPTMI:\n  LR: 1\n"
    )
    gone = str(tmp_path / "gone.yaml")
    opts = ["OPTIM.LR", "-1", "MAX_EPOCHS", "3", "DATASET.SHOTS", "4", "USE_CUDA", "1", "SEED"]
    with pytest.raises(ConfigError) as caught:
        load(cfg, [file, gone], opts)
    text = str(caught.value)
    assert text.splitlines()[0].startswith("12 problems")
    for part in (
        f"{file}: OPTIM.LRR: no such setting; did you mean OPTIM.LR?",
        f"{file}: OPTIM.NAME = sdg: expected one of adam, amsgrad, sgd, rmsprop, radam, adamw; did you mean sgd?",
        f"{file}: OPTIM.LR = fast: expected a number, found a text",
        f"{file}: OPTIM.MAX_EPOCH = 2.5: expected an integer, found a number",
        f"{file}: TEST = 3: a group of settings",
        f"{file}: OPTMI.LR: no such setting; did you mean OPTIM.LR?",
        f"{gone}: no such file",
        "command line: OPTIM.LR = -1.0: expected a number from 0 to 1,000,000",
        "command line: MAX_EPOCHS: no such setting; did you mean OPTIM.MAX_EPOCH?",
        "command line: DATASET.SHOTS: no such setting; did you mean DATASET.NUM_SHOTS?",
        "command line: USE_CUDA = 1: expected True or False, found an integer",
        "command line: SEED has no value",
    ):
        assert part in text
    assert flatten(cfg) == before  # nothing was changed


def test_unreadable_yaml_is_one_line(tmp_path, cfg):
    with pytest.raises(ConfigError, match=r"a.yaml: not readable as YAML.*line 2"):
        load(cfg, [write(tmp_path / "a.yaml", "OPTIM:\n\tLR: 1\n")])
    with pytest.raises(ConfigError, match="expected settings as KEY: value, found list"):
        load(cfg, [write(tmp_path / "b.yaml", "- 1\n")])


def test_a_file_overrides_its_bases_and_later_bases_override_earlier_ones(tmp_path, cfg):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "root.yaml", "OPTIM:\n  LR: 0.1\n  MAX_EPOCH: 1\n  GAMMA: 0.5\nSEED: 1\n")
    write(tmp_path / "parts" / "first.yaml", "_BASE_: root.yaml\nOPTIM:\n  LR: 0.2\n  MAX_EPOCH: 2\n")
    write(tmp_path / "second.yaml", "INPUT:\n  SIZE: [32, 32]\nOPTIM:\n  MAX_EPOCH: 3\n")
    file = write(tmp_path / "file.yaml", "_BASE_: [parts/first.yaml, second.yaml]\nSEED: 4\n")
    plain = get_cfg_default()
    flat = "OPTIM:\n  LR: 0.2\n  MAX_EPOCH: 3\n  GAMMA: 0.5\nSEED: 4\nINPUT:\n  SIZE: [32, 32]\n"
    load(plain, [write(tmp_path / "plain.yaml", flat)])
    load(cfg, [file])
    assert cfg == plain and "_BASE_" not in cfg.dump()
    merged = get_cfg_default()
    merged.merge_from_file(file)
    assert merged == plain
    override = write(tmp_path / "override.yaml", "SEED: 5\n")
    load(cfg, [file, override], ["OPTIM.LR", "0.3"])
    assert (cfg.SEED, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH) == (5, 0.3, 3)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "_BASE_: b.yaml", "b": "_BASE_: a.yaml"}, "a.yaml -> b.yaml -> a.yaml: these files name each other"),
        ({"a": "_BASE_: a.yaml"}, "a.yaml -> a.yaml: these files name each other"),
        ({"a": "_BASE_: b.yaml", "b": "_BASE_: [gone.yaml]"}, "a.yaml -> b.yaml -> gone.yaml: no such file; a file"),
        ({"a": "_BASE_: 3"}, "a.yaml: _BASE_ = 3: expected the path of a file, or a list of paths"),
        ({"a": "_BASE_: b.yaml", "b": "OPTIM:\n  LRR: 1"}, "b.yaml: OPTIM.LRR: no such setting; did you mean OPTIM.LR"),
        ({"a": "_BASE_: b.yaml", "b": "- 1"}, "a.yaml -> b.yaml: expected settings as KEY: value, found list"),
    ],
)
def test_a_problem_with_a_base_is_one_message_with_the_chain_of_files(tmp_path, monkeypatch, cfg, files, message):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        write(tmp_path / f"{name}.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load(cfg, ["a.yaml"])
    assert str(caught.value).startswith(f"a problem in the configuration: {message}")


def test_only_some_top_level_names_are_read(tmp_path, cfg):
    text = "DATASET:\n  NAME: Mine\n  ROOT: data\nTRAINER:\n  NAME: Gone\n  GONE:\n    WORDS: 3\nOPTIM: 3\n"
    base = write(tmp_path / "base.yaml", text)
    file = write(tmp_path / "file.yaml", f"_BASE_: {base}\nDATASET:\n  ROOT: elsewhere\nNEW: 1\n")
    load(cfg, [file], ["SEED", "3", "DATALOADER.NUM_WORKERS", "1"], only=("DATASET", "DATALOADER"))
    assert (cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATALOADER.NUM_WORKERS, cfg.SEED) == ("Mine", "elsewhere", 1, -1)
    with pytest.raises(ConfigError, match=r"DATASET.NAM: no such setting"):
        load(cfg, [], ["DATASET.NAM", "x"], only=("DATASET",))
    with pytest.raises(ConfigError, match="4 problems"):
        load(cfg, [file])


def test_declaring():
    declare("OPTIM.LR", 0.0003)  # the same again is fine
    with pytest.raises(ValueError, match="declared twice, with default 0.0003 and with 1"):
        declare("OPTIM.LR", 1)
    with pytest.raises(ValueError, match="one is a group of the other"):
        declare("OPTIM", 1)
    with pytest.raises(ValueError, match="one is a group of the other"):
        declare("OPTIM.LR.BASE", 1)


def test_allowed_values_in_all_their_forms(cfg, monkeypatch):
    monkeypatch.setattr("dassl.config.tree._settings", dict(config.settings()))

    declare("X.EVEN", 2, allowed=config.Rule(lambda value: value % 2 == 0, "an even number"))
    declare("X.ODD", 1, allowed=(lambda value: value % 2, "an odd number"))
    declare("X.LIST", ["a"], allowed=("a", "b"))
    declare("X.HALF", 0.5, allowed=config.between(0, 1))
    cfg = get_cfg_default()
    load(cfg, [], ["X.EVEN", "4", "X.LIST", "['b', 'a']"])
    with pytest.raises(ConfigError) as caught:
        load(cfg, [], ["X.EVEN", "3", "X.ODD", "2", "X.LIST", "['b', 'c']", "X.HALF", "2"])
    text = str(caught.value)
    assert "X.EVEN = 3: expected an even number" in text and "X.ODD = 2: expected an odd number" in text
    assert "X.LIST = ['b', 'c']: expected one of a, b" in text and "X.HALF = 2.0: expected a number from 0 to 1" in text


def test_hash_and_differences_ignore_result_neutral_keys(tmp_path, cfg):
    file = write(tmp_path / "config.yaml", cfg.dump())
    other = get_cfg_default()
    load(other, [], ["OUTPUT_DIR", "elsewhere", "DATALOADER.NUM_WORKERS", "0"])
    assert config.config_hash(cfg) == config.config_hash(other) and config.differences(other, file) == []
    load(other, [], ["OPTIM.LR", "1"])
    assert config.config_hash(cfg) != config.config_hash(other)
    assert config.differences(other, file) == [("OPTIM.LR", 0.0003, 1.0)]


def test_dump_is_read_back_alike(tmp_path, cfg):
    load(cfg, [], ["INPUT.SIZE", "(32, 32)", "OPTIM.LR", "1e-7", "DATASET.TASKS", "[{'a': 1}, 'B']"])
    again = get_cfg_default()
    load(again, [write(tmp_path / "config.yaml", cfg.dump())])
    assert again == cfg


KEYS = ["OPTIM.LR", "OPTIM.MAX_EPOCH", "TRAINER.NAME", "TRAINER.COCOOP.N_CTX", "TRAINER.COOP.N_CTX", "TRAINER.COOP.CSC"]
KEYS += ["TRAINER.MTCOOP.CLASS_N_CTX", "TRAINER.MTCOOP.CSC", "TRAINER.MTCOOP.RATE", "TRAINER.MTCOOP.N_CTX"]


@pytest.mark.parametrize(
    ("key", "own", "expected"),
    [
        ("N_CTX", "TRAINER.COOP", "TRAINER.COOP.N_CTX"),
        ("TRAINER.N_CTX", "TRAINER.COOP", "TRAINER.COOP.N_CTX"),
        ("TRAINER.CoOp.n_ctx", "TRAINER.COOP", "TRAINER.COOP.N_CTX"),
        ("TRAINER.COOP.CLASS_N_CTX", "TRAINER.COOP", "TRAINER.COOP.N_CTX"),
        ("TRAINER.COOP.CLASS_N_CTX", "TRAINER.MTCOOP", "TRAINER.MTCOOP.CLASS_N_CTX"),
        ("TRAINER.MTCOOP.CSCC", "TRAINER.COOP", "TRAINER.MTCOOP.CSC"),
        ("TRAINER.COOP.RATE", "TRAINER.COOP", None),
        ("CSC", "TRAINER.MTCOOP", "TRAINER.MTCOOP.CSC"),
        ("CSC", "", "TRAINER.COOP.CSC"),
        ("OPTMI.LR", "TRAINER.COOP", "OPTIM.LR"),
        ("MAX_EPOCHS", "TRAINER.COOP", "OPTIM.MAX_EPOCH"),
    ],
)
def test_the_nearest_key_prefers_the_settings_of_the_chosen_method(key, own, expected):
    assert nearest_key(key, KEYS, own) == expected


def test_without_a_near_one_the_settings_of_the_group_are_listed(cfg):
    cfg.TRAINER.COOP = CN({"N_CTX": 16, "CSC": False})
    with pytest.raises(ConfigError, match=r"TRAINER.COOP.RATE: no such setting; TRAINER.COOP has CSC, N_CTX$"):
        load(cfg, [], ["TRAINER.COOP.RATE", 1])
