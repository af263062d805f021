"""Settings read from YAML files, including the files that a file names under `_BASE_`."""

import glob
import os

import yaml
from yacs.config import CfgNode

from dassl.config.rules import show
from dassl.utils.errors import PROJECT, UserError, nearest
from dassl.utils.tools import open_file

BASE = "_BASE_"
MOST_FILES = 100  # files that one configuration may consist of
MOST_BYTES = 4 * 2**20  # of a YAML file
MOST_NODES = 200_000  # keys and values, where an alias counts as all that it stands for
DEEPEST = 50  # levels of brackets and indentation
MOST_BITS = 256  # of an integer


class _Loader(yaml.SafeLoader):
    """YAML's plain types. Refuses a key given twice, and texts that nest deeply or grow when they are read."""

    def __init__(self, text):
        super().__init__(text)
        self._depth, self._nodes = 0, 0
        self._sizes = {}  # {anchor: number of nodes}

    def compose_node(self, parent, index):
        event, before = self.peek_event(), self._nodes
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                self._refuse(f"the alias *{event.anchor} stands for something that contains it", event)
            self._nodes += self._sizes.get(event.anchor, 0)
        self._nodes += 1
        self._depth += 1
        if self._nodes > MOST_NODES:
            self._refuse(f"more than {MOST_NODES:,} keys and values, counting what aliases (*name) stand for", event)
        if self._depth > DEEPEST:
            self._refuse(f"more than {DEEPEST} levels inside each other", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent) and event.anchor:
            self._sizes[event.anchor] = self._nodes - before
        return node

    def compose_mapping_node(self, anchor):
        node, lines = super().compose_mapping_node(anchor), {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in lines:
                first = lines[key.tag, key.value]
                self._refuse(f"the key {show(key.value)} is given twice, first in line {first}", key)
            lines[key.tag, key.value] = key.start_mark.line + 1
        return node

    def construct_yaml_int(self, node):
        value = super().construct_yaml_int(node) if len(node.value) <= MOST_BITS else 2**MOST_BITS
        if value.bit_length() > MOST_BITS:
            self._refuse(f"the number {show(node.value)} is too large", node)
        return value

    def _refuse(self, problem, where):
        raise yaml.MarkedYAMLError(None, None, problem, where.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def parse_yaml(text):
    """The content of a YAML text as plain Python values.

    Raises:
        UserError: in one line why it cannot be read: not YAML, a key given twice, too deep, too large.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split()).replace(' in "<unicode string>",', " in")
        hint = "; indent with spaces, not with tabs" if r"'\t'" in reason else ""
        raise UserError(f"not readable as YAML: {reason}{hint}") from None
    except Exception as error:  # a wrong tag or date makes the constructors of PyYAML raise nearly anything
        raise UserError(f"not readable as YAML: {type(error).__name__}: {' '.join(str(error).split())}") from None


def read_yaml(file, name=""):
    """The content of a YAML file as plain Python values.

    Args:
        file: path of the file.
        name: the file's name in messages; default: its path.

    Raises:
        FileNotFoundError: no such file.
        UserError: in one line why the file cannot be read.
    """
    name = name or file
    try:
        with open_file(file, encoding="utf-8-sig") as stream:
            text = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not readable as YAML: not text in UTF-8 ({error})") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{file}: ")
        raise UserError(f"{name}: cannot be read: {reason}; expected a YAML file") from None
    if len(text) > MOST_BYTES:
        raise UserError(f"{name}: larger than {MOST_BYTES / 2**20:.0f} MiB; expected a YAML file of settings")
    try:
        return parse_yaml(text)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def read_settings(file, cfg, problems, only=(), chain=(), read=None):
    """Read the settings of a YAML file and of its bases, lowest precedence first.

    `_BASE_: FILE` or `_BASE_: [FILE, FILE]` names the bases, relative to the folder of the file that names them. Bases
    may have bases. A later base overrides an earlier one, and the file overrides its bases. A value that is a list or
    a dictionary is replaced as a whole.

    Args:
        file: path of the file.
        cfg: configuration (yacs CfgNode). It tells a group of settings from a setting whose value is a dictionary.
        problems: list to which the message of every problem is appended.
        only: top-level names to read, e.g. ("DATASET", "DATALOADER"); empty: all.
        chain: the files that led to this one through `_BASE_`.
        read: list of all files read so far.

    Returns:
        [(path of the file, dotted key, value)].
    """
    file = os.path.normpath(file)
    path = " -> ".join([*chain[:1], "…", *chain[-2:], file] if len(chain) > 4 else [*chain, file])
    if chain and os.path.realpath(file) in map(os.path.realpath, chain):
        problems.append(f"{path}: these files name each other under {BASE}; remove one of the entries")
        return []
    read = [] if read is None else read
    read.append(file)
    if len(read) > MOST_FILES:
        if len(read) == MOST_FILES + 1:
            problems.append(f"{path}: more than {MOST_FILES} files are named under {BASE}, counting repeated ones")
        return []
    try:
        content = read_yaml(file, path)
    except FileNotFoundError:
        hint = f"; a file named under {BASE} is looked for relative to the folder of {chain[-1]}" if chain else ""
        problems.append(f"{path}: no such file{hint or _near(file)}")
        return []
    except UserError as error:
        problems.append(str(error))
        return []
    content = {} if content is None else content
    if not isinstance(content, dict):
        problems.append(f"{path}: expected settings as KEY: value, found {type(content).__name__}")
        return []
    bases = content.pop(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) and "\0" not in base for base in bases):
        problems.append(f"{path}: {BASE} = {show(bases)}: expected the path of a file, or a list of paths")
        bases = []
    found = []
    for base in bases:
        found += read_settings(os.path.join(os.path.dirname(file), base), cfg, problems, only, (*chain, file), read)
    content = {name: value for name, value in content.items() if not only or name in only}
    return found + [(file, key, value) for key, value in _leaves(content, cfg, "", file, problems)]


def _near(file):
    """The end of the message about a missing file: a file with a similar name in the same folder, or ""."""
    folder, name = os.path.split(file)
    try:
        found = nearest(name, os.listdir(folder or "."))
    except OSError:
        return f"; the folder {folder} does not exist either"
    if not found and not folder:  # --dataset-config-file icon5
        stem = glob.escape(name.removesuffix(".yaml"))
        found = next(iter(sorted(glob.glob(f"{PROJECT}/configs/**/{stem}.yaml", recursive=True))), "")
        found = os.path.relpath(found) if found else ""
    return f"; did you mean {os.path.join(folder, found)}?" if found else ""


def _leaves(content, node, prefix, file, problems):
    """Yield (dotted key, value) of the settings below the group `node`."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        inner = node.get(name, CfgNode())  # an unknown name may be a group or a setting
        if isinstance(inner, CfgNode) and isinstance(value, dict):
            yield from _leaves(value, inner, f"{key}.", file, problems)
        elif not isinstance(inner, CfgNode) or name not in node:
            yield key, value
        elif value is not None:  # None: all entries of the group are commented out
            problems.append(f"{file}: {key} = {show(value)}: a group of settings, expected {key}.<NAME> below it")
