"""`bequeath.explain()` and `bequeath explain`: how an object would cross, and what would not.

The engine walks the object and finds the words (`src/explain`); here they become an exception, a
report in a terminal or a notebook, and, when asked for, a trial in a clean child.
"""

from __future__ import annotations

import sys

from . import _engine, exceptions

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Literal

    To = Literal["spawn", "forkserver", "fork", "bytes", "queue"]

#: Where each situation of `exceptions.STANDARD` is explained.
SECTIONS = {
    "unpicklable": "docs/why.md#belongs-here",
    "local": "docs/why.md#by-value",
    "missing": "docs/why.md#by-value",
    "found": "docs/why.md#by-value",
    "inheritance": "docs/why.md#refused",
    "unimplemented": "docs/why.md#belongs-here",
    "pickling": "docs/why.md#reducers",
    "attribute": "docs/why.md#reducers",
    "value": "docs/why.md#reducers",
}


# --- after a failure ------------------------------------------------------------------------------


def instead(obj: object, error: Exception, root: str = "", portable: bool = False) -> BaseException:
    """The refusal to raise in the place of `error`; `error` itself where it is the program's.

    `portable`: what carries it carries bytes only.
    """
    found = _engine.explain_refusal(obj, error, root, portable)
    if found is None:
        return error
    first, *others = found
    if first["the_programs"] or isinstance(first["error"], exceptions.BequeathError):
        # The class and the words are there already; only the way to it is news.
        original = _original(error, first)
        if isinstance(original, exceptions.BequeathError) and not original.path:
            original.path = first["path"]
        _add_notes(original, first, others)
        return original
    refused = exceptions.BequeathError.where(first["situation"])
    where = f" (defined at {first['definition']})" if first["definition"] else ""
    section = SECTIONS[first["about"]]
    text = (
        f"{first['path'] or 'the object'} cannot be handed to another process: it is "
        f"{_a(first['type'])}{where}: {first['reason']}. {first['remedy']}; see {section}"
    )
    better = refused(text)
    better.path, better.culprit = first["path"], first["type"]
    better.reason, better.remedy = first["reason"], first["remedy"]
    better.definition = first["definition"] or ""
    _add_notes(better, first, others)
    return better


def _original(error: Exception, first: dict[str, Any]) -> BaseException:
    """What the failed pickling raised; the walk has raised it a second time."""
    same = type(error) is type(first["error"]) and str(error) == str(first["error"])
    found: BaseException = error if same else first["error"]
    return found


def _add_notes(error: BaseException, first: dict[str, Any], others: list[dict[str, Any]]) -> None:
    if sys.version_info < (3, 11):
        return
    error.add_note(f"path: {first['path'] or 'the object itself'}")
    defined = f", defined at {first['definition']}" if first["definition"] else ""
    error.add_note(f"type: {first['type']}{defined}")
    error.add_note(f"reason: {first['reason']}")
    error.add_note(f"remedy: {first['remedy']}")
    for other in others[:9]:
        error.add_note(f"refused, too: {other['path']} ({other['type']})")
    if len(others) > 9:
        error.add_note(f"and {len(others) - 9} more: bequeath.explain() names them")


def _a(kind: str) -> str:
    if kind.startswith(("function ", "class ")):
        return f"the {kind}"
    return f"{'an' if kind.lstrip('_')[:1].lower() in 'aeiou' else 'a'} {kind}"


# --- what a main module that is run again binds ---------------------------------------------------

_bindings: dict[str, dict[str, str]] = {}


def binding_in_main(name: str) -> str:
    """What a child that runs the main module again has under a name: "bound", "rebound" (bound
    again by what it does not run), or "missing".

    Not `_home.bound_at_margin`, which every child asks that sends something of main: that looks at
    the text, which is much faster, and may overlook a name, since what is overlooked crosses
    by value. Here whoever waits has failed, or has asked, and is to be told nothing wrong.
    """
    from ._home import main_surely_has

    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None:
        return "missing"
    bindings = _bindings.get(path)
    if bindings is None:
        bindings = _bindings[path] = _read_bindings(path)
    found = bindings.get(name)
    if found is None and bindings.get("*"):
        return "bound"
    return found or ("bound" if main_surely_has(name) else "missing")


def _parsed(path: str) -> Any:
    import ast

    try:
        with open(path, "rb") as file:
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None


def is_guarded(path: str, line: int) -> bool:
    """Whether a line of a main module does not run when a child runs it again."""
    import ast

    tree = _parsed(path)
    return tree is None or any(
        isinstance(node, ast.If)
        and "__name__" in ast.dump(node.test)
        and node.lineno <= line <= (node.end_lineno or line)
        for node in tree.body
    )


def _read_bindings(path: str) -> dict[str, str]:
    tree = _parsed(path)
    if tree is None:
        return {}
    there, elsewhere = _names_bound(tree)
    return {name: "rebound" if name in elsewhere else "bound" for name in there}


