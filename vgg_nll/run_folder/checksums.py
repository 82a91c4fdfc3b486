"""Checksums of a run's tables: a CSV file stays a plain table, so metrics.json, which has the run's identity, holds them.

A run from before has none there: its tables are not checked.
"""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vgg_nll.errors import CheckpointError
from vgg_nll.files import read_regular_file
from vgg_nll.run_folder.paths import METRICS, METRICS_TABLE, PREDICTIONS, has_checkpoint

TABLES = (METRICS_TABLE, PREDICTIONS)
CHECKSUMS, STEP = "checksums", "step"  # in metrics.json
MAX_BYTES = 64 << 20


class OtherFiles(NamedTuple):
    """What metrics.json says of the other files of its run; what it does not say is not checked."""

    run_id: str = ""
    step: int = 0  # up to which the event files go
    checksums: Mapping[str, str] = MappingProxyType({})  # by the name of the table


UNKNOWN = OtherFiles()


def of_tables(folder: Path) -> dict[str, str]:
    """Returns the checksum of every table that a run folder holds, by its name."""
    return {name: _checksum(_with_unix_lines((folder / name).read_bytes())) for name in TABLES if (folder / name).is_file()}


def other_files(metrics: Mapping[str, Any], run_id: str) -> OtherFiles:
    """Returns what the content of a metrics.json says of the other files."""
    step, found = metrics.get(STEP), metrics.get(CHECKSUMS)
    known = found if isinstance(found, dict) else {}
    checksums = {name: known[name] for name in TABLES if isinstance(known.get(name), str)}
    return OtherFiles(run_id, step if type(step) is int else 0, checksums)


def read_table(path: Path, files: OtherFiles, others: Mapping[str, Path] = {}) -> str:
    """Returns the text of a table in a run folder, its lines ending as they were written.

    Args:
        files: what metrics.json says of it; others: checksum -> the table of another run, to name the one that is here.

    Raises CheckpointError, with one line, if the table is missing, damaged, or of another run.
    """
    fix = how_to_fix(path, files)
    expected = files.checksums.get(path.name)
    try:
        content = _with_unix_lines(read_regular_file(path, MAX_BYTES))
        text = content.decode()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; {fix}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); {fix}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged: {' '.join(str(error).split())[:200]}; {fix}") from error
    found = _checksum(content)
    if expected is not None and found != expected:
        if found in others:
            raise CheckpointError(f"{path}: is of another run, {others[found].parent}; {fix}")
        raise CheckpointError(f"{path}: is damaged, or of another run: its checksum in {METRICS} does not fit; {fix}")
    return text


def how_to_fix(path: Path, files: OtherFiles) -> str:
    """Returns what a person can do about a table that is missing or damaged, for a message."""
    can_resume = path.name in files.checksums and has_checkpoint(path.parent)
    return f"copy it again, or resume={path.parent} writes it again" if can_resume else "copy it again"


def find_problems(
    folder: Path, files: OtherFiles, others: Mapping[str, Path] = {}, names: Collection[str] = TABLES
) -> list[str]:
    """Returns a line for each table, of these names and with a checksum, that is missing, damaged, or of another run."""
    problems = []
    for name in files.checksums.keys() & set(names):
        try:
            read_table(folder / name, files, others)
        except CheckpointError as error:
            problems.append(str(error))
    return sorted(problems)


def _with_unix_lines(content: bytes) -> bytes:
    """Git and editors change line ends, and a table holds no others: what is text in it has its control characters escaped."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
