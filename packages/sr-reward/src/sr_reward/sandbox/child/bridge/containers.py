"""Mutable values that cross as copies and stay one object: lists, dicts, sets and their kin of the standard library.

An object that both ends keep hold of has one number on both. Each message says which of them have changed since the
last one, so that a list which a program changes in place, returns twice or keeps is one list for the tests as well.
An object that only one end keeps is copied and forgotten.
"""

from __future__ import annotations

import sys

from sr_reward.sandbox.child.bridge.values import key_of, module_of
from sr_reward.sandbox.child.codec import CodecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


class Kind:
    """How the content of one type of container is taken, compared and put back. ``items`` gives it as one flat list;
    ``extra`` what its constructor needs besides."""

    def __init__(
        self,
        items: Callable[[Any], list[Any]],
        fill: Callable[[Any, list[Any]], None],
        make: Callable[..., Any],
        extra: Callable[[Any], list[Any]] = lambda value: [],
    ) -> None:
        self.items, self.fill, self.make, self.extra = items, fill, make, extra
        self.always = False  # whether such objects are numbered even where nobody else keeps them


def flat(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [part for pair in pairs for part in pair]


def pairs_of(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(items) % 2:
        raise CodecError("keys and values go in pairs")
    return zip(items[::2], items[1::2], strict=True)


def _fill_list(value: Any, items: list[Any]) -> None:
    list.__setitem__(value, slice(None), items)


def _fill_dict(value: Any, items: list[Any]) -> None:
    dict.clear(value)
    for key, item in pairs_of(items):
        dict.__setitem__(value, key, item)


def _fill_ordered(value: Any, items: list[Any]) -> None:
    ordered = module_of("collections").OrderedDict
    ordered.clear(value)
    for key, item in pairs_of(items):
        ordered.__setitem__(value, key, item)


def _fill_default(value: Any, items: list[Any]) -> None:
    value.default_factory = items[0]
    _fill_dict(value, items[1:])


def _fill_set(value: Any, items: list[Any]) -> None:
    set.clear(value)
    set.update(value, items)


def _fill_deque(value: Any, items: list[Any]) -> None:
    deque = module_of("collections").deque
    deque.clear(value)
    deque.extend(value, items)


def _fill_bytes(value: Any, items: list[Any]) -> None:
    value[:] = items[0]


def _fill_array(value: Any, items: list[Any]) -> None:
    del value[:]
    value.frombytes(items[0])


def _fill_chain(value: Any, items: list[Any]) -> None:
    value.maps[:] = items


def _fill_names(value: Any, items: list[Any]) -> None:
    value.__dict__.clear()
    value.__dict__.update(pairs_of(items))


def _make(module: str, name: str) -> Callable[..., Any]:
    return lambda *extra: getattr(module_of(module), name)(*extra)


def _of_dict(value: Any) -> list[Any]:
    return flat(dict.items(value))


def _make_array(kind: Any, shape: Any) -> Any:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or type(kind) is not str or type(shape) is not tuple:
        raise CodecError("no array")
    return numpy.empty(shape, dtype=kind)


def _of_array(value: Any) -> list[Any]:
    if value.dtype.kind == "V":
        raise CodecError("an array of records is not data")
    return list(value.ravel()) if value.dtype.hasobject else [value.tobytes()]


def _fill_numpy(value: Any, items: list[Any]) -> None:
    numpy: Any = sys.modules["numpy"]
    if value.dtype.hasobject:
        for place, item in enumerate(items):
            value.flat[place] = item
    else:
        value[...] = numpy.frombuffer(items[0], dtype=value.dtype).reshape(value.shape)


KINDS: dict[str, Kind] = {
    "builtins.list": Kind(lambda value: list(list.__iter__(value)), _fill_list, list),
    "builtins.dict": Kind(_of_dict, _fill_dict, dict),
    "builtins.set": Kind(lambda value: list(set.__iter__(value)), _fill_set, set),
    "builtins.bytearray": Kind(lambda value: [bytes(value)], _fill_bytes, bytearray),
    "array.array": Kind(
        lambda value: [value.tobytes()], _fill_array, _make("array", "array"), lambda value: [value.typecode]
    ),
    "collections.deque": Kind(
        lambda value: list(module_of("collections").deque.__iter__(value)),
        _fill_deque,
        lambda most: module_of("collections").deque((), most),
        lambda value: [value.maxlen],
    ),
    "collections.Counter": Kind(_of_dict, _fill_dict, _make("collections", "Counter")),
    "collections.OrderedDict": Kind(
        lambda value: flat(module_of("collections").OrderedDict.items(value)),
        _fill_ordered,
        _make("collections", "OrderedDict"),
    ),
    "collections.defaultdict": Kind(
        lambda value: [value.default_factory, *_of_dict(value)], _fill_default, _make("collections", "defaultdict")
    ),
    "collections.ChainMap": Kind(lambda value: list(value.maps), _fill_chain, _make("collections", "ChainMap")),
    "numpy.ndarray": Kind(_of_array, _fill_numpy, _make_array, lambda value: [value.dtype.str, value.shape]),
    "types.SimpleNamespace": Kind(
        lambda value: flat(value.__dict__.items()), _fill_names, _make("types", "SimpleNamespace")
    ),
}

ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))
_FIXED = (tuple, frozenset)


