"""Determines the commit of a source tree without `.git`, and whether it was edited since.

`git archive` (used by code hosts for their archives) writes the commit and its tree to `train/commit.txt`. The name of
a tree is a hash of all files below it, which is recomputed here.
"""

import fnmatch
import hashlib
import os
import pathlib
import re

COMMIT_FILE = "train/commit.txt"
COMMITTED = b"$Format:%H %T$\n"  # content of COMMIT_FILE in the repository
IGNORED = ".gitignore"


def archived_commit(source):
    """Returns the commit that a directory was exported from.

    Args:
        source: root of the copy.

    Returns:
        First 12 digits of the commit, with the suffix "-dirty" if a file was changed, removed or added; None if the
        copy was not created by `git archive`. Files matched by `.gitignore` are ignored.

    Source:
        The formats of blobs and trees: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
    """
    source = pathlib.Path(source)
    try:
        content = (source / COMMIT_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    written = re.fullmatch(r"([0-9a-f]{40}) ([0-9a-f]{40})\s*", content)
    if not written:
        return None
    commit, tree = written.groups()
    try:
        clean = tree_hash(source) == tree
    except OSError:  # an unreadable file
        clean = False
    return commit[:12] + ("" if clean else "-dirty")


def tree_hash(source):
    """Computes git's hash of the files below a directory, in hex.

    Args:
        source: directory. Its `.gitignore` may contain names and patterns, with slashes only at either end.

    Returns:
        Text that equals `git rev-parse HEAD^{tree}` of a clean checkout.
    """
    source = pathlib.Path(source)
    return _tree(source, source, ignored_names(source)).hex()


def ignored_names(source):
    """Lists the patterns of the `.gitignore` of a directory."""
    ignored = source / IGNORED
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _tree(folder, source, patterns):
    rows = []
    for entry in os.scandir(folder):
        directory = entry.is_dir(follow_symlinks=False)
        if entry.name == ".git" or is_ignored(entry.name, directory, folder == source, patterns):
            continue
        if directory:
            tree = _tree(pathlib.Path(entry.path), source, patterns)
            if tree != _hash(b"tree", b""):  # git does not keep empty directories
                rows.append((entry.name + "/", b"40000", entry.name, tree))
            continue
        if entry.is_symlink():
            mode, content = b"120000", os.fsencode(os.readlink(entry.path))
        else:
            mode = b"100755" if entry.stat().st_mode & 0o100 else b"100644"
            content = COMMITTED if entry.path == str(source / COMMIT_FILE) else pathlib.Path(entry.path).read_bytes()
        rows.append((entry.name, mode, entry.name, _hash(b"blob", content)))
    rows.sort(key=lambda row: os.fsencode(row[0]))  # git sorts directories as if their names ended with a slash
    return _hash(b"tree", b"".join(mode + b" " + os.fsencode(name) + b"\0" + key for _, mode, name, key in rows))


def _hash(kind, content):
    return hashlib.sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).digest()


def is_ignored(name, directory, top, patterns):
    """Returns whether git ignores a file.

    Args:
        name: its name.
        directory: whether it is a directory.
        top: whether it is in the directory of the `.gitignore`.
        patterns: as `ignored_names` returns.
    """
    for pattern in patterns:
        if pattern.endswith("/") and not directory:
            continue
        if pattern.startswith("/") and not top:
            continue
        if fnmatch.fnmatchcase(name, pattern.strip("/")):
            return True
    return False
