"""Weight downloads against a loopback server: verified, resumed, refused."""

import hashlib
import http.server
import threading

import pytest

from clip.weights import download
from dassl.utils import UserError, transfer
from dassl.utils.locks import locked

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    requests: list = []
    cut = None  # bytes after which the connection closes

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        Handler.requests.append(start)
        if self.path.endswith("gone.pt"):
            self.send_error(404)
            return
        body = BODY[start:] if "wrong" not in self.path else b"x" * 100
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: Handler.cut] if start == 0 or Handler.cut is None else b"")

    def log_message(self, *args):
        pass


def files(folder):
    """The files in a folder; the lock of a download stays there."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.fixture()
def server(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0, 0))
    Handler.requests, Handler.cut = [], None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_download_verifies_and_is_reused(server, tmp_path):
    url = f"{server}/models/{DIGEST}/model.pt"
    path = download(url, tmp_path / "cache")
    assert path == tmp_path / "cache" / "model.pt" and path.read_bytes() == BODY
    download(url, tmp_path / "cache")
    assert Handler.requests == [0]
    assert files(tmp_path / "cache") == [path]


def test_runs_begun_together_fetch_once(server, tmp_path, capsys):
    url, found = f"{server}/models/{DIGEST}/model.pt", []
    with locked(tmp_path / "model.pt.lock"):  # as if another were at it, so that both have to wait
        both = [threading.Thread(target=lambda: found.append(download(url, tmp_path))) for _ in range(2)]
        for thread in both:
            thread.start()
        text = ""
        while text.count("waiting for another run") < 2:
            text += capsys.readouterr().out
        assert Handler.requests == []
    for thread in both:
        thread.join()
    assert found == [tmp_path / "model.pt"] * 2 and found[0].read_bytes() == BODY
    assert Handler.requests == [0] and files(tmp_path) == found[:1]


def test_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    url = f"{server}/models/{DIGEST}/model.pt"
    Handler.cut = 700_000
    with pytest.raises(UserError, match="by hand"):
        download(url, tmp_path)
    assert not (tmp_path / "model.pt").exists()
    have = (tmp_path / "model.pt.part").stat().st_size
    assert 0 < have <= 700_000
    Handler.cut = None
    assert download(url, tmp_path).read_bytes() == BODY
    assert Handler.requests == [0, have, have, have]  # twice in vain
    assert files(tmp_path) == [tmp_path / "model.pt"]


def test_wrong_content_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="does not verify"):
        download(f"{server}/wrong/{DIGEST}/model.pt", tmp_path)
    assert files(tmp_path) == []
    (tmp_path / "model.pt").write_bytes(b"half a file")
    with pytest.raises(UserError, match="Delete it"):
        download(f"{server}/models/{DIGEST}/model.pt", tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == b"half a file"


def test_without_network_the_message_says_everything(tmp_path):
    url = f"http://127.0.0.1:9/clip/{DIGEST}/RN50.pt"
    with pytest.raises(UserError) as error:
        download(url, tmp_path / "clip")
    for part in (url, "RN50.pt", str(tmp_path / "clip" / "RN50.pt"), DIGEST):
        assert part in str(error.value)


def test_dead_link(server, tmp_path):
    with pytest.raises(UserError, match="gone.pt.*Not Found"):
        download(f"{server}/gone.pt", tmp_path)
