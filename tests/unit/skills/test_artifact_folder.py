"""The folder that keeps what skills publish."""

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from runengine_client.skills import Artifact, ArtifactFolder, SkillError
from runengine_client.skills.artifact_folder import StoredArtifact


def _path(stored: StoredArtifact) -> Path:
    return Path(unquote(urlsplit(stored.uri).path))


def _artifact(path: Path, data: bytes) -> Artifact:
    digest = hashlib.sha256(data).hexdigest()
    return Artifact(uri=path.as_uri(), content_hash=digest, size_bytes=len(data), filename="f", media_type="x/y")


def test_equal_content_takes_its_space_once(tmp_path: Path) -> None:
    """The same bytes under two names are one file on disk; nothing is left over from writing."""
    folder = ArtifactFolder(tmp_path)
    first = folder.store(b"same", filename="a.txt")
    again = folder.store(b"same", filename="a.txt")
    other = folder.store(b"same", filename="b.txt")
    assert first == again
    assert _path(first).stat().st_ino == _path(other).stat().st_ino
    digest = hashlib.sha256(b"same").hexdigest()
    assert _path(first) == tmp_path / "sha256" / digest[:2] / digest[2:] / "a.txt"
    assert list((tmp_path / "incoming").iterdir()) == []


def test_files_are_copied_by_path(tmp_path: Path) -> None:
    """A path is stored like its bytes."""
    source = tmp_path / "source.bin"
    source.write_bytes(b"x" * 3_000_000)
    stored = ArtifactFolder(tmp_path / "store").store(source, filename="copy.bin")
    assert _path(stored).read_bytes() == source.read_bytes()
    assert stored.content_hash == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize("filename", ["", ".", "..", "a/b", "a\\b", "/etc/passwd", "nul\0", "two\nlines", "x" * 256])
def test_filename_cannot_leave_the_folder(tmp_path: Path, filename: str) -> None:
    """Only a single path component is a filename."""
    with pytest.raises(ValueError, match="one path component"):
        ArtifactFolder(tmp_path).store(b"", filename=filename)


def test_reading_is_confined(tmp_path: Path) -> None:
    """Files outside the readable folders are refused, links out of them too."""
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    folder = ArtifactFolder(tmp_path / "store")
    link = tmp_path / "store" / "link"
    link.symlink_to(outside)
    for path in (outside, link):
        with pytest.raises(SkillError) as refused:
            folder.read(_artifact(path, b"secret"))
        assert refused.value.code == "ARTIFACT_FORBIDDEN"
    assert (
        ArtifactFolder(tmp_path / "other", readable_roots=[tmp_path]).read(_artifact(outside, b"secret")) == b"secret"
    )


def test_changed_and_missing_bytes_are_noticed(tmp_path: Path) -> None:
    """What is read has the hash it was published with."""
    folder = ArtifactFolder(tmp_path)
    stored = folder.store(b"good", filename="a b%.txt")
    artifact = _artifact(_path(stored), b"good")
    assert folder.read(artifact.as_json()) == b"good"
    _path(stored).write_bytes(b"evil")
    with pytest.raises(SkillError, match="do not match"):
        folder.read(artifact)
    _path(stored).unlink()
    with pytest.raises(SkillError, match="cannot be read"):
        folder.read(artifact)


@pytest.mark.parametrize("uri", ["http://h/a", "file://other/a", "/etc/passwd"])
def test_only_local_files_are_read(tmp_path: Path, uri: str) -> None:
    """Anything but a local file URI is refused."""
    with pytest.raises(SkillError) as refused:
        ArtifactFolder(tmp_path).read({"uri": uri, "contentHash": "0"})
    assert refused.value.code == "ARTIFACT_FORBIDDEN"


def test_a_file_of_another_account_is_replaced_by_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that cannot be made young, as it is somebody else's, is stored anew; where that is refused, it stays."""
    folder = ArtifactFolder(tmp_path)
    stored = folder.store(b"same", filename="f")
    before = _path(stored).stat().st_ino

    def refused(path: object, *rest: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.utime", refused)
    assert folder.store(b"same", filename="f") == stored
    assert _path(stored).stat().st_ino != before
    monkeypatch.setattr("shutil.copy", refused)
    assert folder.store(b"same", filename="f") == stored
    assert _path(stored).read_bytes() == b"same"


def test_without_hard_links_every_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that has no links the bytes are copied, whole."""

    def no_links(self: Path, other: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    folder = ArtifactFolder(tmp_path)
    first, second = folder.store(b"same", filename="a"), folder.store(b"same", filename="b")
    assert _path(first).read_bytes() == _path(second).read_bytes() == b"same"
    assert _path(first).stat().st_ino != _path(second).stat().st_ino
    assert list((tmp_path / "incoming").iterdir()) == []
