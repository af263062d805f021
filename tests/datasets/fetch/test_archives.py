import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from dassl.utils import disk
from datasets.fetch.archives import ArchiveError, UselessArchive, unpack


def tar(path, *entries, mode="w:gz"):
    """A tar of (name, kind, link or content)."""
    with tarfile.open(path, mode) as archive:
        for name, kind, value in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(value)
                archive.addfile(entry, io.BytesIO(value))
            else:
                entry.linkname = value
                archive.addfile(entry)
    return path


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_name(path, name, content=b"x", mode=None):
    """A zip with one member under a name that zipfile itself would not write."""
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("placeholder")
        entry.filename = name
        if mode:
            entry.create_system, entry.external_attr = 3, mode << 16
        archive.writestr(entry, content)
    return path


@pytest.fixture
def room(tmp_path):
    folder = tmp_path / "outer/inner"
    folder.mkdir(parents=True)
    return folder


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "entries, found",
    [
        ([("../evil.txt", FILE, b"x")], "outside its folder"),
        ([("a/../../evil.txt", FILE, b"x")], "outside its folder"),
        ([("/evil.txt", FILE, b"x")], "outside its folder"),
        ([("C:/evil.txt", FILE, b"x")], "outside its folder"),
        ([("..\\evil.txt", FILE, b"x")], "outside its folder"),
        ([("a", LINK, "/etc"), ("a/evil.txt", FILE, b"x")], "outside its folder"),
        ([("a/b", LINK, "../../outside")], "outside its folder"),
        ([("a", HARD, "../outside")], "outside its folder"),
        ([("a", LINK, "nowhere")], "a links to a file that is not in the archive"),
        ([("a", LINK, "a")], "a links to a file that is not in the archive"),
        ([("pipe", tarfile.FIFOTYPE, "")], "a device or pipe"),
        ([("sda", tarfile.BLKTYPE, "")], "a device or pipe"),
        ([("tty", tarfile.CHRTYPE, "")], "a device or pipe"),
    ],
)
def test_a_tar_that_leaves_the_folder(tmp_path, room, entries, found):
    (tmp_path / "outer/outside").write_text("secret")
    with pytest.raises(UselessArchive, match=found):
        unpack(tar(tmp_path / "a.tar.gz", ("good.txt", FILE, b"x"), *entries), room)
    assert set(everything(tmp_path)) <= {"a.tar.gz", "outer/outside", "outer/inner/good.txt", "outer/inner/a"}
    assert not any(path.is_symlink() for path in room.rglob("*"))


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:\\evil.txt", "..\\evil.txt"])
def test_a_zip_that_leaves_the_folder(tmp_path, room, name):
    with pytest.raises(UselessArchive, match="outside its folder; nothing of it is used"):
        unpack(with_name(tmp_path / "a.zip", name), room)
    assert everything(tmp_path) == ["a.zip"]


def test_a_link_out_of_a_zip(tmp_path, room):
    with pytest.raises(UselessArchive, match="outside its folder"):
        unpack(with_name(tmp_path / "a.zip", "a", b"../../outside", stat.S_IFLNK | 0o777), room)
    assert everything(room) == []


def test_links_within_become_copies(tmp_path, room):
    entries = [("d/one", FILE, b"1"), ("d/two", LINK, "one"), ("three", HARD, "d/one"), ("four", LINK, "./d/two")]
    unpack(tar(tmp_path / "a.tar.gz", *entries), room)
    assert everything(room) == ["d/one", "d/two", "four", "three"]
    assert {path.read_bytes() for path in room.rglob("*") if path.is_file()} == {b"1"}
    assert not any(path.is_symlink() for path in room.rglob("*"))
    assert (room / "three").stat().st_nlink == 1


def test_nothing_but_content_reaches_the_disk(tmp_path, room):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("run")
        entry.mode, entry.uid, entry.size = 0o6777, 12345, 1
        archive.addfile(entry, io.BytesIO(b"x"))
    unpack(path, room)
    found = (room / "run").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)
    assert found.st_uid == os.getuid()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_tar_whatever_its_name(tmp_path, room, mode):
    unpack(tar(tmp_path / "file_downloaded", ("./d/x", FILE, b"x" * 5000), mode=mode), room)
    assert (room / "d/x").read_bytes() == b"x" * 5000


