"""`DatasetBase.download_data`, with archives on this machine."""

import shutil

import pytest

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UserError


@pytest.mark.parametrize(("kind", "ending"), [("zip", ".zip"), ("gztar", ".tar.gz")])
def test_an_archive_is_downloaded_and_unpacked(tmp_path, kind, ending):
    (tmp_path / "there" / "cat").mkdir(parents=True)
    (tmp_path / "there" / "cat" / "1.txt").write_text("a cat")
    shutil.make_archive(str(tmp_path / "cats"), kind, tmp_path / "there")
    dataset = DatasetBase(test=[Datum("x", 0, classname="cat")])
    target = tmp_path / "data" / "cats" / f"cats{ending}"
    dataset.download_data((tmp_path / f"cats{ending}").as_uri(), str(target), from_gdrive=False)
    assert (target.parent / "cat" / "1.txt").read_text() == "a cat" and target.is_file()


def test_a_web_page_in_place_of_the_archive(tmp_path):
    (tmp_path / "page").write_text("<!DOCTYPE html><html>Quota exceeded</html>")
    dataset = DatasetBase(test=[Datum("x", 0, classname="cat")])
    with pytest.raises(UserError, match="sent a web page, not the file; download the file in a browser"):
        dataset.download_data((tmp_path / "page").as_uri(), str(tmp_path / "data" / "cats.zip"))
    assert not (tmp_path / "data" / "cats.zip").exists()
