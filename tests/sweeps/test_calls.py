"""Whether a run is finished, and whether it is the run that is asked for."""

from dataclasses import replace

import pytest

from dassl.utils.errors import UserError
from sweeps.calls import COMPLETE, NONE, UNFINISHED, Call, OtherSettings
from tests.sweeps.called import call, record


def test_states(tmp_path):
    run = call(tmp_path / "run", "OPTIM.LR", "0.1")
    assert run.state() == NONE
    record(run, "interrupted")
    assert (run.state(), run.state(overwrite=True)) == (UNFINISHED, NONE)
    record(run)
    assert (run.state(), run.state(overwrite=True)) == (COMPLETE, NONE)


def test_a_mistake_over_a_finished_run_is_named_and_not_the_settings(tmp_path):
    record(call(tmp_path, "OPTIM.LR", "0.002"))
    for pairs, error, message in (
        (("OPTIM.LRR", "0.002"), UserError, "OPTIM.LRR: no such setting; did you mean OPTIM.LR?"),
        (("OPTIM.LR", "slow"), UserError, "OPTIM.LR = slow: expected a number"),
        (("OPTIM.LR", "0.5"), OtherSettings, "holds a finished run made with other settings"),
    ):
        with pytest.raises(error) as raised:
            call(tmp_path, *pairs).state()
        assert message in str(raised.value) and isinstance(raised.value, OtherSettings) == (error is OtherSettings)
    assert call(tmp_path, "OPTIM.LR", "2e-3").state() == COMPLETE


def test_settings_that_a_method_does_not_read_do_not_make_its_run_another_one(tmp_path, capsys):
    def asked(trainer, config, *pairs):
        run = call(tmp_path / trainer, "SEED", "1", trainer=trainer, config=config)
        if not run.folder.exists():
            record(run)
        return call(run.folder, "SEED", "1", *pairs, trainer=trainer, config=config)

    epochs, plot, templates = ("OPTIM.MAX_EPOCH", "1"), ("TRAINER.PLOT.N", "2"), ("TRAINER.ZSCLIP.ENSEMBLE", "task")
    for trainer, config in (("ZeroshotCLIP", "tiny_ep20"), ("ProtoNet", "tiny")):
        run = asked(trainer, config, *epochs, *plot)
        capsys.readouterr()
        assert run.state() == COMPLETE
        out, errors = capsys.readouterr()
        assert out == "" and "does not read TRAINER.PLOT.N" in errors
    assert asked("CoOp", "tiny_ep20", *plot).state() == COMPLETE
    for trainer, config, pairs, there, now in (
        ("CoOp", "tiny_ep20", (*epochs, *plot), "OPTIM.MAX_EPOCH 20", "OPTIM.MAX_EPOCH 1"),
        ("ZeroshotCLIP", "tiny_ep20", (*epochs, *templates), "TRAINER.ZSCLIP.ENSEMBLE imagenet", "ENSEMBLE task"),
    ):
        with pytest.raises(OtherSettings) as raised:
            asked(trainer, config, *pairs).state()
        lines = str(raised.value).splitlines()[-3:]
        assert lines[0] == f"  there: {there}" and lines[1].endswith(now) and "--overwrite" in lines[2]


def test_a_model_that_is_not_trained(tmp_path):
    test = call(tmp_path / "test", model=tmp_path / "model", first="main_coop_base2new_train.sh")
    assert test.state() == NONE
    with pytest.raises(UserError, match="first run main_coop_base2new_train.sh"):
        test.words()
    record(call(tmp_path / "model"), "interrupted")
    with pytest.raises(UserError, match="first run"):
        test.words()


def test_tests_need_no_set_of_training_images(tmp_path):
    more = ("DATASET.FEWSHOT_SPLIT", "sets", "VERBOSE", "False")
    trained = Call(tmp_path, "CoOp", tmp_path, tmp_path, 1, ("DATASET.NUM_SHOTS", "4"))
    assert trained.words(more=more)[-6:] == [*more, "DATASET.NUM_SHOTS", "4"]
    tested = replace(trained, eval_only=True)
    assert tested.words(more=more)[-5:] == ["--eval-only", "VERBOSE", "False", "DATASET.NUM_SHOTS", "4"]