def standard(kind: type) -> Kind | None:
    """The entry of a type of the standard library (not of one that merely bears such a name)."""
    found = KINDS.get(key_of(kind))
    if found is None or getattr(sys.modules.get(kind.__module__.partition(".")[0]), kind.__name__, None) is not kind:
        return None
    return found


class Entry:
    """An object that both ends know by one number, and its content when they last agreed on it."""

    __slots__ = ("agreed", "kind", "value")

    def __init__(self, value: Any, kind: Kind) -> None:
        self.value, self.kind = value, kind
        self.agreed = kind.items(value)

    @property
    def changed(self) -> bool:
        now = self.kind.items(self.value)
        if len(now) != len(self.agreed):
            return True
        for one, other in zip(now, self.agreed, strict=True):
            if one is not other and not (type(one) is type(other) and type(one) in ATOMS and one == other):
                return True
        return False


class Shared:
    """The objects that both ends know. ``first`` is 0 on one end and 1 on the other: whose numbers are even."""

    def __init__(self, first: int, kind_of: Callable[[type], Kind | None], keeps: Callable[[Any], bool]) -> None:
        self.entries: dict[int, Entry] = {}
        self.numbers: dict[int, int] = {}
        self.next = first
        self.find_kind, self.keeps = kind_of, keeps
        self.kinds: dict[type, Kind | None] = {}

    def kind_of(self, kind: type) -> Kind | None:
        """How values of exactly this type are copied, or None."""
        try:
            return self.kinds[kind]
        except KeyError:
            found = self.kinds[kind] = self.find_kind(kind)
            return found

    def add(self, value: Any, number: int | None = None) -> int:
        """Give an object a number (or take the other end's)."""
        if number is None:
            number, self.next = self.next, self.next + 2
        kind = self.kind_of(type(value))
        assert kind is not None
        self.entries[number] = Entry(value, kind)
        self.numbers[id(value)] = number
        return number

    def retain(self, kept: Iterable[int]) -> None:
        """Forget every object but these."""
        for number in set(self.entries).difference(kept):
            self.forget(number)

    def forget(self, number: int) -> None:
        entry = self.entries.pop(number)
        del self.numbers[id(entry.value)]

    def find(self, roots: list[Any], *, everything: bool = False) -> list[int]:
        """Number what has to be one object on both ends of all that can be reached from ``roots``: what somebody here
        keeps beside them (``everything``: whatever it is), what occurs twice, and what lies in such an object.
        Returns the new numbers, contents before what contains them."""
        met, counts, inner = self._walk(roots)
        wanted = []
        for value in met:
            kept = sys.getrefcount(value) > counts[id(value)] + _OWN
            wanted.append(everything or kept or counts[id(value)] > 1 or self._is_always(value))
        if not any(wanted):
            return []
        marked = {id(value) for value, want in zip(met, wanted, strict=True) if want}
        todo = [value for value in met if id(value) in marked]
        by_id = {id(value): value for value in met}
        while todo:
            for below in inner.get(id(todo.pop()), ()):
                if below not in marked:
                    marked.add(below)
                    todo.append(by_id[below])
        return [self.add(value) for value in reversed(met) if id(value) in marked]

    def _walk(self, roots: list[Any]) -> tuple[list[Any], dict[int, int], dict[int, list[int]]]:
        """The containers without a number that can be reached from ``roots``, how often each is referred to, and
        which of them lie in each."""
        met: list[Any] = []
        counts: dict[int, int] = {}
        inner: dict[int, list[int]] = {}
        seen: dict[int, Any] = {}
        stack: list[Any] = [roots]
        kinds, numbers = self.kinds, self.numbers
        while stack:
            holder = stack.pop()
            kind = type(holder)
            fixed = holder is roots or kind in _FIXED
            items = holder if fixed else self._items(holder, kind)
            below: list[int] = []
            for item in items:
                sort = type(item)
                if sort in ATOMS:
                    continue
                name = id(item)
                if sort in _FIXED:
                    if name not in seen:
                        seen[name] = item
                        stack.append(item)
                    below.append(name)
                elif name in counts:
                    counts[name] += kind not in _FIXED  # who keeps the tuple keeps what is in it
                    below.append(name)
                elif (kinds[sort] if sort in kinds else self.kind_of(sort)) is not None and name not in numbers:
                    counts[name] = int(kind not in _FIXED)
                    met.append(item)
                    stack.append(item)
                    below.append(name)
            if below:
                inner[id(holder)] = below
        if seen:
            inner = {key: self._through(below, seen, inner) for key, below in inner.items()}
        return met, counts, inner

    def _is_always(self, value: Any) -> bool:
        kind = self.kind_of(type(value))
        return kind is not None and kind.always

    def _items(self, holder: Any, kind: type) -> list[Any]:
        found = self.kind_of(kind)
        return found.items(holder) if found else []

    def _through(self, below: list[int], seen: dict[int, Any], inner: dict[int, list[int]]) -> list[int]:
        """What lies below, with tuples and frozen sets looked through."""
        if not any(name in seen for name in below):
            return below
        found: list[int] = []
        todo, done = list(below), set()
        while todo:
            name = todo.pop()
            if name not in seen:
                found.append(name)
            elif name not in done:
                done.add(name)
                todo.extend(inner.get(name, ()))
        return found

    def changes(self) -> list[int]:
        """The numbers of what has changed here since the ends last agreed; they agree on it from now on. What was
        put into one of them gets a number as well."""
        changed = [number for number, entry in self.entries.items() if entry.changed]
        fresh: list[int] = []
        for number in changed:
            entry = self.entries[number]
            entry.agreed = entry.kind.items(entry.value)
            fresh += self.find(entry.agreed, everything=True)
        return [*fresh, *changed]

    def kept(self) -> list[int]:
        """The numbers of what somebody here still holds, and of what can be reached from it. Forgets the rest."""
        if not self.entries:
            return []
        counts = dict.fromkeys((id(entry.value) for entry in self.entries.values()), 0)
        below: dict[int, list[int]] = {}
        for number, entry in self.entries.items():
            below[number] = []
            for item in (*entry.kind.items(entry.value), *entry.agreed):
                if id(item) in counts:
                    counts[id(item)] += 1
                    below[number].append(self.numbers[id(item)])
        todo = [
            number
            for number, entry in self.entries.items()
            if self.keeps(entry.value) or sys.getrefcount(entry.value) > counts[id(entry.value)] + _HELD
        ]
        found = set(todo)
        while todo:
            for number in below[todo.pop()]:
                if number not in found:
                    found.add(number)
                    todo.append(number)
        self.retain(found)
        return list(found)


def _measure() -> tuple[int, int]:
    """References that the machinery itself holds while it counts those of others; they differ between versions of
    Python, so they are counted on an object that nobody else holds."""
    global _OWN, _HELD
    _OWN = _HELD = 0
    probe = Shared(0, standard, lambda value: False)
    box: list[Any] = [[]]
    met, counts, _ = probe._walk(box)
    own = 0
    for value in met:
        own = sys.getrefcount(value) - counts[id(value)]
    del met, value, counts
    probe.add(box.pop())
    held = next(sys.getrefcount(entry.value) for _, entry in probe.entries.items())
    return own, held


_OWN, _HELD = 0, 0
_OWN, _HELD = _measure()
