"""A file is the old one or the new one, never a part of either, whatever goes wrong on the way."""

import os

import pytest

from rlhf_minimal import files


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    path = files.write_atomically(tmp_path / "a.txt", "ü\r\nlast line")
    assert path == tmp_path / "a.txt" and path.read_bytes() == "ü\r\nlast line".encode()
    files.write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff" and os.listdir(tmp_path) == ["a.txt"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    new = files.write_atomically(tmp_path / "new", "x")
    assert new.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("step", ["to_disk", "replace"])
def test_a_failure_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch, step):
    for name in "ab":
        (tmp_path / name).write_text("old")

    def broken(*_):
        raise OSError("disk gone")

    monkeypatch.setattr(files if step == "to_disk" else os, step, broken)
    with pytest.raises(OSError, match="disk gone"):
        files.write_together(tmp_path, {"a": "new", "b": "new"})
    assert sorted(os.listdir(tmp_path)) == ["a", "b"] and {(tmp_path / x).read_text() for x in "ab"} == {"old"}


def test_control_no_file_takes_its_place_before_all_are_written(tmp_path, monkeypatch):
    """The second of two fails to reach the disk: the first stays as it was. Written one by one it would be new."""
    for name in "ab":
        (tmp_path / name).write_text("old")
    real = files.to_disk

    def second_fails(path):
        if path.name.startswith("b"):
            raise OSError("disk full")
        real(path)

    monkeypatch.setattr(files, "to_disk", second_fails)
    with pytest.raises(OSError, match="disk full"):
        files.write_together(tmp_path, {"a": "new", "b": "new"})
    assert (tmp_path / "a").read_text() == "old"
    with pytest.raises(OSError, match="disk full"):
        for name in "ab":
            files.write_atomically(tmp_path / name, "new")
    assert (tmp_path / "a").read_text() == "new" and (tmp_path / "b").read_text() == "old"


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "no" / "a.txt", "x")
