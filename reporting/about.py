"""What experiments have in common and in what they differ, in words, from the settings that their runs recorded."""

from dassl.runs.results import SETTINGS, Run
from dassl.utils import counted
from reporting.experiments import Experiment, differing

TRAINING = ("shots", "epochs", "protocol")  # settings without a meaning for methods that learn nothing


def about_text(experiments: list[Experiment]) -> str:
    """What all finished runs have in common, and a line with the settings changed from their configuration files."""
    same = {name: values[0] for name, values in _values(experiments).items() if len(values) == 1}
    shots, epochs = same.get("shots", ""), same.get("epochs", "")
    parts = [same.get("method"), same.get("suite")]
    if same.get("protocol") in ("base", "new"):
        parts.append(f"{same['protocol']} classes")
    if shots.removeprefix("-").isdigit():
        parts.append(f"{counted(int(shots), 'image')} per class" if int(shots) > 0 else "all training images")
    if epochs.isdigit() and epochs != "0":
        parts.append(counted(int(epochs), "epoch"))
    parts += [same.get("backbone"), same.get("precision")]
    if same.get("split", "test") != "test":
        parts.append(f"tested on the {same['split']} split")
    return "\n".join(filter(None, (", ".join(filter(None, parts)), changes_text(experiments))))


def named_label(experiment: Experiment) -> str:
    """The marked label with the name of the method, if it has another name than its trainer, as folders have."""
    found = {(run.settings.get("trainer"), run.settings.get("method")) for run in experiment.finished}
    trainer, method = found.pop() if len(found) == 1 else (None, None)
    named = experiment.label if method in (None, trainer, experiment.label) else f"{experiment.label} ({method})"
    return named + experiment.mark


def changes_text(experiments: list[Experiment]) -> str:
    """The settings that differ from the configuration files, each with the experiments it is of; "" without any."""
    owners: dict[str, list[str]] = {}
    finished = [experiment for experiment in experiments if experiment.finished]
    for experiment in finished:
        changes = {f"{key} {value}": "" for run in experiment.finished for key, value in run.overrides.items()}
        for change in changes:
            owners.setdefault(change, []).append(experiment.label)

    def owned(change: str) -> str:
        labels = owners[change]
        if len(labels) == len(finished):
            return change
        return f"{change} ({', '.join(labels) if len(labels) <= 3 else f'{len(labels)} of {len(finished)} rows'})"

    return f"changed from the configuration file: {'; '.join(map(owned, sorted(owners)))}" if owners else ""


def unlike_text(experiments: list[Experiment]) -> str:
    """The settings, other than the method, in which experiments differ, with their values; "" if they are alike."""
    found = {name: values for name, values in _values(experiments).items() if name not in ("trainer", "method")}
    if len(experiments) < 2:
        return ""  # the experiment has notes about its own runs
    return "; ".join(f"{name} ({', '.join(values)})" for name, values in found.items() if len(values) > 1)


def _values(experiments: list[Experiment]) -> dict[str, list[str]]:
    """The different values of each recorded setting, as text; those of training only from runs that trained."""
    runs = [run for experiment in experiments for run in experiment.finished]
    trained = [run for run in runs if str(run.settings.get("epochs")) != "0"]

    def of(name: str, runs: list[Run]) -> list[str]:
        return sorted({str(run.settings[name]) for run in runs if run.settings.get(name) not in (None, "")})

    return {name: of(name, trained or runs if name in TRAINING else runs) for name in SETTINGS}


def differing_text(experiments: list[Experiment]) -> str:
    """The settings, with their values, and tasks in which finished runs differ; "" if they are alike."""
    finished = [experiment for experiment in experiments if experiment.finished]
    found = differing([run for experiment in finished for run in experiment.finished])
    differ = [f"{name} ({values})" for name, values in found.items()]
    tasks = {tuple((task.id, task.name) for task in experiment.tasks()) for experiment in finished}
    return ", ".join([*differ, *(["tasks"] if len(tasks) > 1 else [])])
