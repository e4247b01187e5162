"""Drivers built on the SDK, a folder each."""
