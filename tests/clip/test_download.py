"""Test downloads of weights from a loopback server and a stand-in for the hub: verified, once, or refused."""

import hashlib
import http.server
import threading
import types
from functools import partial

import open_clip
import pytest
import torch
from filelock import FileLock
from huggingface_hub import constants
from safetensors.torch import save_file

from clip import clip
from clip.backbones import fetch_weights, load_backbone, weights_source
from clip.weights import download
from dassl.utils import UserError, disk, transfer
from tests.models import relative, state_dict, tiny_rn

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    requests: list = []
    cut = None  # bytes after which the connection closes

    def copyfile(self, source, outputfile):
        Handler.requests.append(self.path.rsplit("/", 1)[-1])
        outputfile.write(source.read(Handler.cut))

    def log_message(self, *args):
        pass


@pytest.fixture()
def server(tmp_path):
    """Address of a server for the folder tmp_path/served, which contains DIGEST/model.pt."""
    folder = tmp_path / "served" / DIGEST
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(BODY)
    Handler.requests, Handler.cut = [], None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder.parent))) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def files(folder):
    """The files in a folder except locks, which stay after a download."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_download_is_verified_and_reused(server, tmp_path):
    url = f"{server}/{DIGEST}/model.pt"
    path = download(url, tmp_path / "cache")
    assert path == tmp_path / "cache" / "model.pt" and path.read_bytes() == BODY
    assert download(url, tmp_path / "cache") == path
    assert Handler.requests == ["model.pt"]
    assert files(tmp_path / "cache") == [path]


def test_runs_that_start_together_download_once(server, tmp_path, monkeypatch):
    url, cache, found = f"{server}/{DIGEST}/model.pt", tmp_path / "cache", []
    cache.mkdir()
    waiting = threading.Semaphore(0)  # captured output may lose what another thread prints while it is read
    monkeypatch.setattr("builtins.print", lambda text, **_: "Another run is downloading" in text and waiting.release())
    with FileLock(cache / "model.pt.lock"):  # as if a third run were downloading, so that both have to wait
        both = [threading.Thread(target=lambda: found.append(download(url, cache))) for _ in range(2)]
        for thread in both:
            thread.start()
        assert all(waiting.acquire(timeout=60) for _ in both) and Handler.requests == []
    for thread in both:
        thread.join()
    assert found == [cache / "model.pt"] * 2 and found[0].read_bytes() == BODY
    assert Handler.requests == ["model.pt"] and files(cache) == found[:1]


@pytest.mark.parametrize("cut", [0, 700_000])
def test_an_interrupted_download_can_be_repeated(cut, server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", ())
    Handler.cut = cut
    with pytest.raises(UserError, match="closed after .* of 1,280,000 bytes.*by hand"):
        download(f"{server}/{DIGEST}/model.pt", tmp_path / "cache")
    assert not (tmp_path / "cache/model.pt").exists()
    Handler.cut = None
    assert download(f"{server}/{DIGEST}/model.pt", tmp_path / "cache").read_bytes() == BODY
    assert files(tmp_path / "cache") == [tmp_path / "cache/model.pt"]


def test_a_full_disk_is_one_message(server, tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=disk.SPARE))
    with pytest.raises(UserError, match="the server sends 1 MB, but 100 MB are free") as error:
        download(f"{server}/{DIGEST}/model.pt", tmp_path / "cache")
    assert "\n" not in str(error.value).partition("\n  SHA-256")[0]


def test_wrong_content_is_refused(server, tmp_path):
    other, cache = "0" * 64, tmp_path / "cache"
    (tmp_path / "served" / DIGEST).rename(tmp_path / "served" / other)
    with pytest.raises(UserError, match=f"damaged or incomplete.*{DIGEST}.*{other}"):
        download(f"{server}/{other}/model.pt", cache)
    assert files(cache) == []
    (cache / "model.pt").write_bytes(b"half a file")
    with pytest.raises(UserError, match="Delete the file to download it again"):
        download(f"{server}/{other}/model.pt", cache)
    assert (cache / "model.pt").read_bytes() == b"half a file"


def test_without_network_the_message_gives_url_path_and_checksum(tmp_path):
    url = f"http://127.0.0.1:9/clip/{DIGEST}/RN50.pt"
    with pytest.raises(UserError) as error:
        download(url, tmp_path / "clip")
    for part in (url, "RN50.pt", str(tmp_path / "clip" / "RN50.pt"), DIGEST):
        assert part in str(error.value)


def test_dead_link(server, tmp_path):
    with pytest.raises(UserError, match="gone.pt.*404"):
        download(f"{server}/gone.pt", tmp_path)


def with_entry(monkeypatch, **entry):
    """Replace open_clip's entry for OpenAI's RN50 with `entry`. The hub cannot be reached."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: entry)
    monkeypatch.setitem(clip._MODELS, "RN50", weights_source("RN50"))


