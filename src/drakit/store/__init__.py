"""Revisions and watches over one SQLite table. Knows keys and bytes, nothing of Kubernetes."""

from drakit.store.log import Durability
from drakit.store.store import Change, Entry, Stale, Store

__all__ = ["Change", "Durability", "Entry", "Stale", "Store"]
