"""Where the rooms of an embedded cluster write what they notice: one file, of bounded size."""

from __future__ import annotations

import logging
import logging.handlers

from drakit.cluster.place import Place

_BYTES = 5_000_000


def log_to(place: Place) -> None:
    """Send the log of drakit (INFO) and of its libraries (WARNING) to the place's log file.

    Raises UsageError if there is no writing there.
    """
    place.create()
    handler = logging.handlers.RotatingFileHandler(place.log, maxBytes=_BYTES, backupCount=1, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("drakit").setLevel(logging.INFO)
