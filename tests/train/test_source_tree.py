"""The commit of a copy of the source without `.git`, compared with git on the same files."""

import shutil
import subprocess
import tarfile

import pytest

from helpers.paths import ROOT
from train.environment import commit
from train.source_tree import COMMITTED, tree_hash


def git(folder, *arguments):
    settings = ("user.name=A", "user.email=a@b.c", "core.autocrlf=false", "commit.gpgsign=false")
    settings = [word for setting in settings for word in ("-c", setting)]
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A small repository with difficult content: an executable, a link, names with unusual order."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    folder = tmp_path / "repository"
    for name in ("a/file.py", "a.b", "a-b/c", "program", "train/module.py", "ä"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}\n")
    for name in (".gitignore", ".gitattributes", "train/commit.txt"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "program").chmod(0o755)
    (folder / "link").symlink_to("a/file.py")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "One")
    return folder


@pytest.fixture
def copy(repository, tmp_path):
    git(repository, "archive", "--output", str(tmp_path / "archive.tar"), "HEAD")
    folder = tmp_path / "copy"
    with tarfile.open(tmp_path / "archive.tar") as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


def test_the_file_in_the_repository_is_what_the_tree_is_counted_with():
    """Otherwise no archive of this repository would be clean."""
    content = (ROOT / "train/commit.txt").read_bytes()
    if (ROOT / ".git").exists():
        assert content == COMMITTED
    assert "train/commit.txt export-subst" in (ROOT / ".gitattributes").read_text().splitlines()


def test_trees_have_the_names_that_git_gives(repository):
    (repository / "a/__pycache__").mkdir()
    (repository / "a/__pycache__/file.pyc").write_bytes(b"ignored")
    (repository / "empty").mkdir()
    assert tree_hash(repository) == git(repository, "rev-parse", "HEAD^{tree}")


def test_a_repository_knows_its_commit(repository, monkeypatch, capfd):
    """Tags change nothing. Git refuses repositories of other users, as is common in containers."""
    expected = git(repository, "rev-parse", "HEAD")[:12]
    git(repository, "tag", "--annotate", "1.0", "--message", "One")
    assert commit(repository) == expected
    (repository / "a/file.py").write_text("changed\n")
    assert commit(repository) == f"{expected}-dirty" and capfd.readouterr().err == ""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert commit(repository) == "unknown"
    assert "the commit is unknown, so this run cannot be published: fatal: " in capfd.readouterr().err


def test_an_archive_knows_its_commit(repository, copy):
    expected = git(repository, "rev-parse", "HEAD")[:12]
    assert commit(copy) == expected
    (copy / "runs/one").mkdir(parents=True)  # .gitignore has it
    (copy / "runs/one/run.json").write_text("{}")
    assert commit(copy) == expected


EDITS = {
    "changed": lambda copy: (copy / "a/file.py").write_text("other\n"),
    "removed": lambda copy: (copy / "a.b").unlink(),
    "added": lambda copy: (copy / "train/another.py").write_text(""),
    "mode": lambda copy: (copy / "program").chmod(0o644),
    "ignored names": lambda copy: (copy / ".gitignore").write_text("*.py\n"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_archive_is_dirty(repository, copy, edit):
    EDITS[edit](copy)
    assert commit(copy) == git(repository, "rev-parse", "HEAD")[:12] + "-dirty"


def test_checkouts_are_asked_of_git_and_other_copies_are_unknown(repository, tmp_path):
    expected = git(repository, "rev-parse", "HEAD")[:12]
    assert commit(repository) == expected
    (repository / "a.b").write_text("other\n")
    assert commit(repository) == expected + "-dirty"
    plain = repository / "inside"  # a plain copy, in a checkout of something else
    shutil.copytree(repository, plain, ignore=shutil.ignore_patterns(".git", "inside"), symlinks=True)
    assert commit(plain) == "unknown"
    (plain / "train/commit.txt").unlink()
    assert commit(plain) == "unknown"
