"""Learned rows with owners: one row per class, per task or per training image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dassl.data.tasks import TaskSpace
from dassl.utils import UserError


class OwnedRows(nn.Module):
    """A module whose rows belong to named classes or tasks. Rows of a checkpoint are matched by name, not by position.

    So a model of all tasks can be tested on some of its tasks, in any order. Matching by position could assign a class
    the row of another class. Subclasses call `own` after their tensors are created.
    """

    owners: list[str] | None = None
    refuses_new_classes = False

    def own(
        self,
        owners: Sequence[str] | None,
        kind: str = "class",
        what: str = "row",
        tensors: Sequence[str] | None = None,
        lists: Sequence[str] = (),
        new: str = "refuse",
    ) -> None:
        """Set the owners of the rows.

        Args:
            owners: name of each row's owner (`class_owners(space)`, `task_owners(space)`); None: all share the rows.
            kind: "class" or "task".
            what: name of a row in messages.
            tensors: names of the parameters and buffers with one row per owner; None: all of this module.
            lists: names of the module lists with one entry per owner; "" for this module itself.
            new: treatment of owners that the checkpoint does not know: "refuse" raises a UserError, "initial" keeps
                the initial row.
        """
        self.owners = unique(owners) if owners else None
        self._kind, self._what, self._tensors, self._lists, self._new = kind, what, tensors, lists, new
        self.refuses_new_classes = self.owners is not None and kind == "class" and new == "refuse"

    def get_extra_state(self) -> list[str] | None:
        return self.owners

    def set_extra_state(self, state) -> None:
        """Do nothing: `_load_from_state_dict` has already matched saved owners with the owners in the data."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # checkpoints of other code have no owners: rows are matched by position
        saved = state_dict.setdefault(prefix + "_extra_state", self.owners)
        if saved and self.owners and saved != self.owners:
            rows = self._rows(saved)
            names = (*self._parameters, *self._buffers) if self._tensors is None else self._tensors
            for key in (prefix + name for name in names):
                if key in state_dict:
                    state_dict[key] = self._matched(key.removeprefix(prefix), state_dict[key], rows)
            for name in self._lists:
                self._renumber(state_dict, prefix + (f"{name}." if name else ""), rows)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _rows(self, saved: Sequence[str]) -> list[int | None]:
        """Saved row of each owner; None for new owners, which keep their initial row."""
        unknown = [owner for owner in self.owners if owner not in saved]
        if not unknown or self._new == "initial":
            place = {owner: row for row, owner in enumerate(saved)}
            return [place.get(owner) for owner in self.owners]
        first, again, _ = unknown[0].rpartition(" #")
        if again and first in saved:  # see `unique`
            raise UserError(
                f"This model has one {self._what} per {self._kind}, and two of this suite would need that of "
                f"{first!r}: test each shifted test set of one source in a separate run, as scripts/xd_test.sh does."
            )
        raise UserError(
            f"This model has one {self._what} per {self._kind}, and none was learned for {unknown[0]!r} "
            f"({len(unknown)} of {len(self.owners)} were not in training). Train on them as well, or use a method or "
            f"setting without one {self._what} per {self._kind}."
        )

    def _matched(self, name: str, saved: Tensor, rows: list[int | None]) -> Tensor:
        if None not in rows:
            return saved[rows]
        found = getattr(self, name).detach().to(saved.device, saved.dtype).clone()
        known = [row is not None for row in rows]
        found[torch.tensor(known, device=saved.device)] = saved[[row for row in rows if row is not None]]
        return found

    @staticmethod
    def _renumber(state_dict: dict, head: str, rows: list[int | None]) -> None:
        entries = [key for key in state_dict if key.startswith(head) and key.removeprefix(head)[:1].isdigit()]
        for key, value in {key: state_dict.pop(key) for key in entries}.items():
            row, _, name = key.removeprefix(head).partition(".")
            if int(row) in rows:
                state_dict[f"{head}{rows.index(int(row))}.{name}"] = value


class SampleRows(nn.Module):
    """One row per training image: `keys` (M, d) and the class `column` (M,) of each image.

    The data determine M; loading a checkpoint sets M. Rows of classes that are not in this run are dropped.
    """

    def __init__(self, space: TaskSpace, width: int):
        super().__init__()
        self.owners = class_owners(space)
        self.keys = nn.Parameter(torch.zeros(0, width))
        self.register_buffer("column", torch.zeros(0, dtype=torch.long))

    def fill(self, keys: Tensor, column: Tensor) -> None:
        """Set the rows. The parameter object is kept, so an existing optimiser remains valid."""
        self.keys.data = keys.to(self.keys)
        self.column = column.to(self.column.device)

    def get_extra_state(self) -> list[str]:
        return self.owners

    def set_extra_state(self, state) -> None:
        """Do nothing: `_load_from_state_dict` has already matched saved classes with the classes in the data."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        saved = state_dict.get(prefix + "_extra_state", self.owners)
        keys, column = state_dict[prefix + "keys"], state_dict[prefix + "column"]
        place = {owner: position for position, owner in enumerate(self.owners)}
        new = torch.tensor([place.get(owner, -1) for owner in saved])[column.cpu()].to(column.device)
        state_dict[prefix + "keys"], state_dict[prefix + "column"] = keys[new >= 0], new[new >= 0]
        self.fill(state_dict[prefix + "keys"], state_dict[prefix + "column"])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class TaskModules(OwnedRows, nn.ModuleList):
    """One module for all tasks, or one for each of `owners` (`task_owners(space)`), created by `make`."""

    def __init__(
        self, make: Callable[[], nn.Module], owners: Sequence[str] | None = None, what: str = "set of prompts"
    ):
        super().__init__(make() for _ in owners or [""])
        self.own(owners, "task", what, tensors=(), lists=("",))


def unique(names: Sequence[str]) -> list[str]:
    """Make names unique: add a number to repeated names."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return out


def class_owners(space: TaskSpace) -> list[str]:
    """N unique identifiers of the classes of a suite."""
    return [f"{task.owner}: {name}" for task in space.tasks for name in task.classnames]


def task_owners(space: TaskSpace) -> list[str]:
    """T unique identifiers of the tasks of a suite."""
    return [task.owner for task in space.tasks]
