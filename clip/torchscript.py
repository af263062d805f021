"""Read the tensors of a TorchScript archive without running anything that the archive holds.

`torch.jit.load` compiles the archive's code and runs its `__setstate__` methods. Here the code is never read. The
archive's `data.pkl` is interpreted by a machine that knows the few pickle opcodes of TorchScript, tensors and plain
values. It imports nothing and calls no function that the file names.
"""

from __future__ import annotations

import math
import os
import pickletools
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MOST = 100_000  # tensors and modules of an archive; CLIP has about 1,000
LONGEST = 10_000  # letters of a module's name
_TENSOR = "torch._utils _rebuild_tensor_v2"
_WRAPPERS = {  # functions of TorchScript that give a list or dict its type: their first argument is the value
    "torch.jit._pickle restore_type_tag",
    *(f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
}
_WITHOUT_TENSORS = {"torch device", "builtins complex"}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class _Global(NamedTuple):
    """The name of a class or function in a pickle; it is never imported."""

    name: str

    @property
    def of_archive(self) -> bool:
        """Whether it is a class of the archive's own code."""
        return self.name.startswith(("__torch__.", "__torch__ "))


class _Object:
    """An object of a class of the archive's own code; `state` holds its attributes."""

    def __init__(self):
        self.state: Any = None


def is_torchscript(names: list[str]) -> bool:
    """Whether a zip archive with entries of these names is a TorchScript archive, of any version."""
    return any("/code/" in name or name.endswith(("constants.pkl", "model.json")) for name in names)


def read_torchscript(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the module in a TorchScript archive, as its `state_dict()` would give them.

    Shapes, strides, types and shared storages are those of the archive. Every part that is read is compared with its
    CRC.

    Raises:
        ValueError, RuntimeError, zipfile.BadZipFile: the archive is damaged, was written by PyTorch 1.1 or earlier, or
            its `data.pkl` holds something that TorchScript does not write.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise ValueError("two entries have the same name")
        content = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(content) != 1:
            raise ValueError("TorchScript of PyTorch 1.1 or earlier: load it there and save its state_dict()")
        top = content[0].removesuffix("data.pkl")
        parts = [entries[name] for name in entries if name == content[0] or name.startswith(f"{top}data/")]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in parts):
            raise ValueError("its tensors are compressed, which TorchScript never does")
        if sum(entry.file_size for entry in parts) > Path(path).stat().st_size:
            raise ValueError("its parts are larger than the file")
        order = f"{top}byteorder"
        if order in entries and archive.read(order).decode("ascii", "replace") != sys.byteorder:
            raise ValueError("it was written on a machine with another byte order")
        loaded: dict[str, bytearray] = {}

        def storage(key: str) -> bytearray:
            if key not in loaded:
                loaded[key] = bytearray(archive.read(f"{top}data/{key}"))
            return loaded[key]

        try:
            return _state_dict(_unpickle(archive.read(content[0]), storage))
        except (AttributeError, IndexError, KeyError, TypeError) as error:  # opcodes that do not fit each other
            raise ValueError(f"its data.pkl is damaged: {type(error).__name__} {error}") from None


def _state_dict(module: Any) -> dict[str, torch.Tensor]:
    """{name: tensor} of a module and the modules below it."""
    found: dict[str, torch.Tensor] = {}
    left, seen = [("", module)], 0
    while left:
        prefix, current = left.pop()
        seen += 1
        own, below = True, []
        for name, value in current.state.items() if isinstance(current.state, dict) else ():
            # Parameters and buffers are stored before the attribute `training`, other tensors after it.
            own = own and name != "training"
            if isinstance(value, torch.Tensor) and own:
                found[f"{prefix}{name}"] = value
            elif isinstance(value, _Object):
                below.append((f"{prefix}{name}.", value))
        left += reversed(below)
        if max(len(found), len(left), seen) > MOST or len(prefix) > LONGEST:
            raise ValueError("more modules within modules than a network has")
    return found


def _tensor(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any):
    """A view of a storage; torch compares its bounds with the storage."""
    if math.prod(size) > len(storage):
        raise ValueError(f"a tensor of shape {size} has {len(storage)} values")
    return torch.as_strided(storage, size, stride, offset)


def _unpickle(data: bytes, storage: Callable[[str], bytearray]) -> Any:
    """The object in a pickle of TorchScript.

    Args:
        data: the pickle.
        storage: returns the bytes of the storage with a key.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    def values(identifier: Any) -> torch.Tensor:
        """The storage of a persistent id ("storage", type, key, device, number of values), as a flat tensor."""
        if not isinstance(identifier, tuple) or len(identifier) < 5:
            raise ValueError("its data.pkl is damaged: a storage without a type or a size")
        _, kind, key, _, count = identifier[:5]
        dtype = DTYPES.get(kind.name.removeprefix("torch "))
        if dtype is None:
            raise ValueError(f"tensors of the type {kind.name} are not supported")
        content = storage(key)
        if len(content) != count * dtype.itemsize:
            raise ValueError(f"the storage {key} has {len(content):,} bytes, expected {count * dtype.itemsize:,}")
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)

    def called(function: Any, arguments: tuple) -> Any:
        """The result of a call that TorchScript writes into its pickles."""
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is not a function")
        if function.name == _TENSOR:
            return _tensor(*arguments)
        if function.name == "collections OrderedDict" and not arguments:
            return {}
        if function.name in _WRAPPERS:
            return arguments[0]
        if function.name in _WITHOUT_TENSORS or function.of_archive:  # such as a member of an enumeration
            return None
        raise ValueError(f"it calls {function.name!r}, which no TorchScript archive needs for its tensors")

    def put(pairs: list[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, (str, int, float, torch.Tensor)):
                raise ValueError("a key that TorchScript does not have")
            stack[-1][key] = value

    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            put(since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()])
        elif name == "GLOBAL":
            stack.append(_Global(argument))
        elif name == "BINPERSID":
            stack.append(values(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(called(stack.pop(), arguments))
        elif name == "NEWOBJ":
            stack.pop()
            if not stack.pop().of_archive:
                raise ValueError("an object of a class that is not of its own code")
            stack.append(_Object())
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], _Object):
                raise ValueError("a state for something that is not an object")
            stack[-1].state = state
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise ValueError(f"the pickle opcode {name}, which TorchScript does not write")
    raise ValueError("data.pkl does not end")