def test_what_macos_adds_is_left_out(tmp_path, room):
    names = {"d/x": "x", "__MACOSX/d/._x": "x", "d/._x": "x", "d/.DS_Store": "x"}
    unpack(zipped(tmp_path / "a.zip", **names), room)
    assert everything(room) == ["d/x"]


def test_separators_of_windows(tmp_path, room):
    unpack(with_name(tmp_path / "a.zip", "d\\x.jpg"), room)
    assert everything(room) == ["d/x.jpg"]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_archive(tmp_path, room, kind, damage):
    path, noise = tmp_path / "a", os.urandom(20_000)
    if kind == "zip":
        zipped(path, **{"x": noise, "y": noise})
    else:
        tar(path, ("x", FILE, noise), ("y", FILE, noise), mode=f"w:{kind}")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-9000:]
    else:
        content[5000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UselessArchive, match="a is damaged"):
        unpack(path, room)


@pytest.mark.parametrize(
    "content, found",
    [
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"", "an empty file"),
        (b"just text", "damaged, or not a zip or tar archive"),
        (b"Rar!\x1a\x07\x00", "a RAR or 7z archive, which Python cannot unpack"),
    ],
)
def test_what_is_no_archive(tmp_path, room, content, found):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=found):
        unpack(tmp_path / "a.zip", room)


def test_members_of_one_name(tmp_path, room):
    path = tar(tmp_path / "a.tar.gz", ("a", FILE, b"x"), ("a/b", FILE, b"x"))
    with pytest.raises(ArchiveError, match="cannot be unpacked by Python .*File exists.*: unpack it by hand"):
        unpack(path, room)


def test_a_password(tmp_path, room):
    content = bytearray(zipped(tmp_path / "a.zip", x=b"x").read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="encrypted, password required .*: unpack it by hand"):
        unpack(tmp_path / "a.zip", room)


def test_a_tar_that_holds_a_zip_at_its_end(tmp_path, room):
    inner = zipped(tmp_path / "inner.zip", x=b"x").read_bytes()
    unpack(tar(tmp_path / "a.tar", ("one", FILE, b"1"), ("two.zip", FILE, inner), mode="w"), room)
    assert everything(room) == ["one", "two.zip"]


@pytest.mark.parametrize("damage", ["header", "last header", "cut"])
def test_a_tar_without_checksum_does_not_end_early(tmp_path, room, damage):
    path = tar(tmp_path / "a.tar", *((name, FILE, os.urandom(1000)) for name in "xy"), ("z", FILE, b""), mode="w")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[3 * 512 :]
    else:
        content[(3 if damage == "header" else 6) * 512 + 5] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UselessArchive, match="a.tar is damaged .it does not end as a tar archive"):
        unpack(path, room)


# ---- what is lost without a word -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("damage", ["zeros", "zeros and a block", "checksum", "cut", "another", "preallocated"])
def test_a_tar_that_ends_early(tmp_path, room, kind, damage):
    """A header that cannot be read, or zeros, end a tar for Python, however many members follow."""
    files = [(f"{i}.jpg", FILE, bytes(512) if damage == "zeros and a block" else b"x" * 512) for i in range(6)]
    content = bytearray(tar(tmp_path / "a", *files, mode="w").read_bytes())
    here = 4 * 512  # the third member
    if damage == "zeros":
        content[here : here + 512] = bytes(512)
    elif damage == "zeros and a block":
        content[here : here + 1024] = bytes(1024)
    elif damage == "checksum":
        content[here] ^= 1
    elif damage == "cut":
        del content[here:]
    elif damage == "another":
        content = content + content
    else:  # as programs leave a download that they have made room for
        content[here:] = bytes(12 << 20)
    opener = {"": open, "gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[kind]
    with opener(tmp_path / "a", "wb") as file:
        file.write(content)
    with pytest.raises(UselessArchive, match="a is damaged"):
        unpack(tmp_path / "a", room)


def entry_of(content, name):
    """Where the entry of a member begins in the list at the end of a zip."""
    return content.rindex(b"PK\x01\x02", 0, content.rindex(name))


@pytest.mark.parametrize("damage", ["hidden", "count", "folder", "method", "overlap", "first", "last"])
def test_a_zip_whose_list_is_altered(tmp_path, room, damage):
    path = zipped(tmp_path / "a.zip", **{f"d/{i}.jpg": "x" * 50 for i in range(6)})
    content = bytearray(path.read_bytes())
    third = entry_of(content, b"d/2.jpg")
    length = entry_of(content, b"d/3.jpg") - third
    end = content.rindex(b"PK\x05\x06")
    if damage == "hidden":  # the following entry as a comment of this one
        content[third + 32] = length
        content[end + 10] = content[end + 8] = 5
    elif damage == "count":
        content[end + 10] = 7
    elif damage == "folder":
        content[third + 46 + 6] = ord("/")
    elif damage == "method":
        content[third + 10] = 0
    elif damage == "overlap":
        content[third + 42] = content[third - length + 42]
    else:
        start = third - 2 * length if damage == "first" else end - length
        del content[start : start + length]
        end -= length
        content[end + 10] = content[end + 8] = 5
        content[end + 12 : end + 16] = (5 * length).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UselessArchive, match="a.zip is damaged"):
        unpack(path, room)


