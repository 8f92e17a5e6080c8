"""The workspace of a watch that goes on for years: what was seen, measured and said, kept and never rewritten."""

from compoundwatch.store.ledger import FINISHED, NOTHING_NEW, STORE, UNFINISHED, Ledger
from compoundwatch.store.rows import Kept, Run, Said
from compoundwatch.store.series import in_order
from compoundwatch.store.workspace import CACHE, LOCK, Workspace, opened, reading

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
