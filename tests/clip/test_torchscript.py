"""The reader of TorchScript archives gives what torch.jit.load gives, and runs nothing of the archive."""

import io
import pickle
import warnings
import zipfile

import pytest
import torch

from clip.torchscript import read_torchscript
from clip.weights import read_state_dict
from dassl.utils import UserError


class Part(torch.nn.Module):
    def __init__(self, sharing):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2).half()
        self.register_buffer("turned", torch.arange(12).view(3, 4).t())
        self.register_buffer("row", torch.arange(12.0).view(3, 4)[1, 1:])
        self.register_buffer("again", self.turned if sharing else self.turned.clone())
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("brief", torch.ones(2, dtype=torch.bfloat16), persistent=False)
        self.register_buffer("absent", None)
        self.register_buffer("flag", torch.tensor(True))
        self.plain = torch.ones(2)  # not a part of the state dict
        self.names, self.numbers, self.pairs = ["a", "b"], [1, 2], {"a": torch.zeros(1)}
        self.several, self.single, self.device = [torch.ones(1)], 1.5, torch.device("cpu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = len(self.names) + self.numbers[0] + len(self.several)
        return x * self.single + self.pairs["a"] + self.plain.sum() + count + torch.tensor([1.0, 2.0]).sum()


class Hooked(torch.nn.Module):
    """A module whose state is set by code of the archive."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.ones(3))
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self):
        return {"kept": self.kept}, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[dict[str, torch.Tensor], bool]):
        print("code of the archive runs")
        self.kept, self.training = state[0]["kept"], state[1]


def compiled(path, kind="script"):
    """Save an archive at `path`; returns the module that torch.jit.load makes of it."""
    torch.manual_seed(0)
    sharing = kind == "script"  # traced modules share nothing
    module = torch.nn.Sequential(Part(sharing), Part(sharing), torch.nn.BatchNorm1d(2))
    module[1].linear = module[0].linear if sharing else module[1].linear
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(module) if kind == "script" else torch.jit.trace(module.eval(), torch.ones(2, 2))
        made.save(str(path))
        return torch.jit.load(str(path))


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_values_are_those_of_torch(kind, tmp_path):
    expected = compiled(tmp_path / "a.pt", kind).state_dict()
    found = read_torchscript(tmp_path / "a.pt")
    assert list(found) == list(expected) and len(found) > 15
    for name, value in expected.items():
        assert (found[name].dtype, found[name].stride()) == (value.dtype, value.stride())
        assert torch.equal(found[name], value)
    if kind == "script":
        found["0.linear.weight"].zero_()
        assert not found["1.linear.weight"].any()  # one storage, as in the archive
    assert not found["0.turned"].is_contiguous() and not found["0.linear.weight"].requires_grad


def test_methods_of_the_archive_are_not_called(tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Sequential(Hooked(), torch.nn.Linear(2, 2))).save(str(tmp_path / "a.pt"))
        torch.jit.load(str(tmp_path / "a.pt"))
    capfd = capsys.readouterr()
    assert list(read_state_dict(tmp_path / "a.pt")) == ["1.weight", "1.bias"]
    assert "code of the archive" not in capsys.readouterr().out + capfd.err


def rewritten(source, target, **changes):
    """Copy a zip archive; `changes` has the new content of some entries by the end of their names, None for none."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            key = entry.filename.rpartition("/")[2].replace(".", "_")
            if (content := changes.get(key, b"")) is not None:
                new.writestr(entry.filename, content or old.read(entry))
    return target


class Call:
    def __init__(self, function, *arguments):
        self.result = function, arguments

    def __reduce__(self):
        return self.result


def recursive():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(Call(exec, "open('exploded', 'w')"), 2), "exec"),
        (pickle.dumps(Call(eval, "1"), 4), "opcode"),
        (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "'os system'"),
        (b"\x80\x02c__torch__\nA\n)\x81}X\x01\x00\x00\x00acos\nsystem\nsb.", "no tensors"),
        (b"\x80\x02cos\nsystem\n}X\x08\x00\x00\x00__code__K\x01sb.", "not an object"),
        (b"\x80\x02cbuiltins\nobject\n)\x81.", "not of its own code"),
        (b"\x80\x02c__torch__\nA\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.", "more modules"),  # within itself
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "damaged"),
        (b"\x80\x02K\x01K\x01s.", "damaged"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02})K\x01s.", "a key"),
        (b"\x80\x02}", "damaged|exhausted"),
        (b"\x80\x02K\x01.", "damaged"),
        (b"garbage", "."),
    ],
)
def test_malicious_and_damaged_pickles(content, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compiled("good.pt")
    with pytest.raises(UserError, match=f"not a readable weight file .*{reason}|holds {reason}") as refused:
        read_state_dict(rewritten("good.pt", "bad.pt", data_pkl=content))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "exploded").exists()


