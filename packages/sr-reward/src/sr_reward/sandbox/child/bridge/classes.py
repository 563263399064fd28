"""Makes the classes that mirror those of the other end, from what ``describe`` says about them."""

from __future__ import annotations

from sr_reward.sandbox.child.bridge.describe import BINARY, CONTAINS, ORDER, SAME, SPECIAL
from sr_reward.sandbox.child.bridge.proxies import Mirror, PlainProxy, Proxy, attributes
from sr_reward.sandbox.child.bridge.values import module_of
from sr_reward.sandbox.child.codec import CodecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sr_reward.sandbox.child.bridge.peer import Peer

# of an object that holds its plain content here these would let the other end decide what that content is
_NEVER_OF_PLAIN = frozenset(("__hash__", CONTAINS))


def build(peer: Peer, number: int, told: list[Any]) -> type:
    """The class that mirrors class ``number`` of the other end. Raises CodecError for a malformed description."""
    try:
        name, doc, _, _, (special, none, plain, hidden), extra = told
        for text in (name, *special, *none, *plain, *hidden):
            if type(text) is not str:
                raise CodecError("a class is described by names")
        if extra[0] == "enum":
            made = _build_enum(peer, number, name, plain, extra)
        elif extra[0] == "tuple":
            made = _build_tuple(peer, number, name, plain, extra)
        else:
            made = _build_class(peer, number, told)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise CodecError(f"a class that cannot be mirrored ({error})") from None
    if type(doc) is str:
        made.__doc__ = doc
    return made


def _build_class(peer: Peer, number: int, told: list[Any]) -> type:
    name, _, bases, has_attributes, (special, none, plain, hidden), extra = told
    raised = any(issubclass(base, BaseException) for base in bases)
    kept = any(not issubclass(base, Proxy) and not _is_abstract(base) for base in bases)  # content of a plain type
    own = {attribute for base in bases if peer.is_ours(base) for attribute in dir(base)}
    names: dict[str, Any] = {
        "_sr_peer": peer,
        "_sr_class": number,
        "_sr_plain": kept and not raised,
        "__module__": "program",
        "__qualname__": name,
    }
    if not kept:
        names["__slots__"] = ()
        bases = (*bases, Proxy) if not any(issubclass(base, Proxy) for base in bases) else tuple(bases)
        if has_attributes:
            names["__dict__"] = property(attributes)
    elif not any(isinstance(base, Mirror) for base in bases):
        bases = (PlainProxy, *bases)
    cell: list[type] = []
    for each in special:
        if raised and each == "__init__":  # an exception is made where it is raised
            continue
        if each in SPECIAL and each not in own and not (kept and each in _NEVER_OF_PLAIN):
            names[each] = _special(peer, cell, each) if each != "__class_getitem__" else classmethod(_itself)
    for each in none:
        if each in SPECIAL and not kept:
            names[each] = None
    for each in plain:
        if each.isidentifier() and not each.startswith(("__", "_sr_")) and each not in own:
            names[each] = _method(peer, cell, each)
    for each in hidden:
        if each.isidentifier() and not each.startswith(("__", "_sr_")) and each not in own:
            names[each] = property(_attribute(peer, each))
    if len(extra) == 3:
        _note_fields(names, extra[1], extra[2])
    made = Mirror(name, tuple(bases), names) if not _metaclass(bases) else _metaclass(bases)(name, tuple(bases), names)
    cell.append(made)
    return made


def _is_abstract(base: type) -> bool:
    """Whether a class says what its objects can do but holds nothing itself."""
    return base is object or base.__module__ in ("collections.abc", "abc", "numbers", "typing") or base is PlainProxy


_metaclasses: dict[type, type] = {}


def _metaclass(bases: tuple[type, ...]) -> Any:
    """``Mirror``, joined with the metaclass of the bases where they have one (that of abstract classes)."""
    for base in bases:
        kind = type(base)
        if kind is not type and not issubclass(kind, Mirror):
            if kind not in _metaclasses:
                _metaclasses[kind] = type("Mirror", (Mirror, kind), {})
            return _metaclasses[kind]
    return next((type(base) for base in bases if issubclass(type(base), Mirror)), Mirror)


def _note_fields(names: dict[str, Any], fields: Any, match: Any) -> None:
    """Let ``dataclasses.asdict`` and its kin, and patterns, know the attributes of a data class."""
    if fields is not None:
        made = module_of("dataclasses").make_dataclass("Fields", [(field, object) for field in fields])
        names["__dataclass_fields__"] = made.__dataclass_fields__
    if match:
        names["__match_args__"] = tuple(str(each) for each in match)


def _special(peer: Peer, cell: list[type], name: str) -> Any:
    if name in SAME or name in ORDER or name in BINARY or name == CONTAINS:

        def weighed(self: Any, *args: Any) -> Any:
            return peer.weigh(cell[0], name, self, args)

        return weighed
    if name == "__exit__":

        def leave(self: Any, kind: Any, error: Any, trace: Any) -> Any:
            result = peer.ask("op", [cell[0], name, self, (kind, error, None), ()])
            # a test that fails inside the block fails, whatever the object says
            return result if peer.may_suppress(error) else False

        return leave

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        return peer.operate(cell[0], name, self, args, options)

    forward.__name__ = name
    return forward


def _method(peer: Peer, cell: list[type], name: str) -> Any:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return peer.method(cell[0], name, self, args, options)

    method.__name__ = name
    method.__qualname__ = name
    return method


def _attribute(peer: Peer, name: str) -> Any:
    return lambda self: peer.ask("get", [self, name])


def _itself(cls: type, key: Any) -> type:
    """What ``Class[type]`` gives: the class, whose parameters mean nothing when it runs."""
    return cls


def _build_enum(peer: Peer, number: int, name: str, plain: list[str], extra: list[Any]) -> type:
    _, base, mixed, members = extra
    enum = module_of("enum")
    if not isinstance(base, type) or not issubclass(base, enum.Enum):
        raise CodecError("no enumeration")
    made: Any
    if mixed is None:
        made = base(name, members, module="program")
    else:
        made = base(name, members, module="program", type=mixed)
    for each in plain:
        if each.isidentifier() and not hasattr(made, each):
            setattr(made, each, _method(peer, [made], each))
    made.__getattr__ = lambda self, wanted: _ask_member(peer, self, wanted)
    peer.note_class(number, made)
    return made  # type: ignore[no-any-return]


def _ask_member(peer: Peer, member: Any, name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return peer.ask("get", [member, name])


def _build_tuple(peer: Peer, number: int, name: str, plain: list[str], extra: list[Any]) -> type:
    _, fields, defaults = extra
    made: Any = module_of("collections").namedtuple(name, fields, module="program")
    made._field_defaults = dict(defaults)
    count = len(defaults)
    made.__new__.__defaults__ = tuple(value for _, value in defaults) if count else None
    for each in plain:
        if each.isidentifier() and not each.startswith("_") and not hasattr(made, each):
            setattr(made, each, _method(peer, [made], each))
    peer.note_class(number, made)
    return made  # type: ignore[no-any-return]
