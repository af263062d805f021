"""Rows that remember whose they are: what is learned per class, per task or per training image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dassl.data.tasks import TaskSpace
from dassl.utils import UserError


class OwnedRows(nn.Module):
    """A module whose rows belong to named classes or tasks. A checkpoint's rows are found by name, not by position.

    So a model of all tasks serves some of them, in any order; by position alone a class could get another one's row.
    Subclasses call `own` when their tensors exist.
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
        """Say whose the rows are.

        Args:
            owners: a name for each row (`class_owners(space)`, `task_owners(space)`); None: the rows are everybody's.
            kind: "class" or "task".
            what: what a message calls a row.
            tensors: names of the parameters and buffers with a row for each owner; None: all of this module.
            lists: names of the module lists with an entry for each owner; "" for this module itself.
            new: what an owner gets that the checkpoint does not know: "refuse" raises a UserError, "initial" leaves the
                row that the data have given it.
        """
        self.owners = unique(owners) if owners else None
        self._kind, self._what, self._tensors, self._lists, self._new = kind, what, tensors, lists, new
        self.refuses_new_classes = self.owners is not None and kind == "class" and new == "refuse"

    def get_extra_state(self) -> list[str] | None:
        return self.owners

    def set_extra_state(self, state) -> None:
        """Nothing to do: `_load_from_state_dict` has matched the saved owners to those of the data."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        saved = state_dict.setdefault(prefix + "_extra_state", self.owners)  # files of other code: by position
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
        """The saved row of each owner; None for a new one that keeps its own."""
        unknown = [owner for owner in self.owners if owner not in saved]
        if not unknown or self._new == "initial":
            place = {owner: row for row, owner in enumerate(saved)}
            return [place.get(owner) for owner in self.owners]
        first, again, _ = unknown[0].rpartition(" #")
        if again and first in saved:  # see `unique`
            raise UserError(
                f"This model has one {self._what} per {self._kind}, and two of this suite would need the one of "
                f"{first!r}: test shifted test sets of one source in a run each, as scripts/xd_test.sh does."
            )
        raise UserError(
            f"This model has one {self._what} per {self._kind}, and none was learned for {unknown[0]!r} "
            f"({len(unknown)} of {len(self.owners)} are new to it). Train on them as well, or use a method or a "
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
    """A row for each of M training images, M given by the data: `keys` (M, d), and the class `column` (M,) of each.

    A checkpoint brings its own M. Rows of classes that this run does not have are left out.
    """

    def __init__(self, space: TaskSpace, width: int):
        super().__init__()
        self.owners = class_owners(space)
        self.keys = nn.Parameter(torch.zeros(0, width))
        self.register_buffer("column", torch.zeros(0, dtype=torch.long))

    def fill(self, keys: Tensor, column: Tensor) -> None:
        """Set the rows. The parameter stays the same object, so that an optimiser made before still has it."""
        self.keys.data = keys.to(self.keys)
        self.column = column.to(self.column.device)

    def get_extra_state(self) -> list[str]:
        return self.owners

    def set_extra_state(self, state) -> None:
        """Nothing to do: `_load_from_state_dict` has matched the saved classes to those of the data."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        saved = state_dict.get(prefix + "_extra_state", self.owners)
        keys, column = state_dict[prefix + "keys"], state_dict[prefix + "column"]
        place = {owner: position for position, owner in enumerate(self.owners)}
        new = torch.tensor([place.get(owner, -1) for owner in saved])[column.cpu()].to(column.device)
        state_dict[prefix + "keys"], state_dict[prefix + "column"] = keys[new >= 0], new[new >= 0]
        self.fill(state_dict[prefix + "keys"], state_dict[prefix + "column"])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class TaskModules(OwnedRows, nn.ModuleList):
    """One module for all tasks, or one for each of `owners` (`task_owners(space)`), each made by `make`."""

    def __init__(
        self, make: Callable[[], nn.Module], owners: Sequence[str] | None = None, what: str = "set of prompts"
    ):
        super().__init__(make() for _ in owners or [""])
        self.own(owners, "task", what, tensors=(), lists=("",))


def unique(names: Sequence[str]) -> list[str]:
    """The names, with a number added to a name that has occurred before."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return out


def class_owners(space: TaskSpace) -> list[str]:
    """N texts that tell the classes of a suite apart."""
    return [f"{task.owner}: {name}" for task in space.tasks for name in task.classnames]


def task_owners(space: TaskSpace) -> list[str]:
    """T texts that tell the tasks of a suite apart."""
    return [task.owner for task in space.tasks]
