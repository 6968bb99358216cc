"""Where studies are kept: databases and journal files, and what can be wrong with them (extra: nas)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from limbeck.errors import LimbeckError
from limbeck.nas.searches.optuna_terms import quiet

if TYPE_CHECKING:
    import optuna

LOCK_SECONDS: Final = 5
"""How old a lock on a journal file must be to be broken; it is held for milliseconds."""


def studies_in(storage: str | Path) -> list[str]:
    """Names of the studies that a storage holds."""
    import optuna

    if _file_of(storage) is None:
        raise LimbeckError(f"{without_password(storage)} does not exist; there is no search to read.")
    with guard(without_password(storage)), quiet():
        return list(optuna.get_all_study_names(backend_of(storage)))


def is_stored(storage: str | Path, name: str) -> bool:
    """Whether a storage holds a study of this name."""
    return _file_of(storage) is not None and name in studies_in(storage)


def need_optuna() -> None:
    """Raise LimbeckError if Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise LimbeckError("Architecture search needs Optuna: pip install 'limbeck[nas]'.") from None


def is_url(storage: str) -> bool:
    """Whether a storage is a database; a journal file otherwise."""
    return "://" in storage


def backend_of(storage: str | Path | None) -> optuna.storages.BaseStorage:
    """A database, a journal file, or memory; made if it does not exist."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    if storage is None:
        return optuna.storages.InMemoryStorage()
    if is_url(str(storage)):
        return optuna.storages.RDBStorage(str(storage))
    path = str(Path(storage).resolve())
    lock = JournalFileSymlinkLock(path, grace_period=LOCK_SECONDS)
    if os.path.exists(path):
        lock.acquire()
        try:
            _mend(Path(path))
        finally:
            lock.release()
    return optuna.storages.JournalStorage(JournalFileBackend(path, lock))


def _mend(path: Path) -> None:
    """Drop a last line that a kill or a full disk cut off, or the next one would be glued to it."""
    with path.open("rb+") as file:
        text = file.read()
        if text.startswith(b'{"op_code"') and not text.endswith(b"\n"):  # of other files nothing is touched
            file.truncate(text.rfind(b"\n") + 1)


def _file_of(storage: str | Path) -> Path | None:
    """The file that a storage is in, if it exists; the storage itself for a database that is not a file."""
    text = str(storage)
    path = Path(text.removeprefix("sqlite:///").split("?")[0])
    return path if (is_url(text) and not text.startswith("sqlite:///")) or path.exists() else None


def place_of(storage: str | Path) -> str:
    """Where a storage is, however its path is written and whatever password opens it: equal for one and the same.

    >>> place_of("sqlite:////data/x/../studies.db?timeout=3"), place_of("mysql://me:secret@host/studies")
    ('sqlite:////data/studies.db', 'mysql://me@host/studies')
    """
    text = str(storage)
    if not is_url(text):
        return str(Path(text).resolve())
    if text.startswith("sqlite:///"):
        return f"sqlite:///{Path(text.removeprefix('sqlite:///').split('?')[0]).resolve()}"
    return re.sub(r"://([^:@/]+):[^@]*@", r"://\1@", text)


def no_sampler() -> optuna.samplers.BaseSampler:
    """A sampler that is never asked: trials are added with their architecture."""
    import optuna

    return optuna.samplers.RandomSampler(seed=0)


@contextmanager
def guard(where: str) -> Iterator[None]:
    """Turn every error of a storage into a LimbeckError of one sentence."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError, OSError, ValueError, ImportError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        reason = (str(getattr(cause, "orig", None) or cause).splitlines() or [type(error).__name__])[0]
        if "locked" in reason:
            reason += "; another program holds it"
        raise LimbeckError(
            f"{where} cannot be used ({reason}); check it, or choose another --storage. What was stored before is kept."
        ) from None


def without_password(storage: str | Path | None) -> str:
    """A storage without its password."""
    return "memory" if storage is None else re.sub(r"://([^:@/]+):[^@]*@", r"://\1:***@", str(storage))
