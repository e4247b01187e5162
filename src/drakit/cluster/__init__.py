"""The embedded cluster: API server, controllers, scheduler, nodes and drivers wired into one process.

Belongs here: starting, connecting and stopping the rooms. Never: what any of them does.
"""
