"""The connection between tests and program: values survive it, shared objects stay one, nonsense is refused."""

import collections
import datetime
import decimal
import fractions
import ipaddress
import math
import pathlib
import re
import uuid
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_reward.sandbox.child.bridge import values
from sr_reward.sandbox.child.bridge.containers import Shared, standard
from sr_reward.sandbox.child.bridge.peer import Peer
from sr_reward.sandbox.child.codec import CodecError, parse
from sr_reward.sandbox.child.judging.rules import JudgePeer
from sr_reward.sandbox.child.judging.serve import ProgramPeer

bounded = settings(max_examples=40, deadline=None)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=9)
    | st.complex_numbers(allow_nan=False)
)
library = (
    st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc))
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 5))
    | st.builds(slice, st.none() | st.integers(-9, 9), st.integers(-9, 9))
    | st.builds(pathlib.PurePosixPath, st.text(alphabet="ab/.", max_size=6))
    | st.sampled_from([..., NotImplemented, int, ValueError, collections.OrderedDict, re.compile("a+", re.IGNORECASE)])
)
hashable = st.recursive(
    scalars | st.decimals(allow_nan=False) | st.fractions() | st.dates(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
anything = st.recursive(
    scalars | library,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3).map(collections.OrderedDict)
        | st.lists(inner, max_size=3).map(lambda items: collections.deque(items, maxlen=5))
        | st.dictionaries(hashable, inner, max_size=3).map(lambda items: collections.defaultdict(list, items))
        | st.lists(hashable, max_size=4).map(lambda items: collections.Counter(items))
        | st.binary(max_size=5).map(bytearray)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=8,
)


def shape(value):
    """A value with the types of all its parts, whatever the order in its sets."""
    kind = type(value)
    if kind in (set, frozenset):
        return kind, frozenset(map(shape, value))
    if isinstance(value, dict):
        return kind, tuple((shape(key), shape(item)) for key, item in value.items())
    if kind in (list, tuple, collections.deque):
        return kind, tuple(map(shape, value))
    return kind, repr(value)


def program_end():
    peer = ProgramPeer("f")
    peer.noted.events.clear()
    return peer


@bounded
@given(anything)
def test_every_value_of_the_library_survives_with_its_type(value):
    text = program_end().text(value)
    assert text.isascii()
    found = parse(text, JudgePeer((), ()).build)
    assert shape(found) == shape(value)


@pytest.mark.parametrize(
    "value",
    [
        decimal.Decimal("NaN"),
        decimal.Decimal("1.10"),
        fractions.Fraction(1, 3),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone(datetime.timedelta(hours=2), "here"), fold=1),
        uuid.UUID(int=7),
        ipaddress.ip_network("10.0.0.0/8"),
        collections.ChainMap({1: 2}, {3: 4}),
        {1: 2}.keys(),
        {1: [2]}.items(),
        "\ud83d\ude00",
        "half \ud83d",
        {math.inf: -math.inf},
    ],
)
def test_values_with_parts_of_their_own(value):
    found = parse(program_end().text(value), JudgePeer((), ()).build)
    assert shape(found) == shape(value)


@bounded
@given(st.text(max_size=60) | st.text(alphabet='[]{}",:0123456789orCPvfmpeIknewfil- ', max_size=60))
def test_any_text_is_a_value_or_a_codec_error_to_the_judge(text):
    judge = JudgePeer((), ())
    with suppress(CodecError):
        parse(text, judge.build)


@pytest.mark.parametrize(
    "text",
    [
        '{"f":"builtins:eval"}', '{"f":"os:_exit"}', '{"f":"subprocess:Popen"}', '{"f":"antigravity:"}', '{"f":"os:"}',
        '{"r":0}', '{"r":1}', '{"o":0}', '{"C":1}', '{"P":"P"}', '{"v":["decimal.Decimal",1]}', '{"v":["os.path"]}',
        '{"new":[1,"builtins.int",[]]}', '{"new":[0,"builtins.list",[]]}', '{"fill":[1,[]]}',
        '{"e":[1,{"f":"builtins:SystemExit"},{"t":[]},{"d":[]},null]}',
        '{"e":[1,{"f":"builtins:StopIteration"},{"t":[]},{"d":[]},null]}',
        '{"e":[1,{"f":"unittest.case:SkipTest"},{"t":[]},{"d":[]},null]}',
        '{"C":[1,["X",null,[{"f":"builtins:type"}],true,[[],[],[],[]],["class"]]]}',
        '{"C":[1,["X",null,[{"f":"builtins:SystemExit"}],true,[[],[],[],[]],["class"]]]}',
        '{"C":[1,["X",null,[],true,[[],[],["__getattribute__"],[]],[]]]}', '{"I":[1,{"f":"builtins:int"},2]}',
        '{"k":["instance",[{"f":"builtins:list"}],[]]}',
    ],
)  # fmt: skip
def test_the_judge_refuses_what_no_program_has_to_say(text):
    with pytest.raises(CodecError):
        parse(text, JudgePeer((), ()).build)


def test_what_nobody_keeps_has_no_number_and_what_somebody_keeps_has_one():
    shared = Shared(0, standard, lambda value: False)
    assert shared.find([[1, [2], {"a": [3]}]]) == []
    kept = [1]
    assert len(shared.find([[kept, [2]]])) == 1
    assert shared.kept() == [0]
    kept.append([5])
    assert set(shared.changes()) == {0, 2}
    del kept
    assert shared.kept() == []
    row = [0]
    twice = [row, row]
    del row
    assert len(shared.find([twice])) == 2


@bounded
@given(anything)
def test_text_is_the_same_from_either_end(value):
    """What the judge sends and gets back is the value that it sent."""
    judge, program = JudgePeer((), ()), program_end()
    there = parse(Peer.text(judge, value), program.build)
    back = parse(program.text(there), judge.build)
    assert shape(back) == shape(value)


def test_every_entry_of_the_table_names_a_type_that_exists():
    for key in values.VALUES:
        module, _, name = key.rpartition(".")
        if module not in ("builtins", "numpy") and "odict" not in name:  # numpy is there where --packages brings it
            assert hasattr(values.module_of(module), name) or name == "WindowsPath", key