def test_openais_weights_by_url(server, tmp_path, monkeypatch):
    """open_clip 3 has a URL and a repository; the URL is preferred, into OpenAI's cache."""
    torch.save(state_dict(tiny_rn()), tmp_path / "RN50.pt")
    digest = hashlib.sha256((tmp_path / "RN50.pt").read_bytes()).hexdigest()
    (tmp_path / "served" / digest).mkdir()
    (tmp_path / "RN50.pt").rename(tmp_path / "served" / digest / "RN50.pt")
    url = f"{server}/{digest}/RN50.pt"
    with_entry(monkeypatch, url=url, hf_hub="timm/resnet50_clip.openai/", quick_gelu=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    model = load_backbone("RN50")
    cached = tmp_path / ".cache" / "clip" / "RN50.pt"
    assert files(cached.parent) == [cached] and model.weights_hash == digest
    images = torch.randn(2, 3, 64, 64)
    assert relative(model.encode_image(images), tiny_rn().encode_image(images)) < 1e-6
    assert clip._MODELS["RN50"] == url and clip._download(url) == clip._download("RN50") == str(cached)
    assert Handler.requests == ["RN50.pt"]


def test_openais_weights_from_the_hub(tmp_path, monkeypatch):
    """open_clip's next major release has a repository only, with safetensors."""
    save_file(state_dict(tiny_rn()), str(tmp_path / "open_clip_model.safetensors"))
    asked = []

    def from_hub(repo_id, filename, cache_dir=None, **_):
        asked.append((repo_id, cache_dir))
        return str(tmp_path / "open_clip_model.safetensors")

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", from_hub)
    with_entry(monkeypatch, hf_hub="timm/resnet50_clip.openai/", quick_gelu=True)
    model = load_backbone("RN50")
    assert asked == [("timm/resnet50_clip.openai", None)]
    images, ids = torch.randn(2, 3, 64, 64), clip.tokenize(["a cat"])
    assert relative(model.encode_image(images), tiny_rn().encode_image(images)) < 1e-6
    assert model.visual.input_resolution == 64 and model.name == "RN50"
    # CoOp's way: a file that torch.load reads
    path = clip._download(clip._MODELS["RN50"], str(tmp_path / "cache"))
    built = clip.build_model(torch.load(path, map_location="cpu", weights_only=True))
    assert relative(built.encode_text(ids), tiny_rn().encode_text(ids)) < 1e-6
    assert clip._download("RN50", str(tmp_path / "cache")) == path and asked[-1][1] == str(tmp_path / "cache")


def test_without_the_hub_the_message_gives_the_repository(tmp_path, monkeypatch, capfd):
    with_entry(monkeypatch, hf_hub="timm/resnet50_clip.openai/")
    message = "RN50 cannot be.*no connection to http://127.0.0.1:9: Connection refused.*repository timm/.*WEIGHTS"
    with pytest.raises(UserError, match=message) as error:
        fetch_weights("RN50", tmp_path)
    assert "\n" not in str(error.value) and "Retrying" not in capfd.readouterr().err
    assert not constants.HF_HUB_OFFLINE


def test_without_the_hub_its_cache_is_used(tmp_path, monkeypatch, capfd):
    with_entry(monkeypatch, hf_hub="timm/resnet50_clip.openai/")
    repository = tmp_path / "models--timm--resnet50_clip.openai"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("a" * 40)
    weights = repository / "snapshots" / ("a" * 40) / "open_clip_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    assert fetch_weights("RN50", tmp_path) == weights
    assert "Retrying" not in capfd.readouterr().err


def test_errors_of_the_hub_are_told(monkeypatch, server):
    def from_hub(**_):
        raise PermissionError("the repository is private")

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", from_hub)
    with_entry(monkeypatch, hf_hub="timm/resnet50_clip.openai/")
    monkeypatch.setattr(constants, "ENDPOINT", f"{server}/nothing")  # any answer will do
    with pytest.raises(UserError, match="RN50 cannot be downloaded .*the repository is private"):
        fetch_weights("RN50")
