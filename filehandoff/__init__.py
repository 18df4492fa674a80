"""The core of both upload services: no framework, no boto, no I/O.

Bytes and values in, events and values out. The two shells, `flask_app` and `quart_app`, do the I/O. The first use of a
public name imports its module, which keeps `filehandoff.explain` and the pytest plugin fast to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filehandoff.digest import Digest
    from filehandoff.errors import Forbidden, SettingsError, Unauthorized, UploadError
    from filehandoff.form import Event, Field, FileChunk, FileEnd, FileStart, FormParser
    from filehandoff.identity import Identity, RequestHead
    from filehandoff.keys import new_key
    from filehandoff.parts import FileReader, Part, PartCutter, PartReader, PartSizes
    from filehandoff.receipt import Incoming, Receipt, Stored, UploadContext
    from filehandoff.settings import Limits, Settings
else:  # for type checkers this function would make any name a public one

    def __getattr__(name: str) -> object:
        """Import a public name's module and return the name's value (PEP 562)."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)

    def __dir__() -> list[str]:
        """List every public name, used or not."""
        return sorted({*globals(), *__all__})


__all__ = [
    "Digest",
    "Event",
    "Field",
    "FileChunk",
    "FileEnd",
    "FileReader",
    "FileStart",
    "Forbidden",
    "FormParser",
    "Identity",
    "Incoming",
    "Limits",
    "Part",
    "PartCutter",
    "PartReader",
    "PartSizes",
    "Receipt",
    "RequestHead",
    "Settings",
    "SettingsError",
    "Stored",
    "Unauthorized",
    "UploadContext",
    "UploadError",
    "new_key",
]

_MODULE_OF = {
    "Digest": "digest",
    "Event": "form",
    "Field": "form",
    "FileChunk": "form",
    "FileEnd": "form",
    "FileReader": "parts",
    "FileStart": "form",
    "Forbidden": "errors",
    "FormParser": "form",
    "Identity": "identity",
    "Incoming": "receipt",
    "Limits": "settings",
    "Part": "parts",
    "PartCutter": "parts",
    "PartReader": "parts",
    "PartSizes": "parts",
    "Receipt": "receipt",
    "RequestHead": "identity",
    "Settings": "settings",
    "SettingsError": "errors",
    "Stored": "receipt",
    "Unauthorized": "errors",
    "UploadError": "errors",
    "UploadContext": "receipt",
    "new_key": "keys",
}
