import io
import os
import stat
import tarfile
import zipfile

import pytest

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
