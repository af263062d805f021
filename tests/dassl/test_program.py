"""Programs that are interrupted or whose output nobody reads: exit codes, one line, nothing left behind."""

import io
import json
import os
import signal
import sys
import threading
import time

import pytest
import torch

import dassl.config.tree
import train
from dassl import program
from dassl.utils import Logger, UserError, atomic_write
from tests.dassl import toy

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def heeded():
    """A shell may ignore SIGINT for programs that it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Moments(toy.ToyCoOp):
    """A trainer that gets signals at chosen moments: {(what, how often it has happened): [signals]}."""

    plan, seen = {}, {}

    @classmethod
    def happens(cls, what):
        cls.seen[what] = cls.seen.get(what, 0) + 1
        for number in cls.plan.get((what, cls.seen[what]), ()):
            signal.raise_signal(number)

    def build_model(self):
        self.happens("build")
        super().build_model()

    def forward_backward(self, batch):
        self.happens("batch")
        return super().forward_backward(batch)

    def model_inference(self, input):
        self.happens("test")
        return super().model_inference(input)

    def write_scalar(self, *args):
        self.happens("scalar")
        super().write_scalar(*args)


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    toy.draw_images(tmp_path)
    (tmp_path / "toy.yaml").write_text(toy.config(tmp_path, "").dump())
    monkeypatch.setattr(dassl.config.tree, "_settings", dassl.config.settings())
    dassl.config.declare("TRAINER.TOYCOOP.PREC", "fp32", allowed=("fp32", "amp"))
    save = torch.save

    def save_and_signal(state, stream):
        Moments.happens("save")
        save(state, stream)

    monkeypatch.setattr(torch, "save", save_and_signal)

    def run(output, plan=None):
        """Exit code and lines on standard error."""
        Moments.plan, Moments.seen = plan or {}, {}
        settings = ["OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1", "TRAIN.TENSORBOARD", "True"]
        folder = ["--config-file", str(tmp_path / "toy.yaml"), "--output-dir", str(tmp_path / output), "--seed", "0"]
        with toy.registered(Moments):
            code = train.main([*folder, "--trainer", "Moments", *settings])
        return code, capsys.readouterr().err.splitlines()

    return run


def learned(folder):
    files = sorted(folder.glob("*/model.pth.tar-2"))
    return [torch.load(file, weights_only=True)["state_dict"] for file in files]


def test_a_signal_at_any_moment_ends_a_run_with_one_line_and_it_resumes_to_the_same_bits(run, tmp_path):
    assert run("whole") == (0, [])
    whole = learned(tmp_path / "whole")
    moments = [(what, count) for what, counts in Moments.seen.items() for count in {1, counts // 2 + 1, counts}]
    moments = [moment for moment in moments if moment[0] != "scalar"] + [("scalar", 3)]
    for index, moment in enumerate(sorted(moments)):
        number, folder = list(SIGNALS)[index % 3], tmp_path / f"run{index}"
        code, lines = run(folder.name, {moment: [number]})
        assert code == SIGNALS[number], moment
        assert lines == ["interrupted; the same command continues from the last checkpoint"]
        assert not list(folder.rglob(".*")), moment
        assert run(folder.name)[0] == 0
        for here, there in zip(learned(folder), whole, strict=True):
            assert all(torch.equal(here[key], there[key]) for key in there), moment
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # Python's own again


def test_a_second_signal_does_not_wait_for_the_batch_but_for_the_file(run, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "SAME", -1)
    moment = {("batch", 2): [signal.SIGINT, signal.SIGINT]}
    assert run("batch", moment)[0] == 130 and Moments.seen["batch"] == 2
    code, _ = run("file", {("save", 1): [signal.SIGINT, signal.SIGINT]})
    assert code == 130
    assert not list((tmp_path / "file").rglob(".*"))


def test_ignored_signals_stay_ignored(run):
    """As with nohup."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert run("ignoring", {("batch", 1): [signal.SIGINT]}) == (0, [])


def test_an_error_after_a_signal_is_an_interruption(run, monkeypatch, tmp_path):
    """Worker processes end by the same signal, and the loader raises."""

    def gone(self, batch):
        raise RuntimeError("DataLoader worker is killed")

    monkeypatch.setattr(toy.ToyCoOp, "forward_backward", gone)
    code, lines = run("workers", {("batch", 1): [signal.SIGTERM]})
    assert code == 143 and len(lines) == 1
    assert json.loads((tmp_path / "workers" / "results.json").read_text())["status"] != "failed"


def test_a_writer_that_cannot_close_holds_nobody_up(run, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    never = threading.Event()
    monkeypatch.setattr(SummaryWriter, "close", lambda self: never.wait())
    waited, join = [], threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: waited.append(timeout) or join(self, 0))
    assert run("writer")[0] == 0
    assert waited and None not in waited
    never.set()


# ---- output that nobody reads, or that the console cannot show ----


def unread():
    """A text stream into a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")  # noqa: SIM115


def test_a_program_ends_quietly_when_its_reader_is_gone(monkeypatch, capsys):
    @program.entry
    def talks():
        print("a line")
        return 0

    with unread() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert talks() == 141
        assert talks() == 0  # from now on its output is discarded
    assert capsys.readouterr().err == ""


def test_a_broken_connection_is_not_a_closed_console():
    @program.entry
    def sends():
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        sends()


def test_a_log_goes_on_without_its_console(tmp_path):
    with unread() as stream, Logger(tmp_path / "log.txt", console=stream) as logger:
        for number in range(3):
            logger.write(f"{number}\n")
            logger.flush()
    assert (tmp_path / "log.txt").read_text() == "0\n1\n2\n"


def test_a_log_and_a_console_take_every_text(tmp_path):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with Logger(tmp_path / "log.txt", console=console) as logger:
        logger.write("Käfer \udcff\n")
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "Käfer \\udcff\n"
    console.seek(0)
    assert console.read() == "K\\u00e4fer \\udcff\n"


def test_what_a_console_cannot_show_is_escaped_as_in_json(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)

    @program.entry
    def prints():
        print(json.dumps("Käfer 🐞 \udcff", ensure_ascii=False))

    assert prints() == 0
    console.seek(0)
    assert json.loads(console.read()) == "Käfer 🐞 \udcff"


def test_a_user_error_is_one_line_and_a_bug_is_raised(capsys):
    @program.entry
    def fails(error):
        raise error

    assert fails(UserError("wrong")) == 2
    assert capsys.readouterr().err == "error: wrong\n"
    with pytest.raises(KeyError):
        fails(KeyError("bug"))


def test_files_are_whole_outside_of_programs_too(tmp_path):
    """Python's own handling of Ctrl-C stays in force where no program handles signals."""
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file") as stream:
        stream.write("a")
        signal.raise_signal(signal.SIGINT)
        time.sleep(1)
    assert not list(tmp_path.iterdir())
