"""Installation, and the test command of the README."""

import os

OLD = """#!/bin/sh
case "$2" in *print*) echo 3.8.10 ;; *) exit 1 ;; esac
"""


def test_given_interpreter_gets_only_what_it_lacks(clone):
    (clone.folder / "requirements.txt").write_text("pytest>=1\nsurely-not-installed>=2\n")
    done = clone.sh("test.sh", PIP_STATUS="1")
    assert done.returncode == 2
    assert f"installing the missing packages of requirements.txt into {clone.interpreter}" in done.stdout
    assert f"pip could not install into {clone.interpreter}" in done.stderr
    [call] = clone.calls()
    assert "--upgrade" not in call
    assert call.endswith(f"-r {clone.folder}/requirements.txt")


def fake_path(clone, **programs):
    """PATH with the given programs first."""
    folder = clone.record / "bin"
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_own_environment_is_made_once(clone):
    path = fake_path(clone, python3=clone.interpreter.read_text())
    environment = {"PYTHON": "", "PATH": path}
    venv = clone.folder / ".venv"

    def installations():
        return sum(call.startswith("pip -m pip install") for call in clone.calls())

    # an installation that fails is not taken for finished
    done = clone.sh("test.sh", PIP_STATUS="1", **environment)
    assert done.returncode == 2
    assert "pip could not install requirements.txt" in done.stderr
    assert clone.calls()[0] == f"venv {venv}"
    assert not any("pytest" in call.split()[:2] for call in clone.calls())
    assert clone.sh("test.sh", **environment).returncode == 0
    assert installations() == 2

    # once is enough, until requirements.txt changes
    assert clone.sh("test.sh", **environment).returncode == 0
    assert installations() == 2
    with open(clone.folder / "requirements.txt", "a") as file:
        file.write("ruff>=0.5\n")
    assert clone.sh("test.sh", **environment).returncode == 0
    assert installations() == 3
    assert sum(call.startswith("venv") for call in clone.calls()) == 1


def test_installation_alone(clone):
    (clone.folder / "requirements.txt").write_text("pytest>=1\nsurely-not-installed>=2\n")
    done = clone.sh("install.sh")
    assert done.returncode == 0, done.stderr
    assert f"all packages of requirements.txt are installed: {clone.interpreter}" in done.stdout
    assert len(clone.calls()) == 1
    assert clone.sh("install.sh", "now").returncode == 2


def test_python_too_old(clone):
    path = fake_path(clone, python3=OLD, **{"python3.13": clone.interpreter.read_text()})
    done = clone.sh("test.sh", PYTHON=str(clone.record / "bin/python3"))
    assert done.returncode == 2
    assert "Python 3.10 or newer is needed" in done.stderr
    assert "is 3.8.10" in done.stderr
    # without PYTHON the next one on the PATH is tried
    done = clone.sh("test.sh", PYTHON="", PATH=path)
    assert done.returncode == 0, done.stderr
    assert "with python3.13" in done.stdout


def test_interpreter_that_does_not_start(clone):
    nowhere = str(clone.record / "nowhere")
    done = clone.sh("demo.sh", PYTHON=nowhere)
    assert done.returncode == 2 and f"demo.sh: PYTHON={nowhere} does not start" in done.stderr
    done = clone.sh("main_coop.sh", PYTHON=nowhere)
    assert done.returncode == 2
    assert done.stderr == (
        f"main_coop.sh: PYTHON={nowhere} is not a Python that starts; set PYTHON to an interpreter, or run sh "
        "scripts/install.sh\n"
    )
    old = fake_path(clone, python3=OLD).partition(":")[0] + "/python3"
    done = clone.sh("main_coop.sh", PYTHON=old)
    assert done.returncode == 2
    assert done.stderr == f"main_coop.sh: Python 3.10 or newer is needed, PYTHON={old} is 3.8.10\n"


def test_the_demo_installs_what_is_missing_unless_it_only_prints(clone):
    (clone.folder / "requirements.txt").write_text("pytest>=1\nsurely-not-installed>=2\n")
    for flag in ("--dry-run", "--help"):
        assert clone.sh("demo.sh", flag).returncode == 0
        assert clone.calls()[-2:] == ["demo", flag] and not any(call.startswith("pip") for call in clone.calls())
    assert clone.sh("demo.sh", "OPTIM.LR", "1").returncode == 0
    assert clone.calls()[-3:] == ["demo", "OPTIM.LR", "1"] and clone.calls()[-8].startswith("pip -m pip install")


def test_every_check_runs_and_one_failure_is_enough(clone):
    done = clone.sh("test.sh", "-k", "two words", JOBS="1")
    assert done.returncode == 0, done.stderr
    assert clone.calls() == [
        "-m ruff check",
        "-m ruff format --check",
        "-m tests.parity tests/parity/cases",
        "-m pytest -k two words",
    ]
    clone.sh("test.sh", "-x", JOBS="3")
    assert clone.calls()[-1] == "-m pytest -n 3 --dist worksteal -x"
    done = clone.sh("test.sh", FAILING="ruff")
    assert done.returncode == 1
    assert len(clone.calls()) == 12
    assert "python -m ruff check" in done.stderr
    assert "pytest" not in done.stderr


def test_mistakes_in_the_arguments_of_the_test_command(clone):
    done = clone.sh("test.sh", "--dry-run")
    assert done.returncode == 2 and "takes no --dry-run" in done.stderr
    for jobs in ("many", "0"):
        done = clone.sh("test.sh", JOBS=jobs)
        assert done.returncode == 2
        assert f'JOBS has to be a number of processes, at least 1; found "{jobs}"' in done.stderr
    assert clone.calls() == []
