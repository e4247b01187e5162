"""The rules objects must keep, in Kubernetes' words: field path, message and cause reason.

Here belong pure functions from a document (and the one before it) to a list of `FieldError`, one module
per kind of object. What needs a compiler, a clock or another object takes it as an argument. Nothing
here raises for a bad document: structure has been checked before, against the published schema.
"""
