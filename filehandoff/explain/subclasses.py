"""Generated subclasses, which look like their bases: one for each class of files, uploads and requests."""

from collections.abc import Callable
from copyreg import __newobj__  # type: ignore[attr-defined] # returned by object.__reduce_ex__
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from filehandoff.explain.closing import FILES, FRAMEWORKS, package_of
from filehandoff.explain.upload import ATTRIBUTE

#: Generated subclasses of the app's own classes, held weakly: the app's class, and its references, can be freed.
_MADE: WeakValueDictionary[tuple[Any, Any], Any] = WeakValueDictionary()
#: Generated subclasses of the standard library's and the frameworks' classes, kept for good: most uploads need one.
_KEPT: dict[tuple[Any, Any], Any] = {}


def class_of(cls: Any, subclass: Callable[[Any], Any]) -> Any:
    """Return the generated subclass of a class, made once; or the class, if it is generated."""
    made = _KEPT.get((cls, subclass)) or _MADE.get((cls, subclass))
    if made is None:
        made = cls if any("_handoff_plain" in vars(base) for base in cls.__mro__) else subclass(cls)
        kept = cls.__module__.startswith(FILES) or package_of(cls.__module__) in FRAMEWORKS
        (_KEPT if kept else _MADE)[cls, subclass] = made
    return made


def become(value: Any, subclass: Callable[[Any], Any]) -> None:
    """Make an object of a framework an instance of its class's generated subclass, once."""
    try:
        object.__setattr__(value, "__class__", class_of(type(value), subclass))
    except Exception:  # noqa: BLE001 - a class of the app's own may forbid the change
        return


class HiddenSubclass:
    """Hides generated subclasses from a base class that has `__init_subclass__`, and from copies."""

    def __init_subclass__(cls, **more: Any) -> None:
        if "_handoff_plain" not in vars(cls):
            super().__init_subclass__(**more)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return without_recording(super().__reduce_ex__(protocol))


def copy_identity(cls: Any, base: Any) -> Any:
    """Give a class its base's name, module and docstring, for use in messages."""
    cls.__name__, cls.__qualname__, cls.__module__, cls.__doc__ = (
        base.__name__,
        base.__qualname__,
        base.__module__,
        base.__doc__,
    )
    return cls


def without_recording(result: Any) -> Any:
    """Rewrite the result of `__reduce_ex__` for the base class: copies record nothing."""
    if result[0] is not __newobj__:
        return result  # the class has its own way to be copied
    _, (cls, *args), state, *rest = result
    if "_handoff_plain" in vars(cls):
        cls = cls.__bases__[-1]
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if name != ATTRIBUTE}
    # A partial: pickle compares the classes if the function is `__newobj__` itself.
    return partial(__newobj__, cls), tuple(args), state, *rest
