"""Writing one shard: to a `.tmp` beside it, fsync, then rename, so a name means a whole file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

import pyarrow as pa
import pyarrow.parquet as pq

from stages.errors import StageFailure
from stages.shards.provenance import METADATA_KEY, Provenance
from stages.shards.rows import Row, batch_from_rows


def cannot_write(target: Path, error: OSError) -> StageFailure:
    """What to raise for an error in writing `target`; pyarrow's own text names the `.tmp`."""
    reason = os.strerror(error.errno) if error.errno else error
    return StageFailure(f"{target} cannot be written ({reason})")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that becomes it when the block ends well.

    The process's number is in the name, so that two jobs never write into one file.

    Raises:
        StageFailure: if the folder cannot be written to.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder against other jobs; the folder itself, so that no lock file is left behind.

    Raises:
        StageFailure: if there is no such folder and it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def require_writable(folder: Path) -> None:
    """Make a folder, and say before the work is done, not after it, that it cannot be written to.

    Raises:
        StageFailure: if it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise StageFailure(f"{folder} cannot be written (it is a file): name a folder") from None
    except OSError as error:
        raise cannot_write(folder, error) from error


def write_shard(
    path: Path, batches: Sequence[Sequence[Row]], schema: pa.Schema, provenance: Provenance
) -> None:
    """Write a Parquet shard whole or not at all; the same rows give the same bytes.

    Raises:
        StageFailure: if the file cannot be written.
    """
    schema = schema.with_metadata(provenance.to_metadata())
    table = pa.Table.from_batches([batch_from_rows(rows, schema) for rows in batches], schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=False)


def written_provenance(path: Path) -> Provenance | None:
    """The provenance of a finished shard, or None if there is none that can be read."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return Provenance.from_metadata({METADATA_KEY: metadata[METADATA_KEY]}, where=str(path))
    except Exception:  # whatever is wrong with it, it will be made again
        return None
