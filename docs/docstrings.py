"""Extension of Griffe, which reads the docstrings for the site."""

import inspect
import re
import textwrap

import griffe

import keras_hypernets

KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}
CLASSES = {
    f"{one.__module__}.{one.__name__}": one
    for one in vars(keras_hypernets).values()
    if inspect.isclass(one)
}


class Docstrings(griffe.Extension):
    """Shows sections that Griffe does not know as those that it does, and whole signatures."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            text = obj.docstring.value.replace("\nCall arguments:\n", "\nArgs: Call arguments\n")
            text = re.sub(
                r"(?ms)^(Example:[^\n]*)\n\n(.*?)(?=^\w+:$|\Z)",
                lambda found: f"Examples: {found[1]}\n" + textwrap.indent(found[2], "    "),
                text,
            )
            obj.docstring.value = re.sub(
                r"(?ms)^(References?):\n(.*)",
                lambda found: f"**{found[1]}:**\n\n" + textwrap.dedent(found[2]),
                text,
            )

    def on_class(self, *, cls, **kwargs):
        """Replaces `**kwargs` by the arguments that it stands for, which only Python knows."""
        signature = getattr(CLASSES.get(cls.path), "__signature__", None)
        if signature:
            parameters = [
                griffe.Parameter(
                    p.name,
                    kind=KINDS[p.kind],
                    default=None if p.default is p.empty else repr(p.default),
                )
                for p in signature.parameters.values()
            ]
            init = griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
            cls.set_member("__init__", init)
        if "__init__" in cls.members:  # the source shown is that of the constructor
            cls["__init__"].lineno, cls["__init__"].endlineno = cls.lineno, cls.endlineno

    def on_package(self, *, pkg, loader, **kwargs):
        """Lets functions keep the names that they share with their modules, as Python does."""
        loader.resolve_aliases()
        modules = [pkg]
        for module in modules:  # grows on the way
            modules += [one for one in module.modules.values() if not one.is_alias]
        for module in modules:
            if module.name in module.members and module.name in (module.parent.exports or ()):
                function = module[module.name]
                module.parent[module.name] = griffe.Alias(module.name, function)