def _names_bound(tree: Any) -> tuple[set[str], set[str]]:
    """Names that running the module binds at its top level; those that else is bound."""
    import ast

    there: set[str] = set()
    elsewhere: set[str] = set()

    def look(node: Any, names: set[str]) -> None:
        inner: Any
        if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
            for inner in node.body:
                look(inner, elsewhere)
            for inner in node.orelse:
                look(inner, names)
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            for inner in ast.walk(node):
                if isinstance(inner, ast.Global):
                    elsewhere.update(inner.names)
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((one.asname or one.name).partition(".")[0] for one in node.names)
        for inner in ast.iter_child_nodes(node):
            look(inner, names)

    look(tree, there)
    return there, elsewhere


# --- the report -----------------------------------------------------------------------------------


class Explanation:
    """How an object would cross: `print()` it, show it in a notebook, or take `to_dict()`."""

    def __init__(self, found: dict[str, Any], text: str) -> None:
        self._found, self._text = found, text

    @property
    def crosses(self) -> bool:
        """Whether nothing is refused."""
        return bool(self._found["crosses"])

    @property
    def culprits(self) -> list[dict[str, Any]]:
        """What is refused: path, type, definition, reason and remedy of each."""
        culprits: list[dict[str, Any]] = self._found["culprits"]
        return culprits

    @property
    def rebuilds(self) -> bool | None:
        """Whether a clean child could rebuild it; None if nobody has tried (`verify=True`)."""
        rebuilt: bool | None = self._found.get("rebuilds")
        return rebuilt

    def to_dict(self) -> dict[str, Any]:
        """All of it, as data (docs/explain.md)."""
        return self._found

    def __str__(self) -> str:
        rebuilt = self._found.get("rebuilds")
        if rebuilt is None:
            return self._text
        word = "yes" if rebuilt else f"no: {self._found['rebuild_error']}"
        return f"{self._text}rebuilt in a clean child: {word}\n"

    def __repr__(self) -> str:
        refused = len(self.culprits)
        return f"<Explanation to={self._found['to']!r} size={self._found['size']} {refused=}>"

    def _repr_html_(self) -> str:
        from html import escape

        colours = {"not at all": "#b00020", "as a handle": "#00695c", "by reference": "#555"}
        rows = "".join(
            f'<tr style="color:{colours.get(part["way"], "inherit")}">'
            + "".join(
                f'<td style="text-align:left">{escape(str(part[key] or ""))}</td>'
                for key in ("path", "type", "way", "size", "definition", "reason", "remedy")
            )
            + "</tr>"
            for part in self._found["parts"]
        )
        heads = "".join(
            f"<th>{head}</th>"
            for head in ("path", "type", "way", "bytes", "defined", "why", "remedy")
        )
        rest = escape(str(self).partition("\nlargest:\n")[2])
        tail = f"<pre>largest:\n{rest}</pre>" if rest else ""
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{tail}"

    def __rich__(self) -> Any:
        """The same as a coloured tree; only rich asks for it."""
        from rich.console import Group  # type: ignore[import-not-found,unused-ignore]
        from rich.markup import escape  # type: ignore[import-not-found,unused-ignore]
        from rich.text import Text  # type: ignore[import-not-found,unused-ignore]
        from rich.tree import Tree  # type: ignore[import-not-found,unused-ignore]

        styles = {"not at all": "bold red", "as a handle": "cyan", "by reference": "dim"}
        head, _, rest = str(self).partition("\n")
        trees: list[Tree] = []
        root = None
        for part in self._found["parts"]:
            where = f" ({part['definition']})" if part["definition"] else ""
            style = styles.get(part["way"], "")
            line = f"{part['path'] or 'the object'}: {part['type']}{where}, {part['way']}"
            label = Text(f"{line}, {part['size']} B", style=style)
            inside = part["inside"]
            tree = Tree(label) if inside is None else trees[inside].add(label)
            trees.append(tree)
            root = root or tree
            if part["reason"]:
                tree.add(f"why: {escape(part['reason'])}", style="red")
                tree.add(f"remedy: {escape(part['remedy'])}", style="green")
        text = rest.partition("largest:\n")
        tail = [Text(text[1] + text[2])] if text[1] else []
        shown = [root] if root is not None else []
        return Group(Text(head, style="bold"), *shown, *tail)


def explain(obj: object, to: To = "spawn", verify: bool = False) -> Explanation:
    """How an object would cross to a child, through a queue, or into plain bytes; nothing is sent.

    `verify=True` also lets a clean child rebuild it: then it is really handed over, once.
    """
    found, text = _look(obj, to)
    if verify:
        error = None
        if found["crosses"]:
            error = _rebuilding_fails(obj, to)
        found["rebuilds"] = bool(found["crosses"]) and error is None
        found["rebuild_error"] = error or ("" if found["crosses"] else "it does not cross")
    return Explanation(found, text)


