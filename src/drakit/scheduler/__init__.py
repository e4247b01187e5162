"""Pods without a node get one, and their claims get devices. A client of the API like any other."""
