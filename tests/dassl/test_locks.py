"""Locks between processes."""

import subprocess
import sys
import threading

import pytest
from filelock import Timeout

from dassl.utils.locks import locked


def test_a_second_process_is_refused_or_waits(tmp_path, monkeypatch):
    path, entered, waiting = tmp_path / "a.lock", threading.Event(), threading.Event()
    monkeypatch.setattr("builtins.print", lambda text, **_: text == "waiting for the first" and waiting.set())

    def second():
        with locked(path, "waiting for the first"):
            entered.set()

    with locked(path):
        with pytest.raises(Timeout), locked(path):
            pass
        command = f"from dassl.utils.locks import locked\nwith locked({str(path)!r}): pass"
        other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
        assert other.returncode == 1 and "Timeout" in other.stderr
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(60) and not entered.is_set()
    thread.join(20)
    assert entered.is_set()


def test_a_folder_that_cannot_hold_a_lock(tmp_path):
    (tmp_path / "file").write_text("")
    with locked(tmp_path / "file" / "a.lock"):
        pass
