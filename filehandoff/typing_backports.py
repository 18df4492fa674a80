"""Names that `typing` has from Python 3.12 or 3.13 on, for Python 3.11.

Type checkers bundle `typing_extensions`; nothing needs it at run time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeIs, override
else:
    from typing import TypeGuard as TypeIs

    def override(method: Callable[..., Any]) -> Callable[..., Any]:
        """Mark a method that overrides one of a base class."""
        return method


__all__ = ["TypeIs", "override"]
