"""Revisions and watches over one SQLite table. Knows keys and bytes, nothing of Kubernetes."""
