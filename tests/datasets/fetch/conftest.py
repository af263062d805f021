"""Fixtures for tests of downloads: a local server that offers datasets in their published form."""

import hashlib
import json
from dataclasses import replace

import pytest

from dassl.utils import transfer
from datasets.suites import SOURCES
from datasets.table import ROWS
from tests.datasets import layouts
from tests.datasets.fetch.published import published
from tests.datasets.fetch.web import Server, serve


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0,))
    monkeypatch.setitem(__import__("sys").modules, "gdown", None)
    found = Server()
    web = serve(found)
    yield found
    web.shutdown()
    web.server_close()


@pytest.fixture
def offer(server, monkeypatch, tmp_path):
    """offer(name): serve the published archives of a dataset, and point its row to them; returns
    the folder of what they hold. Files on Google Drive are served only if `drive`.
    """

    def call(name, drive=True, hub=None, **changes):
        row = ROWS[name]
        made = layouts.make(name, tmp_path / "made", images=2) / row.folder
        files = []
        for file in row.files:
            if file.optional or (file.drive and not drive):
                files.append(replace(file, urls=()))
                continue
            content = published(file.name, made)
            server.files[f"/{file.name}"] = content
            urls = (f"{server.url}/{file.name}",) if file.urls or file.drive else ()
            checksum = "md5:" + hashlib.md5(content).hexdigest() if file.checksum else ""
            files.append(replace(file, urls=urls, drive="", checksum=checksum, size=1, unpacked=1))
        monkeypatch.setattr(SOURCES[name], "row", replace(row, files=tuple(files), hub=hub, **changes))
        return made

    return call


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """hub(repository, files): serve a repository of the Hugging Face hub with {path: content}."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def call(repository, files, commit="c0ffee"):
        siblings = []
        for path, content in files.items():
            large = path.endswith((".tar", ".zip"))
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append({"rfilename": path, "size": len(content), "blobId": blob} | ({"lfs": lfs} if large else {}))
            server.files[f"/datasets/{repository}/resolve/{commit}/{path}"] = content
        info = {"id": repository, "sha": commit, "private": False, "siblings": siblings}
        server.files[f"/api/datasets/{repository}"] = json.dumps(info).encode()

    return call


def change(monkeypatch, name, **changes):
    """Change the first file of an offered row and leave out the others."""
    row = SOURCES[name].row
    monkeypatch.setattr(SOURCES[name], "row", replace(row, files=(replace(row.files[0], **changes),)))


def content_of(folder, places):
    """{path: content} of the files in some places of a folder."""
    paths = [path for place in places for path in [folder / place, *(folder / place).rglob("*")]]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def leftovers(root):
    """Names of hidden files (except locks), archives, and parts of archives."""
    endings = (".zip", ".tar", ".gz", ".tgz", ".part", ".json", ".damaged")
    found = [path.name for path in root.rglob("*") if path.name.startswith(".") or path.name.endswith(endings)]
    return sorted(name for name in found if name != "cat_to_name.json" and not name.endswith(".lock"))
