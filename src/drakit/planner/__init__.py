"""What-if over a snapshot: the same allocator, no cluster.

Belongs here: capturing what allocation depends on, explaining why claims do not fit, finding the smallest
change that would make them fit. Never: writing to a cluster, or a search of its own.
"""
