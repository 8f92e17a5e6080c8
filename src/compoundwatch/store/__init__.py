"""The workspace of a watch that goes on for years: what was seen, measured and said, kept and never rewritten."""

from compoundwatch.model import CACHE, LOCK, STORE
from compoundwatch.store.ledger import FINISHED, NOTHING_NEW, UNFINISHED, Ledger
from compoundwatch.store.rows import Kept, Run, Said
from compoundwatch.store.series import in_order
from compoundwatch.store.workspace import Workspace, opened, reading

__all__ = [
    "CACHE",
    "FINISHED",
    "LOCK",
    "NOTHING_NEW",
    "STORE",
    "UNFINISHED",
    "Kept",
    "Ledger",
    "Run",
    "Said",
    "Workspace",
    "in_order",
    "opened",
    "reading",
]