def test_a_zip_that_was_written_without_going_back(tmp_path, room):
    """Sizes and checksums are behind the members; there are a comment and bytes behind the end."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError

        def seek(self, *_):
            raise OSError

    stream = Pipe()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"PK and more"
        for i in range(3):
            archive.writestr(f"{i}.jpg", "x" * 50)
        archive.writestr("folder/", "")
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    unpack(tmp_path / "a.zip", room)
    assert everything(room) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_sparse_member_does_not_fill_the_disk(tmp_path, room, monkeypatch):
    entry = b"GNU.sparse.major=1\nGNU.sparse.minor=0\n"
    path = tmp_path / "a.tar"
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(3 * 10**9)}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("big")
        content = b"1\n2999999488\n512\n".ljust(512, b"\0") + entry.ljust(512, b"\0")
        member.size, member.pax_headers = len(content), {**headers, "GNU.sparse.name": "big"}
        archive.addfile(member, io.BytesIO(content))
    free = iter([disk.SPARE + (4 << 20), disk.SPARE + (2 << 20), disk.SPARE + (1 << 20)])
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free, disk.SPARE)))
    with pytest.raises(OSError, match="100 MB of it stay free") as error:
        unpack(path, room)
    assert error.value.errno == errno.ENOSPC
    assert (room / "big").stat().st_size <= 4 << 20


@pytest.mark.parametrize(
    "name, found",
    [
        ("x" * 300, "holds a name that this disk does not take .'x{60}…': File name too long"),
        (("d" * 200 + "/") * 30 + "x", "holds a name that this disk does not take"),
        ("d/" + "x" * 300 + "/y", "holds a name that this disk does not take"),
        ("there", "holds two files whose names are one on this disk, e.g. there"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip", "link"])
def test_names_that_the_disk_does_not_take(tmp_path, room, name, found, kind):
    (room / "there").write_text("THERE, on a disk that takes the two for one")
    if kind == "zip":
        path = with_name(tmp_path / "a", name)
    elif kind == "link":
        path = tar(tmp_path / "a", ("one", FILE, b"1"), (name, HARD, "one"))
    else:
        path = tar(tmp_path / "a", (name, FILE, b"x"))
    with pytest.raises(ArchiveError, match=found):
        unpack(path, room)


def test_a_link_to_a_name_that_the_disk_does_not_take(tmp_path, room):
    with pytest.raises(ArchiveError, match="a name that this disk does not take"):
        unpack(with_name(tmp_path / "a", "link", b"x" * 9000, stat.S_IFLNK | 0o777), room)


def test_names_that_are_not_text(tmp_path, room):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("caf\udce9.jpg"))
    unpack(path, room)
    assert os.listdir(os.fsencode(room)) == [b"caf\xe9.jpg"]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"path": "a\0b"}
        archive.addfile(member)
    with pytest.raises(UselessArchive, match="damaged"):
        unpack(path, room)


def test_a_file_that_is_in_a_tar_twice_is_the_later_one(tmp_path, room):
    """As `tar -r` and `tar -u` write it."""
    unpack(tar(tmp_path / "a.tar", ("x", FILE, b"1"), ("x", FILE, b"2"), mode="w"), room)
    assert (room / "x").read_bytes() == b"2"
