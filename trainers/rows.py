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
        if kind not in ("class", "task") or new not in ("refuse", "initial"):
            raise ValueError(f"own(kind={kind!r}, new={new!r}): expected class or task, and refuse or initial")
        if tensors is None and not lists and next(iter(self.children()), None) is not None:
            raise ValueError("own(): name the tensors; rows inside submodules are not matched with their owners")
        self.owners = unique(owners) if owners else None
        self._kind, self._what, self._tensors, self._lists, self._new = kind, what, tensors, lists, new

    def get_extra_state(self) -> list[str] | None:
        return self.owners

    def set_extra_state(self, state) -> None:
        """Do nothing: `_load_from_state_dict` has already matched saved owners with the owners in the data."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        self.match_saved(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def match_saved(self, state_dict: dict, prefix: str, partial: bool = False) -> None:
        """Put the rows of a checkpoint into the order of this module's owners, in place.

        `partial`: owners that the checkpoint does not know keep their initial rows, whatever `own` was told.
        """
        # checkpoints of other code have no owners: rows are matched by position
        saved = state_dict.setdefault(prefix + "_extra_state", self.owners)
        if not saved or not self.owners or saved == self.owners:
            return
        rows = self._rows(saved, partial)
        names = (*self._parameters, *self._buffers) if self._tensors is None else self._tensors
        for name in names:
            found = state_dict.get(prefix + name)
            if found is not None and found.ndim and len(found) == len(saved):
                state_dict[prefix + name] = self._matched(name, found, rows)
        for name in self._lists:
            self._renumber(state_dict, prefix, f"{name}." if name else "", rows)
        state_dict[prefix + "_extra_state"] = self.owners

    def _rows(self, saved: Sequence[str], partial: bool) -> list[int | None]:
        """Saved row of each owner; None for new owners, which keep their initial row."""
        unknown = [owner for owner in self.owners if owner not in saved]
        if not unknown or self._new == "initial" or partial:
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

    def _renumber(self, state_dict: dict, prefix: str, head: str, rows: list[int | None]) -> None:
        """Move the entries of the module list `head` to the rows of their owners; new owners get their initial ones."""
        start = prefix + head
        entries = [key for key in state_dict if key.startswith(start) and key.removeprefix(start)[:1].isdigit()]
        for key, value in {key: state_dict.pop(key) for key in entries}.items():
            row, _, name = key.removeprefix(start).partition(".")
            if int(row) in rows:
                state_dict[f"{start}{rows.index(int(row))}.{name}"] = value
        new = tuple(f"{head}{position}." for position, row in enumerate(rows) if row is None)
        own = self.state_dict() if new else {}
        state_dict.update({prefix + key: value for key, value in own.items() if key.startswith(new)})


class SampleRows(OwnedRows):
    """One row per training image: `keys` (M, d) and the class `column` (M,) of each image.

    The data determine M; loading a checkpoint sets M. Rows of classes that are not in this run are dropped.

    Args:
        space: the tasks.
        width: d.
        owners: owners of the rows if they are not the classes, such as `task_owners(space)`: then `column` is the
            position of each image's task.
        learned: whether the keys are trained.
    """

    def __init__(self, space: TaskSpace, width: int, owners: Sequence[str] | None = None, learned: bool = True):
        super().__init__()
        self.owners = unique(class_owners(space) if owners is None else owners)
        self.keys = nn.Parameter(torch.zeros(0, width), requires_grad=learned)
        self.register_buffer("column", torch.zeros(0, dtype=torch.long))

    def fill(self, keys: Tensor, column: Tensor) -> None:
        """Set the rows. The parameter object is kept, so an existing optimiser remains valid."""
        self.keys.data = keys.detach().to(self.keys).clone()
        self.column = column.detach().to(self.column.device).clone()

    def match_saved(self, state_dict: dict, prefix: str, partial: bool = False) -> None:
        """Keep the saved rows of this run's classes, renumber their columns, and take over their number, in place."""
        keys, column = (state_dict.get(prefix + name) for name in ("keys", "column"))
        if keys is None or column is None:  # a checkpoint of another method: torch reports what is missing
            return
        saved = unique(state_dict.get(prefix + "_extra_state") or self.owners)
        for owner in self.owners:
            first, again, _ = owner.rpartition(" #")
            if again and owner not in saved and first in saved:
                raise UserError(
                    f"This model has a row per training image, and two tasks of this suite need the rows of {first!r}: "
                    "test each shifted test set of one source in a separate run, as scripts/xd_test.sh does."
                )
        place = {owner: position for position, owner in enumerate(self.owners)}
        new = torch.tensor([place.get(owner, -1) for owner in saved])[column.cpu()].to(column.device)
        state_dict[prefix + "keys"], state_dict[prefix + "column"] = keys[new >= 0], new[new >= 0]
        state_dict[prefix + "_extra_state"] = self.owners
        self.fill(state_dict[prefix + "keys"], state_dict[prefix + "column"])


class TaskModules(OwnedRows, nn.ModuleList):
    """One module for all tasks, or one for each of `owners` (`task_owners(space)`), created by `make`."""

    def __init__(
        self, make: Callable[[], nn.Module], owners: Sequence[str] | None = None, what: str = "set of prompts"
    ):
        super().__init__(make() for _ in owners or [""])
        self.own(owners, "task", what, tensors=(), lists=("",))


def apply_by_task(x: Tensor, task: Tensor | None, functions: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """`functions[t]` of the rows of x (B, …) whose `task` (B,) is t, in the order of x; one function serves all tasks.

    Every function is called, some without rows: so parameters of absent tasks get zero gradients, not none.
    """
    if len(functions) == 1:
        return functions[0](x)
    order = task.argsort(stable=True)
    parts = x[order].split(torch.bincount(task, minlength=len(functions)).tolist())
    return torch.cat([own(part) for own, part in zip(functions, parts, strict=True)])[order.argsort()]


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
