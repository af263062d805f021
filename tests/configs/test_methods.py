"""configs/methods.yaml: rows of published tables as names of trainers, and the names that runs are shown under."""

import pytest

import datasets  # noqa: F401  declares settings
import trainers  # noqa: F401  declares settings
from dassl.config import ConfigError, get_cfg_default, load, method_name, methods, overrides, settle_method
from dassl.engine import TRAINER_REGISTRY
from reporting.published_tables import load as load_figures
from reporting.published_tables import names


def configured(*opts):
    cfg = get_cfg_default()
    load(cfg, [], [str(word) for word in opts])
    return cfg


@pytest.mark.parametrize("name", methods())
def test_a_method_is_a_trainer_with_settings_and_shown_under_one_name(name):
    cfg = configured("TRAINER.NAME", name)
    row = methods()[name]
    assert row["TRAINER.NAME"] == cfg.TRAINER.NAME and cfg.TRAINER.NAME in TRAINER_REGISTRY
    shown = {"SoftCPT": "SoftCPT-NATA", "ZS-CLIP": "ZeroshotCLIP", "LP-CLIP": "LinearProbe"}.get(name, name)
    assert method_name(cfg) == shown and overrides(cfg, []) == {}
    again = configured("TRAINER.NAME", cfg.TRAINER.NAME, *(word for pair in row.items() for word in pair))
    assert again == configured("TRAINER.NAME", name)


def test_every_row_of_the_papers_is_a_name():
    known = {row for name in [*methods(), *TRAINER_REGISTRY.registered_names()] for row in names(name, None)}
    figures = load_figures()
    assert set(figures[figures["source"].isin(["softcpt", "upt1", "upt2"])]["method"]) <= known


def test_settings_name_the_method_and_further_settings_stay_free():
    cfg = configured("TRAINER.NAME", "SoftCPT", "TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.N_CTX", 8)
    assert method_name(cfg) == "SoftCPT-CATA" and overrides(cfg, []) == {"TRAINER.MTCOOP.N_CTX": 8}
    cfg = configured("TRAINER.NAME", "SoftCPT-NATS", "OPTIM.MAX_EPOCH", 4, "SEED", 3, "DATASET.NUM_SHOTS", 2)
    assert overrides(cfg, []) == {"OPTIM.MAX_EPOCH": 4}
    rand = configured("TRAINER.NAME", "MTCoOp", "TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.TASK_FEATURE", "rand")
    assert method_name(rand) == "SoftCPT"  # not a row
    early = {"TRAINER": {"NAME": "MTCoOp", "MTCOOP": {"CSC": False, "TASK_CSC": True}}}  # without TASK_FEATURE
    assert method_name(early) == "SoftCPT-NATS" and method_name({"TRAINER": {"NAME": "Mine"}}) == "Mine"
    assert method_name({}) == method_name({"TRAINER": 3}) == ""


def test_a_setting_that_contradicts_the_method_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match="TASK_CSC = True: the method SoftCPT-NATA has False by definition"):
        configured("TRAINER.NAME", "SoftCPT-NATA", "TRAINER.MTCOOP.TASK_CSC", True)
    file = tmp_path / "mine.yaml"
    file.write_text("TRAINER:\n  NAME: CoOp-CA\n  MTCOOPH:\n    TSC: True\n")
    cfg = get_cfg_default()
    load(cfg, [str(file)])
    assert cfg.TRAINER.NAME == "MTCoOpHard" and method_name(cfg) == "CoOp-CA"
    with pytest.raises(ConfigError, match="mine.yaml: TRAINER.MTCOOPH.TSC = True"):
        load(get_cfg_default(), [str(file)], ["TRAINER.NAME", "CoOp-MT"])
    with pytest.raises(ConfigError, match="did you mean SoftCPT-NATS"):
        configured("TRAINER.NAME", "softcpt-nats")


def test_a_name_set_in_code_is_settled():
    cfg = get_cfg_default()
    cfg.TRAINER.NAME = "CoOp-CS"
    cfg.freeze()
    settle_method(cfg)
    assert cfg.TRAINER.NAME == "MTCoOpHard" and cfg.TRAINER.MTCOOPH.CSC and cfg.is_frozen()
    cfg.defrost()
    cfg.TRAINER.NAME = "CoOp-CA"
    with pytest.raises(ConfigError, match="CSC = True"):
        settle_method(cfg)
