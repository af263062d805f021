"""Which runs of a sweep are made, in which order, and what becomes of them; with runs that end at once."""

import pytest

from dassl.runs import folder as run_folder
from sweeps.work import DONE, ELSEWHERE, FAILED, LEFT, REFUSED, SKIPPED, Display, summary, work
from tests.scripts.project import Engine
from tests.sweeps.called import call, record


class Outcomes(Engine):
    """Runs end with the statuses that are given by name of their folder; others succeed."""

    def __init__(self, slots=1, **statuses):
        super().__init__(slots, [])
        self.statuses, self.stopped, self.most = statuses, 0, 0

    def start(self, job, words):
        super().start(job, words)
        self.most = max(self.most, len(self.begun))

    def make(self, job, words):
        status = self.statuses.get(job.call.folder.name, 0)
        if isinstance(status, BaseException):
            raise status
        return status or super().make(job, words)

    def stop(self):
        self.stopped += 1

    @property
    def made(self):
        return [words[words.index("--output-dir") + 1].rpartition("/")[2] for words in self.calls]


def named(tmp_path, names):
    return [call(tmp_path / name) for name in names]


def states(jobs):
    return [job.state for job in jobs]


def test_finished_runs_are_skipped_and_interrupted_ones_made(tmp_path):
    calls = named(tmp_path, "abc")
    record(calls[0], settings=False)
    record(calls[1], "interrupted", settings=False)
    engine = Outcomes()
    assert states(work(calls, engine, Display())) == [SKIPPED, DONE, DONE] and engine.made == ["b", "c"]
    engine = Outcomes()
    assert states(work(calls, engine, Display(), overwrite=True)) == [DONE] * 3
    assert all("--overwrite" in words for words in engine.calls)


@pytest.mark.parametrize(
    ("first", "status", "go_on", "ends"),
    [
        ("", 3, True, [FAILED, DONE, DONE]),
        ("", 3, False, [FAILED, LEFT, LEFT]),
        ("", 2, True, [FAILED, LEFT, LEFT]),  # a user error, which the others probably share
        ("finished", 2, True, [SKIPPED, FAILED, DONE]),  # which they do not
        ("other", 0, True, [REFUSED, DONE, DONE]),
        ("other", 0, False, [REFUSED, LEFT, LEFT]),
    ],
)
def test_what_follows_a_failure_or_a_refusal(tmp_path, capsys, first, status, go_on, ends):
    calls = named(tmp_path, "abc")
    if first:
        other = ("OPTIM.LR", "0.5") if first == "other" else ()
        record(call(tmp_path / "a", "SEED", "1", *other), settings=False)
        calls[0] = call(tmp_path / "a", "SEED", "1")
    engine = Outcomes(**{"b" if first == "finished" else "a": status})
    jobs = work(calls, engine, Display(), go_on=go_on)
    assert states(jobs) == ends
    assert summary(jobs) == (status or 2)
    errors = capsys.readouterr().err
    assert ("not made: 2 of 3" in errors) == (ends.count(LEFT) == 2) and ("failed: 1 of 3" in errors) == (status > 0)


def test_success_without_results_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("SILENT", "yes")
    (job,) = work(named(tmp_path, "a"), Outcomes(), Display())
    assert (job.state, job.status) == (FAILED, 1) and "did not write a complete results.json" in job.why


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (139, "ended by SIGSEGV\n"),
        (137, "ended by SIGKILL, as the kernel does when memory runs out\n"),
        (1, "status 1\n"),
    ],
)
def test_a_run_that_a_signal_ends_says_which(tmp_path, capsys, status, reason):
    assert summary(work(named(tmp_path, "ab"), Outcomes(a=status), Display())) == status
    assert reason in capsys.readouterr().err


def test_a_test_waits_for_its_model(tmp_path):
    model, other = named(tmp_path, "mo")
    test = call(tmp_path / "test", model=model.folder)
    engine = Outcomes(slots=3)
    assert states(work([test, model, other], engine, Display())) == [DONE] * 3
    assert engine.made == ["m", "o", "test"] and engine.most == 2
    assert engine.calls[2][engine.calls[2].index("--load-epoch") + 1] == "20"  # what the model's results say


def test_a_test_of_a_model_that_failed_is_not_made(tmp_path):
    model, other = named(tmp_path, "mo")
    test = call(tmp_path / "test", model=model.folder, first="that")
    jobs = work([model, other, test], Outcomes(slots=2, m=3), Display())
    assert states(jobs) == [FAILED, DONE, FAILED] and "first run that" in jobs[2].why


def test_never_more_runs_than_slots(tmp_path):
    engine = Outcomes(slots=2)
    work(named(tmp_path, "abcde"), engine, Display())
    assert engine.most == 2 and engine.made == list("abcde")


def test_an_interruption_ends_the_runs_that_are_going_on(tmp_path):
    engine = Outcomes(slots=2, b=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        work(named(tmp_path, "abc"), engine, Display())
    assert engine.stopped == 1


class Told(Display):
    def __init__(self, then):
        self.then, self.seen = then, []

    def settled(self, job, jobs):
        self.seen.append((job.call.folder.name, job.state))
        if job.state == ELSEWHERE:
            self.then()


@pytest.mark.parametrize("ends", ["finished", "abandoned"])
def test_a_run_that_somebody_else_makes_is_waited_for(tmp_path, monkeypatch, ends):
    """In the end it is there, or it is made after all."""
    calls = named(tmp_path, "ab")
    going = {calls[0].folder}
    monkeypatch.setattr("sweeps.work.going_on", lambda folder: folder in going)
    monkeypatch.setattr("sweeps.work.time.sleep", lambda _: None)

    def then():
        if ends == "finished":
            record(calls[0], settings=False)
        going.clear()

    engine, display = Outcomes(), Told(then)
    assert states(work(calls, engine, display)) == ([SKIPPED, DONE] if ends == "finished" else [DONE, DONE])
    assert engine.made == (["b"] if ends == "finished" else ["b", "a"]) and display.seen[0] == ("a", ELSEWHERE)


def test_the_lock_of_a_run_tells_that_it_is_going_on(tmp_path):
    assert not run_folder.going_on(tmp_path / "nowhere") and not run_folder.going_on(tmp_path)
