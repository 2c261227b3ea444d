"""Packs results and checkpoints of many runs into a few archives of limited size.

The archives are uncompressed zip files, named sweep-0.zip, sweep-1.zip and so on. Each contains a manifest.json that
maps its members to byte ranges of files: files that are too large for one archive are split across several.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import zipfile

from keras_resv2.files import atomic_write
from train.run_files import HISTORY, RUN_FILE, WEIGHTS, newest_checkpoints

MIB = 2**20
ARCHIVES, ARCHIVE_BYTES = 7, 15 * MIB
MANIFEST, LOG = "manifest.json", "train.log"
RESERVE = 2**16  # of each archive, for the manifest, and for text files that have grown in the meantime
MEMBER = 1024  # maximum bytes of a member's names and its entry in the manifest


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a file in an archive; the whole file if `length` is None."""

    run: str
    name: str
    offset: int = 0
    length: int | None = None

    @property
    def member(self):
        return f"{self.run}/{self.name}" + (f".from-{self.offset}" if self.length is not None else "")


class Packer:
    """Maintains the archives of a sweep.

    Args:
        folder: folder of the archives; created if it does not exist.
        out: directory of the runs.
        total_bytes: total size of all archives; None for seven full ones.
        archives, archive_bytes: maximum number and size of archives.
    """

    def __init__(self, folder, out, total_bytes=None, archives=ARCHIVES, archive_bytes=ARCHIVE_BYTES):
        self._folder, self._out = pathlib.Path(folder), pathlib.Path(out)
        self._total = (archives * archive_bytes if total_bytes is None else total_bytes) - archives * RESERVE
        self._archives, self._capacity = archives, archive_bytes - RESERVE
        self._homes = {}  # run -> archive: previous location, so that most archives remain unchanged
        self._written = {}  # archive -> its content

    def pack(self, runs):
        """Writes the archives that changed, and renames them together, because a large run may span several.

        Args:
            runs: list of (name, finished), in order of priority.

        Returns:
            Names of the runs that did not fit.

        Raises:
            OSError: if the disk is full, or the folder is not writable; the previous archives are kept.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for last in (False, True):  # a run may remove a checkpoint in the meantime
            plan, left_out = self._plan(runs)
            try:
                with contextlib.ExitStack() as renamed:
                    written = {index: self._write(index, pieces, renamed) for index, pieces in enumerate(plan)}
                self._written.update(written)
                break
            except FileNotFoundError:
                if last:
                    raise
        for index in range(self._archives):
            if index >= len(plan) or not plan[index]:
                (self._folder / archive_name(index)).unlink(missing_ok=True)
                self._written.pop(index, None)
        return left_out

    def _plan(self, runs):
        free = [self._capacity] * self._archives
        plan = [[] for _ in range(self._archives)]
        total, left_out = self._total, []
        for run, finished in runs:
            files = files_to_pack(self._out / run, finished)
            size = sum(size + MEMBER for _, size in files)
            home = next((i for i in self._order(run) if size <= free[i]), None)
            if not files:
                continue
            if size > total or (
                home is None and (size <= self._capacity or size > sum(free) - self._archives * MEMBER)
            ):
                left_out.append(run)
                continue
            total -= size
            if home is None:
                total -= self._divide(run, files, free, plan)
                continue
            self._homes[run] = home
            free[home] -= size
            plan[home] += [Piece(run, name) for name, _ in files]
        return plan, left_out

    def _order(self, run):
        home = self._homes.get(run)
        return sorted(range(self._archives), key=lambda index: (index != home, index))

    def _divide(self, run, files, free, plan):
        """Splits the files of a large run across archives; returns the overhead in bytes."""
        extra = 0
        for name, size in files:
            offset = 0
            for index in range(self._archives):
                length = min(size - offset, free[index] - MEMBER)
                if length <= 0:
                    continue
                whole = length == size
                plan[index].append(Piece(run, name) if whole else Piece(run, name, offset, length))
                free[index] -= length + MEMBER
                extra += 0 if whole else MEMBER
                offset += length
                if offset == size:
                    break
        return extra

    def _write(self, index, pieces, renamed):
        """Writes an archive, which is renamed when the ExitStack `renamed` closes; returns its content."""
        state = [(piece, _stamp(self._out / piece.run / piece.name)) for piece in pieces]
        path = self._folder / archive_name(index)
        if not pieces or (self._written.get(index) == state and path.exists()):
            return state
        partial = renamed.enter_context(atomic_write(path))
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            manifest = [_add(archive, self._out, piece) for piece in pieces]
            archive.writestr(MANIFEST, json.dumps({"version": 1, "members": manifest}))
        return state


def archive_name(index):
    """Returns the file name of an archive."""
    return f"sweep-{index}.zip"


def files_to_pack(run, finished):
    """Lists the files of a run to keep.

    Args:
        run: directory of the run.
        finished: whether it has weights; otherwise the newest checkpoint is packed.

    Returns:
        List of (name, bytes); empty if there is nothing yet.
    """
    names = [RUN_FILE, HISTORY, LOG]
    names += [WEIGHTS] if finished else [path.name for path in newest_checkpoints(run)[:1]]
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found.append((name, (run / name).stat().st_size))
    return found


def _stamp(path):
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _add(archive, out, piece):
    """Adds a member; returns its entry in the manifest."""
    content = (out / piece.run / piece.name).read_bytes()
    end = None if piece.length is None else piece.offset + piece.length
    part = content[piece.offset : end]
    archive.writestr(zipfile.ZipInfo(piece.member), part)
    return {
        "member": piece.member,
        "run": piece.run,
        "name": piece.name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "offset": piece.offset,
        "length": len(part),
    }
