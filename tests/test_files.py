"""Files appear whole or not at all."""

import os
import signal
import subprocess
import sys

import pytest

from sklearn_cells._files import atomic_path

WRITES_HALF_AND_WAITS = """
import sys, time
from sklearn_cells._files import atomic_path
with atomic_path("result.csv", overwrite=True) as path:
    path.write_text("half of")
    print("half written", flush=True)
    time.sleep(600)
"""


def test_file_appears_when_the_block_ends(tmp_path):
    with atomic_path(tmp_path / "result.csv") as path:
        path.write_text("whole")
        assert not (tmp_path / "result.csv").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["result.csv"]
    assert (tmp_path / "result.csv").read_text() == "whole"


def test_others_may_read_the_file_as_any_new_one(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_path(tmp_path / "result.csv") as path:
        path.touch()
    assert (tmp_path / "result.csv").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_or_interrupt_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "result.csv").write_text("old")
    with pytest.raises(error), atomic_path(tmp_path / "result.csv", overwrite=True) as path:  # noqa: PT012
        path.write_text("half of")
        raise error
    assert [file.name for file in tmp_path.iterdir()] == ["result.csv"]
    assert (tmp_path / "result.csv").read_text() == "old"


def test_error_before_anything_is_written_is_the_one_that_is_seen(tmp_path):
    with pytest.raises(ValueError, match="nothing to write"), atomic_path(tmp_path / "result.csv"):
        raise ValueError("nothing to write")
    assert list(tmp_path.iterdir()) == []


def test_killed_process_leaves_the_old_file_and_a_hidden_one(tmp_path):
    (tmp_path / "result.csv").write_text("old")
    command = [sys.executable, "-c", WRITES_HALF_AND_WAITS]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half written\n"
        os.kill(process.pid, signal.SIGKILL)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert (tmp_path / "result.csv").read_text() == "old"
    assert len(names) == 2
    assert names[0].startswith(".result.csv.")
    assert names[0].endswith(".tmp")


def test_older_file_is_kept_unless_told_otherwise(tmp_path):
    (tmp_path / "result.csv").write_text("old")
    with pytest.raises(FileExistsError, match=r"result\.csv already exists: pass overwrite=True"):
        atomic_path(tmp_path / "result.csv").__enter__()
    with atomic_path(tmp_path / "result.csv", overwrite=True) as path:
        path.write_text("new")
    assert (tmp_path / "result.csv").read_text() == "new"


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"Cannot write result\.csv, because the folder .*missing does not exist"
    ):
        atomic_path(tmp_path / "missing" / "result.csv").__enter__()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        atomic_path(tmp_path, overwrite=True).__enter__()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"result\.csv cannot be written: the folder .* is read-only"):
        atomic_path(tmp_path / "result.csv").__enter__()


def test_a_file_that_somebody_made_meanwhile_stays(tmp_path):
    path = tmp_path / "file"

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("mine")
            path.write_text("theirs")

    with pytest.raises(FileExistsError, match="Another process created .* in the meantime"):
        write()
    assert path.read_text() == "theirs"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with atomic_path(tmp_path / "link", overwrite=True) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
