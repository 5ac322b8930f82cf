"""Model files of the web are loaded if they have the checksum that is expected."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sklearn_cells import LogNormalizer, load_model, save_model
from sklearn_cells.persistence import _download


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "log.cellmodel"
    save_model(LogNormalizer().fit([[1.0, 2.0]]), path)
    return path


@pytest.fixture
def address(path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=path.parent))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{path.name}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_of_the_web_with_its_checksum(path, address):
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_model(address, sha256=checksum).n_features_in_ == 2
    assert load_model(address, sha256=checksum.upper()).n_features_in_ == 2
    assert load_model(path, sha256=checksum).n_features_in_ == 2


def test_another_checksum_or_none_is_refused(path, address):
    for place in (address, path):
        with pytest.raises(
            ValueError,
            match="has the SHA-256 checksum [0-9a-f]{64}, expected 00: the file is damaged or a different one",
        ):
            load_model(place, sha256="00")
    with pytest.raises(ValueError, match="can only be loaded with a checksum, .*: pass sha256="):
        load_model(address)


def test_what_cannot_be_read_is_said(address, monkeypatch):
    with pytest.raises(OSError, match=r"missing.cellmodel cannot be read: .*404"):
        load_model(address.replace("log.", "missing."), sha256="00")
    with pytest.raises(ValueError, match="expected a file, the name of an installed model, or a web address"):
        load_model("ftp://127.0.0.1/model.cellmodel", sha256="00")
    monkeypatch.setattr(_download, "MAX_SIZE", 10)
    with pytest.raises(OSError, match="which is too large for a model"):
        load_model(address, sha256="00")
