"""The core of both upload services: no framework, no boto, no sockets, no threads, no asyncio.

Bytes and values in, events and values out. The two shells, `flask_app` and `quart_app`, do the rest.
"""

from filehandoff.digest import Digest
from filehandoff.errors import SettingsError, UploadError
from filehandoff.form import Event, Field, FileChunk, FileEnd, FileStart, FormParser
from filehandoff.keys import new_key
from filehandoff.parts import FileReader, Part, PartCutter, PartReader, PartSizes
from filehandoff.receipt import Incoming, Receipt, Stored, Way
from filehandoff.settings import Limits, Settings

__all__ = [
    "Digest",
    "Event",
    "Field",
    "FileChunk",
    "FileEnd",
    "FileReader",
    "FileStart",
    "FormParser",
    "Incoming",
    "Limits",
    "Part",
    "PartCutter",
    "PartReader",
    "PartSizes",
    "Receipt",
    "Settings",
    "SettingsError",
    "Stored",
    "UploadError",
    "Way",
    "new_key",
]
