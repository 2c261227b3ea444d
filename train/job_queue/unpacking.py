"""Restores runs from archives written by `train.job_queue.archives`, on this or another machine."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import tempfile
import zipfile

import filelock

from keras_resv2.files import atomic_write
from train.job_queue.archives import LOG, MANIFEST, archive_name
from train.job_queue.jobs import PLAIN_NAME
from train.run_files import (
    HISTORY,
    LOCK,
    RUN_FILE,
    WALL_SECONDS,
    WEIGHTS,
    differences,
    newest_checkpoints,
    newest_step,
    read_record,
)

NAMES = re.compile(
    rf"{re.escape(RUN_FILE)}|{re.escape(HISTORY)}|{re.escape(WEIGHTS)}|{re.escape(LOG)}|checkpoint-\d+\.npz"
)
KINDS = {"member": str, "run": str, "name": str, "sha256": str, "size": int, "offset": int, "length": int}
LARGEST = 2**31  # maximum bytes of a file


@dataclasses.dataclass
class _File:
    size: int
    sha256: str
    parts: dict = dataclasses.field(default_factory=dict)  # offset -> (archive, member, length)


def unpack(folder, out):
    """Writes the runs in a folder of archives to `out`.

    A run that has progressed further in `out` than in the archives is not changed. Only files of runs with plain names
    are written, and only inside `out`.

    Args:
        folder: folder of the archives.
        out: directory of the runs.

    Returns:
        ``(runs, problems)``: names of the runs written, and a line for each run that could not be written and for each
        damaged archive.

    Raises:
        FileNotFoundError: if the folder contains no archives.
        OSError: if `out` is not writable.
    """
    out = pathlib.Path(out)
    runs, problems = read_archives(folder)
    written = []
    out.mkdir(parents=True, exist_ok=True)
    for run, files in sorted(runs.items()):
        try:
            if _unpack_run(run, files, out):
                written.append(run)
        except ValueError as error:
            problems.append(f"{run}: {error}")
    return written, problems


def read_archives(folder):
    """Reads the content of the archives in a folder.

    Returns:
        ``(runs, problems)``: a dictionary from run to files, and a line for each damaged archive.

    Raises:
        FileNotFoundError: if there are no archives.
    """
    paths = sorted(pathlib.Path(folder).glob(archive_name("*")))
    if not paths:
        raise FileNotFoundError(f"{folder} contains no {archive_name('*')}.")
    runs, problems = {}, []
    for path in paths:
        try:
            for entry in _read_manifest(path):
                versions = runs.setdefault(entry["run"], {}).setdefault(entry["name"], {})
                file = versions.setdefault(entry["sha256"], _File(entry["size"], entry["sha256"]))
                file.parts[entry["offset"]] = path, entry["member"], entry["length"]
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
            problems.append(f"{path} is damaged: {' '.join(str(error).split()) or type(error).__name__}")
    return runs, problems


def _read_manifest(path):
    """Returns the validated entries of an archive; anything else in it is ignored."""
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
            raise ValueError("it is compressed, unlike archives of a sweep.")
        entries = json.loads(archive.read(MANIFEST))["members"]
    for entry in entries:
        for key, kind in KINDS.items():
            if type(entry[key]) is not kind:
                raise ValueError(f"{MANIFEST} has {key}={entry[key]!r}.")
        if not PLAIN_NAME.fullmatch(entry["run"]) or not NAMES.fullmatch(entry["name"]):
            raise ValueError(f"{entry['run']}/{entry['name']} is not a plain file name of a run.")
        inside = 0 <= entry["offset"] <= entry["offset"] + entry["length"] <= entry["size"] <= LARGEST
        if not inside or infos[entry["member"]].file_size != entry["length"]:
            raise ValueError(f"{entry['member']} does not have the size given in {MANIFEST}.")
    return entries


def _unpack_run(run, files, out):
    """Writes a run if it has progressed further; returns whether it was written."""
    if RUN_FILE not in files:  # it failed before it started, and left a log
        return False
    target = out / run
    if not target.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"{target} is a link to outside of {out}.")
    # Everything is read and verified before anything is written.
    content = {name: _read_file(name, versions) for name, versions in files.items()}
    try:
        record = json.loads(content[RUN_FILE])
        settings, finished = record["settings"], WALL_SECONDS in record and WEIGHTS in content
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{RUN_FILE} is damaged.") from None
    packed = newest_step(name for name in content if name.startswith("checkpoint-"))
    if not target.exists():
        _write_new(content, target)
        return True
    with _lock(target):
        if (target / RUN_FILE).exists():
            here = read_record(target)
            changed = differences(settings, here["settings"])
            if changed:
                raise ValueError(f"{target} contains a run with different {', '.join(changed)}.")
            there = WALL_SECONDS in here and (target / WEIGHTS).exists()
        elif newest_checkpoints(target):
            raise ValueError(f"{target} contains checkpoints without {RUN_FILE}.")
        else:
            there = False
        if there or (not finished and packed <= newest_step(newest_checkpoints(target))):
            return False
        for name in sorted(content, key=lambda name: name == RUN_FILE):  # last, because it marks the run as finished
            _replace(target / name, content[name])
    return True


def _read_file(name, versions):
    for file in versions.values():
        parts, at = [], 0
        while at in file.parts and at < file.size:
            path, member, length = file.parts[at]
            with zipfile.ZipFile(path) as archive:
                try:
                    parts.append(archive.read(member))
                except zipfile.BadZipFile:
                    break
            at += length
            if not length:
                break
        content = b"".join(parts)
        if len(content) == file.size and hashlib.sha256(content).hexdigest() == file.sha256:
            return content
    raise ValueError(f"{name} is damaged, or parts of it are missing.")


def _write_new(content, target):
    """Writes a directory atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, data in content.items():
            (partial / name).write_bytes(data)
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(path, data):
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def _lock(target):
    lock = filelock.FileLock(target / LOCK)
    try:
        with contextlib.suppress(NotImplementedError):  # the file system does not support locks
            return lock.acquire(timeout=0)
        return contextlib.nullcontext()
    except filelock.Timeout:
        raise ValueError(f"another process is training in {target}.") from None