def _look(obj: object, to: str, root: str = "", strict: bool = False) -> tuple[dict[str, Any], str]:
    if to == "fork":
        part = {
            "path": root,
            "type": type(obj).__qualname__,
            "way": "by inheritance",
            **dict.fromkeys(("definition", "reason", "remedy", "inside")),
            "size": 0,
        }
        found: dict[str, Any] = {"to": "fork", "crosses": True, "size": 0, "parts": [part]}
        found.update((key, []) for key in ("culprits", "shared", "cycles", "largest", "missing"))
        return found, f"{root or 'the object'} to fork: crosses, by inheritance like everything\n"
    if to not in ("spawn", "forkserver"):
        return _engine.explain_object(obj, to, root, strict)
    from . import context

    # Objects that may only be handed to a child ask whether one is being started.
    before = context.get_spawning_popen()
    context.set_spawning_popen(before or _Starting())
    try:
        return _engine.explain_object(obj, to, root, strict)
    finally:
        context.set_spawning_popen(before)


class _Starting:
    """Stands for a start that does not take place."""

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    class DupFd:
        def __init__(self, fd: int) -> None:
            self.fd = fd


# --- the trial ------------------------------------------------------------------------------------


def _rebuilding_fails(obj: object, to: str) -> str | None:
    """What goes wrong where a clean child rebuilds it; None if nothing does."""
    if to == "fork":
        return None  # the child begins with it
    from . import context

    method = to if to in ("spawn", "forkserver") else "spawn"
    chosen = context._default_context.get_context(method)
    ours, theirs = chosen.Pipe()
    # The child is up before it is sent anything: whatever fails in it is an answer.
    child = chosen.Process(target=_rebuild, args=(theirs, to), daemon=True)
    try:
        child.start()
        theirs.close()
        _hand_over(obj, to, ours)
        answer: str | None = ours.recv()
    except EOFError:
        answer = "the child ended before it had rebuilt it"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    finally:
        ours.close()
        if child.pid is not None:
            child.join()
            child.close()
    return answer


def _hand_over(obj: object, to: str, connection: Any) -> None:
    if to == "queue":
        connection.send(obj)
    elif to == "bytes":
        import pickle

        connection.send(pickle.dumps(obj))
    else:
        from . import context, reduction

        context.set_spawning_popen(_Starting())
        try:
            packed = _engine.pack(obj)
        finally:
            context.set_spawning_popen(None)
        connection.send((packed.bytes, [reduction.DupFd(fd) for fd in packed.descriptors]))


def _rebuild(connection: Any, to: str) -> None:
    answer = None
    try:
        thing = connection.recv()
        if to == "bytes":
            import pickle

            pickle.loads(thing)
        elif to != "queue":
            packed, descriptors = thing
            _engine.unpack(packed, [descriptor.detach() for descriptor in descriptors])
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    connection.send(answer)


# --- the command ----------------------------------------------------------------------------------


def main(words: list[str]) -> int:
    """The command: 0 where the object crosses, else 1."""
    import argparse

    parser = argparse.ArgumentParser("bequeath explain", description=explain.__doc__)
    parser.add_argument("place", metavar="FILE.py:NAME", help="the object: NAME may have dots")
    parser.add_argument(
        "--to",
        default="spawn",
        choices=("spawn", "forkserver", "fork", "bytes", "queue"),
        help="where to (spawn, unless said otherwise)",
    )
    parser.add_argument("--verify", action="store_true", help="let a clean child rebuild it")
    parser.add_argument("--json", action="store_true", help="as data (docs/explain.md)")
    options = parser.parse_args(words)
    path, colon, name = options.place.rpartition(":")
    if not colon or not path or not name:
        parser.error("the object is given as FILE.py:NAME")
    try:
        obj: Any = _loaded(path)
        for part in name.split("."):
            obj = getattr(obj, part)
    except (OSError, AttributeError) as error:
        parser.error(str(error))
    report = explain(obj, options.to, options.verify)
    if options.json:
        import json

        print(json.dumps(report.to_dict()))
    else:
        show(report)
    return 0 if report.crosses and report.rebuilds is not False else 1


def _loaded(path: str) -> ModuleType:
    """The program's main module, as a child would run it again: without what is guarded."""
    import os
    import runpy
    import types

    full = os.path.abspath(path)
    if not os.path.isfile(full):
        raise FileNotFoundError(f"{path}: no such file")
    sys.path[:1] = [os.path.dirname(full)]
    sys.argv[:] = [full]
    module = types.ModuleType("__mp_main__")
    module.__file__ = full
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    vars(module).update(runpy.run_path(full, run_name="__mp_main__"))
    module.__file__ = full
    return module


def show(report: Explanation) -> None:
    """Print a report; in colours where there is a terminal and rich is installed."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            pass
        else:
            Console().print(report)
            return
    print(str(report), end="")
