"""Values from text of the other end. Whatever the text is, it makes such a value or raises CodecError."""

from __future__ import annotations

from sr_reward.sandbox.child import codec
from sr_reward.sandbox.child.bridge import describe, proxies, values
from sr_reward.sandbox.child.bridge.classes import build
from sr_reward.sandbox.child.bridge.containers import KINDS, standard
from sr_reward.sandbox.child.bridge.instances import IMMUTABLE
from sr_reward.sandbox.child.bridge.proxies import Mirror, Proxy, RemoteFunction, RemoteIterator
from sr_reward.sandbox.child.bridge.table import Table
from sr_reward.sandbox.child.bridge.writing import RUNNING
from sr_reward.sandbox.child.codec import CodecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_set = object.__setattr__


class Reader(Table):
    """Reads values; ``writing`` lists the tags."""

    def build(self, pairs: list[tuple[str, Any]]) -> Any:
        """The value of one tag."""
        if len(pairs) == 1:
            tag, content = pairs[0]
            if tag in READERS:
                return getattr(self, READERS[tag])(content)
        return codec.build_value(pairs)

    def _read_shared(self, number: Any) -> Any:
        if type(number) is not int or number not in self.shared.entries:
            raise CodecError("a number that names no shared object")
        return self.shared.entries[number].value

    def _read_new(self, content: list[Any]) -> None:
        number, kind, extra = content
        if type(number) is not int or not self.is_foreign(number) or number in self.shared.entries:
            raise CodecError("a number that is taken")
        value = self._fresh(kind, extra)
        if type(value) in IMMUTABLE or self.shared.kind_of(type(value)) is None:
            raise CodecError("not a container")
        self.shared.add(value, number)
        if self.is_mirror(value):
            _set(value, proxies.NUMBER, number)

    def _read_fill(self, content: list[Any]) -> None:
        number, items = content
        self._read_shared(number)
        entry = self.shared.entries[number]
        if type(items) is not list:
            raise CodecError("content is a list")
        entry.kind.fill(entry.value, items)
        entry.agreed = entry.kind.items(entry.value)

    def _read_container(self, content: list[Any]) -> Any:
        kind, extra, items = content
        value = self._fresh(kind, extra)
        found = self.shared.kind_of(type(value))
        if found is None or type(items) is not list:
            raise CodecError("not a container")
        found.fill(value, items)
        return value

    def _fresh(self, kind: Any, extra: Any) -> Any:
        if type(kind) is not str or type(extra) is not list:
            raise CodecError("not a container")
        try:
            if kind != "instance":
                return KINDS[kind].make(*extra)
            (cls,) = extra
            if not isinstance(cls, type) or self.shared.kind_of(cls) is None or standard(cls) is not None:
                raise CodecError("not a class of instances")
            base: Any = next((each for each in cls.__mro__ if describe.is_standard(each)), object)
            return base.__new__(cls)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CodecError(f"not a container ({error})") from None

    def _read_object(self, content: Any) -> Any:
        number, *told = content if type(content) is list else [content]
        if type(number) is not int:
            raise CodecError("a number names an object")
        if not self.is_foreign(number):
            if number not in self.exported:
                raise CodecError("a number that names no object")
            return self.exported[number]
        if number in self.proxies:
            self.seen_again(self.proxies[number])
            return self.proxies[number]
        if number in self.shared.entries:
            return self.shared.entries[number].value
        made = self.proxies[number] = self._proxy(number, *told)
        return made

    def seen_again(self, proxy: Any) -> None:
        """An object that is already known has come from the other end."""

    def _proxy(self, number: int, sort: Any = None, *rest: Any) -> Any:
        peer: Any = self
        if sort == "function":
            name, qualified, doc, flags = rest
            for part in (name, qualified, doc or ""):
                if type(part) is not str:
                    raise CodecError("a function has names")
            return RemoteFunction(peer, number, (name, qualified, doc), int(flags))
        if sort == "iterator":
            kind = values.find_named(rest[0]) if rest[0] is not None else RemoteIterator
            return RemoteIterator(peer, number, kind if isinstance(kind, type) else RemoteIterator)
        if sort in RUNNING:
            maker: Any = getattr(proxies, f"remote_{sort}")
            made = maker(peer, number)
            self.foreign[id(made)] = (number, made)
            return made
        (kind,) = rest
        if not isinstance(kind, Mirror) or not issubclass(kind, Proxy):
            raise CodecError("not a class of proxies")
        made = object.__new__(kind)
        _set(made, proxies.NUMBER, number)
        _set(made, "_sr_ours", False)
        return made

    def _read_class(self, content: Any) -> type:
        number, *told = content if type(content) is list else [content]
        if type(number) is not int:
            raise CodecError("a number names a class")
        if not self.is_foreign(number):
            found = self.exported.get(number)
            if not isinstance(found, type):
                raise CodecError("a number that names no class")
            return found
        if number not in self.classes:
            if not told or type(told[0]) is not list or len(told[0]) != 6:
                raise CodecError("a class that was never described")
            peer: Any = self
            name, doc, bases, *rest = told[0]
            for base in bases:
                known = isinstance(base, Mirror) or self.is_ours(base) or describe.may_be_base(base)
                if not isinstance(base, type) or not known:
                    raise CodecError("a base that nothing here may derive from")
            self.classes[number] = build(peer, number, [name, doc, bases, *rest])
        return self.classes[number]

    def note_class(self, number: int, kind: type) -> None:
        self.classes[number] = kind

    def _read_prompt_class(self, name: Any) -> type:
        if type(name) is not str or name not in self.prompt:
            raise CodecError("the prompt has no such class")
        return self.prompt[name]

    def _read_value(self, content: list[Any]) -> Any:
        key, *parts = content
        return values.make_value(key, parts)

    def _read_named(self, name: Any) -> Any:
        return values.find_named(name)

    def _read_member(self, content: list[Any]) -> Any:
        kind, name, value = content
        enum = values.module_of("enum")
        if not isinstance(kind, type) or not issubclass(kind, enum.Enum):
            raise CodecError("no enumeration")
        try:
            members = vars(kind)["_member_map_"]
            return members[name] if type(name) is str and name in members else kind(value)
        except (KeyError, ValueError, TypeError):
            raise CodecError("no such member") from None

    def _read_instance(self, content: list[Any]) -> Any:
        number, kind, value = content
        base = type(value)
        if base not in IMMUTABLE or not isinstance(kind, type) or not issubclass(kind, base):
            raise CodecError("not an immutable value")
        made = base.__new__(kind, value)
        if number is not None:
            if not isinstance(kind, Mirror) or type(number) is not int or not self.is_foreign(number):
                raise CodecError("a number that is taken")
            _set(made, proxies.NUMBER, number)
        return made

    def _read_partial(self, content: list[Any]) -> Any:
        function, args, options = content
        if not callable(function) or type(args) is not tuple or type(options) is not dict:
            raise CodecError("no partial call")
        return values.module_of("functools").partial(function, *args, **options)

    def _read_error(self, content: list[Any]) -> BaseException:
        number, kind, args, state, cause = content
        if not isinstance(kind, type) or not issubclass(kind, BaseException) or type(args) is not tuple:
            raise CodecError("no exception")
        error: BaseException
        try:
            maker: Any = kind
            error = maker.__new__(kind, *args) if isinstance(kind, Mirror) else maker(*args)
        except Exception:  # noqa: BLE001  # some insist on arguments of their own
            error = Exception.__new__(kind)
        error.args = args
        if isinstance(cause, BaseException):
            error.__cause__ = cause
        if type(state) is dict:
            for key, item in state.items():
                if type(key) is str and (not key.startswith("_") or key == "__notes__"):
                    error.__dict__[key] = item
        if isinstance(kind, Mirror):
            error.__dict__[proxies.NUMBER] = number
        self.foreign[id(error)] = (number, error)
        self.proxies[number] = error
        return error


READERS = {
    "o": "_read_shared", "new": "_read_new", "fill": "_read_fill", "k": "_read_container", "r": "_read_object",
    "C": "_read_class", "P": "_read_prompt_class", "v": "_read_value", "f": "_read_named", "m": "_read_member",
    "p": "_read_partial", "e": "_read_error", "I": "_read_instance",
}  # fmt: skip
