"""Signatures that show every argument, even those that a class passes on as `**kwargs`."""

import functools
import inspect
from collections.abc import Iterable

import keras


class FullSignature:
    """Mixin for layers: `inspect.signature` of a subclass also shows its bases' arguments."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.__signature__ = ClassSignature(arguments_of(cls).values())


class ClassSignature:
    """The signature of a class: these parameters and `**kwargs`.

    It is hidden from instances, which `inspect.signature` asks for their `__call__`.
    """

    def __init__(self, parameters: Iterable[inspect.Parameter]):
        kwargs = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
        self.signature = inspect.Signature([*parameters, kwargs])

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        return self.signature


@functools.cache
def arguments_of(cls: type) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a layer's constructor by name: its own, then those of its bases.

    Those of the bases are keyword-only, since they arrive as `**kwargs`. `keras.Layer`'s parameters
    are left out.
    """
    found = {}
    for one in cls.__mro__[: cls.__mro__.index(keras.Layer)]:
        if "__init__" not in vars(one):
            continue
        _, *parameters = inspect.signature(one.__init__).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        own = not found
        for p in named:
            found.setdefault(p.name, p if own else p.replace(kind=p.KEYWORD_ONLY))
    return found