def test_archives_of_other_forms(tmp_path):
    compiled(tmp_path / "good.pt")

    def refused(match):
        with pytest.raises(UserError, match=match) as error:
            read_state_dict(tmp_path / "bad.pt")
        assert "\n" not in str(error.value)

    rewritten(tmp_path / "good.pt", tmp_path / "bad.pt", data_pkl=None, model_json=b"{}")
    refused("PyTorch 1.1 or earlier")
    for name in ("byteorder", "constants_pkl", "version"):
        rewritten(tmp_path / "good.pt", tmp_path / "bad.pt", **{name: None})
        assert read_state_dict(tmp_path / "bad.pt")
    rewritten(tmp_path / "good.pt", tmp_path / "bad.pt", byteorder=b"big")
    refused("another byte order")
    top = zipfile.ZipFile(tmp_path / "good.pt").namelist()[0].partition("/")[0]
    with zipfile.ZipFile(tmp_path / "bad.pt", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}/data/99", bytes(10**6))
    refused("compressed")
    rewritten(tmp_path / "good.pt", tmp_path / "bad.pt")
    with zipfile.ZipFile(tmp_path / "bad.pt", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(f"{top}/data.pkl", b"x")
    refused("same name")


@pytest.mark.parametrize("kind", ["torchscript", "state dict", "safetensors"])
def test_every_changed_byte_of_a_tensor_is_noticed(kind, tmp_path):
    """safetensors has no checksums: there only its header is checked."""
    path = tmp_path / "a.pt"
    if kind == "torchscript":
        compiled(path)
    elif kind == "state dict":
        torch.save({"a": torch.arange(100.0), "b": torch.ones(3).half()}, path)
    else:
        from safetensors.torch import save_file

        save_file({"a": torch.arange(100.0)}, path)
    content = path.read_bytes()
    before = read_state_dict(path)
    for place in range(0, len(content), max(1, len(content) // 150)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :])
        try:
            after = read_state_dict(path)
        except UserError as error:
            assert "\n" not in str(error)
        else:  # a byte that has no meaning for the tensors
            assert kind == "safetensors" or all(torch.equal(after[name], value) for name, value in before.items())
    for length in range(0, len(content) - 1, len(content) // 20):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="not a readable weight file"):
            read_state_dict(path)


def test_a_state_dict_without_checksums_is_read(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    content = io.BytesIO((tmp_path / "a.pt").read_bytes())
    raw = bytearray(content.getvalue())
    with zipfile.ZipFile(content) as archive:
        for entry in archive.infolist():  # as torch.serialization.set_crc32_options(False) leaves them
            raw[:] = raw.replace(entry.CRC.to_bytes(4, "little"), bytes(4))
    (tmp_path / "a.pt").write_bytes(raw)
    assert torch.equal(read_state_dict(tmp_path / "a.pt")["a"], torch.ones(3))


def test_a_compressed_state_dict_does_not_fill_the_memory(tmp_path):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pt")
    target = tmp_path / "b.pt"
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="its parts are larger than the file"):
        read_state_dict(target)
