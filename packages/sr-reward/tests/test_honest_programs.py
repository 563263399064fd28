# ruff: noqa: E501  # programs as text read better unbroken
"""Honest programs in asserts: what plain Python passes, passes here. The table that the README sums up."""

import pytest

from sr_reward import AssertTests, CodeGrader, Task

# name: (test code, program, prompt, entry point, whether the program is a whole one)
# fmt: off
HONEST: dict[str, tuple[str, str, str, str, bool]] = {
    'prompt class under test, body': ('assert V(1)+V(2)==V(3)\n', '        return V(self.x+other.x)\n', "class V:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, other):\n        return self.x == other.x\n    def __add__(self, other):\n        '''The sum.'''\n", 'V', False),
    'prompt class under test, whole': ('assert V(1)+V(2)==V(3)\nassert (V(1)+V(2)).x==3\n', 'class V:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, other):\n        return self.x == other.x\n    def __add__(self, other):\n        return V(self.x+other.x)\n', "class V:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, other):\n        return self.x == other.x\n    def __add__(self, other):\n        '''The sum.'''\n", 'V', True),
    'prompt stack open': ('s=Stack()\ns.push(1)\nassert s.items==[1]\nassert s.size()==1\n', '        self.items.append(x)\n    def size(self):\n        return len(self.items)\n', "class Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n        '''push'''\n", 'Stack', False),
    'prompt stack whole other fields': ('s=Stack()\ns.push(1)\nassert s.size()==1\n', 'class Stack:\n    def __init__(self):\n        self._d = []\n    def push(self, x):\n        self._d.append(x)\n    def size(self):\n        return len(self._d)\n', "class Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n        '''push'''\n", 'Stack', True),
    'long linked list': ('h=None\nfor i in range(5000): h=Node(i,h)\nr=f(h)\nn=0\nwhile r:\n    assert r.v==n\n    r=r.next; n+=1\nassert n==5000\n', '    p=None\n    while h: h.next,p,h=p,h,h.next\n    return p\n', "class Node:\n    def __init__(self, v, next=None):\n        self.v, self.next = v, next\n\ndef f(h):\n    '''reverse'''\n", 'f', False),
    'doubly linked': ('a=D(1);b=D(2);a.n=b;b.p=a\nr=f(a)\nassert r is b and r.p is a\n', '    return h.n\n', "class D:\n    def __init__(self, v):\n        self.v=v;self.n=None;self.p=None\n\ndef f(h):\n    '''x'''\n", 'f', False),
    'graph clone': ('a=G(1);b=G(2);a.nb=[b];b.nb=[a]\nc=f(a)\nassert c is not a and c.v==1 and c.nb[0].v==2 and c.nb[0].nb[0] is c\n', '    m={}\n    def go(n):\n        if n not in m:\n            m[n]=G(n.v)\n            m[n].nb=[go(k) for k in n.nb]\n        return m[n]\n    return go(h)\n', "class G:\n    def __init__(self, v):\n        self.v=v;self.nb=[]\n\ndef f(h):\n    '''x'''\n", 'f', False),
    'program class from function in': ('assert 1 in f([1,2]) and 3 not in f([1,2])\n', 'class Bag:\n    def __init__(s,x): s.x=x\n    def __iter__(s): return iter(s.x)\n    def __contains__(s,v): return v in s.x\ndef f(x): return Bag(x)\n', '', 'f', True),
    'fluent': ('s=S()\nassert s.push(1) is s\nassert len(s.push(2).push(3))==3\n', 'class S:\n    def __init__(s): s.i=[]\n    def push(s,x): s.i.append(x); return s\n    def __len__(s): return len(s.i)\n', '', 'S', True),
    'scalar ops': ('assert V(3)*2==V(6)\nassert (V(1)+V(2))*2==V(6)\nassert 2*V(3)==V(6)\nassert abs(V(-3))==3\nassert sum([V(1),V(2)],V(0))==V(3)\n', 'class V:\n    def __init__(s,x): s.x=x\n    def __add__(s,o): return V(s.x+o.x)\n    def __mul__(s,k): return V(s.x*k)\n    __rmul__=__mul__\n    def __abs__(s): return abs(s.x)\n    def __eq__(s,o): return isinstance(o,V) and s.x==o.x\n', '', 'V', True),
    'dot plain result': ('assert V(3)@[2]==6\n', 'class V:\n    def __init__(s,x): s.x=x\n    def __matmul__(s,o): return s.x*o[0]\n', '', 'V', True),
    'property setter': ('t=T()\nt.c=5\nassert t.f==41.0\nt.f=32\nassert t.c==0\n', 'class T:\n    def __init__(s): s.c=0\n    @property\n    def f(s): return s.c*9/5+32\n    @f.setter\n    def f(s,v): s.c=(v-32)*5/9\n', '', 'T', True),
    'abc': ('import abc\nassert isinstance(Sq(2),Sh) and Sq(2).area()==4\ntry:\n    Sh()\n    assert False\nexcept TypeError: pass\n', 'from abc import ABC, abstractmethod\nclass Sh(ABC):\n    @abstractmethod\n    def area(s): ...\nclass Sq(Sh):\n    def __init__(s,a): s.a=a\n    def area(s): return s.a**2\n', '', 'Sq', True),
    'iter state': ('c=C(3)\nit=iter(c)\nassert next(it)==3\nassert list(c)==[2,1]\n', 'class C:\n    def __init__(s,n): s.n=n+1\n    def __iter__(s): return s\n    def __next__(s):\n        s.n-=1\n        if s.n<=0: raise StopIteration\n        return s.n\n', '', 'C', True),
    'big generator': ('assert sum(f(20000))==sum(range(20000))\n', 'def f(n):\n    for i in range(n): yield i\n', '', 'f', True),
    'infinite generator': ('import itertools\nassert list(itertools.islice(f(),1000))[-1]==999\n', 'def f():\n    i=0\n    while True:\n        yield i\n        i+=1\n', '', 'f', True),
    'throw into generator': ("g=f()\nnext(g)\nassert g.throw(ValueError('x'))=='x'\n", 'def f():\n    try:\n        yield 1\n    except ValueError as e:\n        yield str(e)\n', '', 'f', True),
    'exception attributes': ("try:\n    f()\n    assert False\nexcept E as e:\n    assert e.code==5 and e.args==('m',5)\n", "class E(Exception):\n    def __init__(s,m,c):\n        super().__init__(m,c); s.code=c\ndef f(): raise E('m',5)\n", '', 'f', True),
    'exception cause': ('try:\n    f()\n    assert False\nexcept ValueError as e:\n    assert isinstance(e.__cause__, KeyError)\n', "def f():\n    try: {}[1]\n    except KeyError as k: raise ValueError('v') from k\n", '', 'f', True),
    'raises json': ("import json\ntry:\n    f('{')\n    assert False\nexcept json.JSONDecodeError: pass\n", 'import json\ndef f(s): return json.loads(s)\n', '', 'f', True),
    'callback exception': ("def boom(x): raise KeyError('k')\ntry:\n    f(boom)\n    assert False\nexcept KeyError as e:\n    assert e.args==('k',)\n", 'def f(g): return g(1)\n', '', 'f', True),
    'callback exception caught': ("def boom(x): raise KeyError('k')\nassert f(boom)=='caught'\n", "def f(g):\n    try: return g(1)\n    except KeyError: return 'caught'\n", '', 'f', True),
    'own exception of tests': ("class MyErr(Exception): pass\ndef boom(): raise MyErr('q')\ntry:\n    f(boom)\n    assert False\nexcept MyErr as e:\n    assert str(e)=='q'\n", 'def f(g): return g()\n', '', 'f', True),
    'retry with classes': ('class MyErr(Exception): pass\nn=[0]\ndef flaky():\n    n[0]+=1\n    if n[0]<3: raise MyErr\n    return 7\nassert f(flaky, MyErr)==7 and n[0]==3\n', 'def f(g, E):\n    while True:\n        try: return g()\n        except E: pass\n', '', 'f', True),
    'memoize calls counted': ('calls=[]\ndef slow(x):\n    calls.append(x)\n    return x*2\nm=f(slow)\nassert m(2)==4 and m(2)==4\nassert calls==[2]\n', 'def f(g):\n    c={}\n    def w(x):\n        if x not in c: c[x]=g(x)\n        return c[x]\n    return w\n', '', 'f', True),
    'curry': ('add=f(lambda a,b,c: a+b+c)\nassert add(1)(2)(3)==6\n', 'import inspect\ndef f(g):\n    n=len(inspect.signature(g).parameters)\n    def c(*a): return g(*a) if len(a)>=n else (lambda *b: c(*a,*b))\n    return c\n', '', 'f', True),
    'curry co_argcount': ('add=f(lambda a,b,c: a+b+c)\nassert add(1)(2)(3)==6\n', 'def f(g):\n    n=g.__code__.co_argcount\n    def c(*a): return g(*a) if len(a)>=n else (lambda *b: c(*a,*b))\n    return c\n', '', 'f', True),
    'compose': ('assert f(lambda x:x+1, str, len)(99)==3\n', 'import functools\ndef f(*fs): return functools.reduce(lambda a,b: lambda x: b(a(x)), fs)\n', '', 'f', True),
    'sort key of tests': ("assert f(['bb','a'], len)==['a','bb']\nassert f([3,1], key=lambda v:-v)==[3,1]\n", 'def f(xs, key): return sorted(xs,key=key)\n', '', 'f', True),
    'wraps name': ("@f\ndef three():\n    'doc'\n    return 3\nassert three.__name__=='three' and three.__doc__=='doc' and three()==3\n", 'import functools\ndef f(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a)\n    return w\n', '', 'f', True),
    'decorator on method': ('class T:\n    @f\n    def m(self, x): return self.k+x\n    k=5\nassert T().m(2)==14\n', 'import functools\ndef f(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a)*2\n    return w\n', '', 'f', True),
    'class decorator': ('@f\nclass A:\n    def __init__(self): self.x=1\nassert A() is A()\n', 'def f(cls):\n    made={}\n    def get(*a):\n        if cls not in made: made[cls]=cls(*a)\n        return made[cls]\n    return get\n', '', 'f', True),
    'dataclass asdict': ("import dataclasses\nassert dataclasses.asdict(f(2))=={'x':2}\nassert dataclasses.is_dataclass(f(1))\n", 'from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(x): return P(x)\n', '', 'f', True),
    'match': ('match f(2):\n    case P(x=v): assert v==2\n    case _: assert False\nmatch f(3):\n    case P(v): assert v==3\n    case _: assert False\n', 'from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(x): return P(x)\n', '', 'f', True),
    'typing.NamedTuple': ("assert f(1).total()==3 and f(1)._asdict()=={'a':1,'b':2}\n", 'from typing import NamedTuple\nclass P(NamedTuple):\n    a: int\n    b: int = 2\n    def total(self): return self.a+self.b\ndef f(x): return P(x)\n', '', 'f', True),
    'tests make namedtuple of program': ('assert f(P(1,2))==3\n', "from collections import namedtuple\nP=namedtuple('P','a b')\ndef f(p): return p.a+p.b\n", '', 'f', True),
    'enum features': ("assert list(C)==[C.A,C.B] and C['A'] is C.A and C(2) is C.B and len(C)==2 and f(C.A) is C.B and C.A.next() is C.B\n", 'from enum import Enum\nclass C(Enum):\n    A=1\n    B=2\n    def next(self): return C.B\ndef f(c): return C.B\n', '', 'f', True),
    'flag': ('assert f() == P.R|P.W and P.R in f()\n', 'from enum import Flag\nclass P(Flag):\n    R=1\n    W=2\ndef f(): return P.R|P.W\n', '', 'f', True),
    'enum arg of tests': ("from enum import Enum\nclass D(Enum):\n    N='n'\n    S='s'\nassert f(D.N)=='n' and f(D.S)=='s'\n", 'def f(d): return d.value\n', '', 'f', True),
    'defaultdict lambda': ("d=f()\nassert d['x']==[7]\nassert d=={'x':[7]}\n", 'from collections import defaultdict\ndef f(): return defaultdict(lambda: [7])\n', '', 'f', True),
    'Counter ops': ("from collections import Counter\nassert f('aab')+Counter('b')==Counter(a=2,b=2)\nassert f('aab').total()==3\n", 'from collections import Counter\ndef f(s): return Counter(s)\n', '', 'f', True),
    'deque rotate': ('d=f([1,2,3])\nd.rotate(1)\nassert list(d)==[3,1,2]\n', 'from collections import deque\ndef f(x): return deque(x)\n', '', 'f', True),
    'datetime tz': ("import datetime\nassert f()==datetime.datetime(2024,1,1,tzinfo=datetime.timezone.utc)\nassert f().isoformat()=='2024-01-01T00:00:00+00:00'\n", 'import datetime\ndef f(): return datetime.datetime(2024,1,1,tzinfo=datetime.timezone.utc)\n', '', 'f', True),
    'LRU cache class': ('c=LRU(2)\nc.put(1,1);c.put(2,2)\nassert c.get(1)==1\nc.put(3,3)\nassert c.get(2)==-1\n', 'from collections import OrderedDict\nclass LRU(OrderedDict):\n    def __init__(self, cap):\n        super().__init__(); self.cap=cap\n    def get(self,k):\n        if k not in self: return -1\n        self.move_to_end(k); return self[k]\n    def put(self,k,v):\n        self[k]=v; self.move_to_end(k)\n        if len(self)>self.cap: self.popitem(last=False)\n', '', 'LRU', True),
    'dict subclass': ("d=AD(a=1)\nassert d.a==1\nd.b=2\nassert d['b']==2\n", 'class AD(dict):\n    def __getattr__(s,k): return s[k]\n    def __setattr__(s,k,v): s[k]=v\n', '', 'AD', True),
    'UserDict': ("d=f()\nd['A']=1\nassert d['a']==1 and len(d)==1 and 'a' in d\n", 'from collections import UserDict\nclass L(UserDict):\n    def __setitem__(s,k,v): super().__setitem__(k.lower(),v)\ndef f(): return L()\n', '', 'f', True),
    'contextmanager': ("with f(log:=[]) as v:\n    assert v==1\nassert log==['in','out']\n", "from contextlib import contextmanager\n@contextmanager\ndef f(log):\n    log.append('in')\n    yield 1\n    log.append('out')\n", '', 'f', True),
    'suppressing': ("with Ignore(ValueError):\n    raise ValueError('x')\ntry:\n    with Ignore(ValueError): raise KeyError('k')\n    assert False\nexcept KeyError: pass\n", 'class Ignore:\n    def __init__(s,*e): s.e=e\n    def __enter__(s): return s\n    def __exit__(s,t,v,tb): return t is not None and issubclass(t,s.e)\n', '', 'Ignore', True),
    'observer': ('got=[]\ns=Subject()\ns.attach(got.append)\ns.notify(5)\nassert got==[5]\n', 'class Subject:\n    def __init__(s): s.o=[]\n    def attach(s,g): s.o.append(g)\n    def notify(s,v):\n        for g in s.o: g(v)\n', '', 'Subject', True),
    'visitor instance': ("class Dog:\n    def speak(self): return 'woof'\n    name='d'\nassert f(Dog())=='d: woof'\n", "def f(a): return f'{a.name}: {a.speak()}'\n", '', 'f', True),
    'set attr on test obj': ('class Acc:\n    def __init__(self): self.balance=1\na=Acc()\nf(a,5)\nassert a.balance==6\n', 'def f(a,n): a.balance+=n\n', '', 'f', True),
    'sort test objs': ('class It:\n    def __init__(self,p): self.p=p\n    def __lt__(self,o): return self.p<o.p\nassert [i.p for i in f([It(2),It(1)])]==[1,2]\n', 'def f(xs): return sorted(xs)\n', '', 'f', True),
    'sort by attr': ('class It:\n    def __init__(self,p): self.p=p\nxs=[It(2),It(1)]\nassert f(xs) == [xs[1],xs[0]]\n', 'def f(xs): return sorted(xs,key=lambda i:i.p)\n', '', 'f', True),
    'heap of test objs eq': ('class Pt:\n    def __init__(self,x): self.x=x\n    def __eq__(self,o): return self.x==o.x\n    def __hash__(self): return hash(self.x)\nassert f([Pt(1),Pt(1),Pt(2)])==2\n', 'def f(xs): return len(set(xs))\n', '', 'f', True),
    'import solution': ('from solution import f, g as h\nimport solution\nassert f(1)==2 and h(1)==3 and solution.N==4\n', 'N=4\ndef f(x): return x+1\ndef g(x): return x+2\n', '', 'f', True),
    'star import': ('from solution import *\nassert f(1)==2 and g(1)==3\n', 'def f(x): return x+1\ndef g(x): return x+2\n', '', 'f', True),
    'set module global': ('import solution\nsolution.N=9\nassert f()==9\n', 'N=4\ndef f(): return N\n', '', 'f', True),
    'mock callback': ('from unittest.mock import Mock\nm=Mock(return_value=3)\nassert f(m)==3\nm.assert_called_once_with(1)\n', 'def f(g): return g(1)\n', '', 'f', True),
    'patch input': ("from unittest.mock import patch\nwith patch('builtins.input', side_effect=['3','4']):\n    assert f()==7\n", 'def f(): return int(input())+int(input())\n', '', 'f', True),
    'stdin StringIO': ("import sys, io\nsys.stdin=io.StringIO('3\\n4\\n')\nassert f()==7\n", 'import sys\ndef f(): return sum(int(l) for l in sys.stdin)\n', '', 'f', True),
    'patch stdout': ("from unittest.mock import patch\nimport io\nwith patch('sys.stdout', new_callable=io.StringIO) as out:\n    f()\nassert out.getvalue()=='hi\\n'\n", "def f(): print('hi')\n", '', 'f', True),
    'async gather': ('import asyncio\nasync def main(): return await asyncio.gather(f(1),f(2))\nassert asyncio.run(main())==[2,3]\n', 'import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x+1\n', '', 'f', True),
    'async gen': ('import asyncio\nasync def main(): return [x async for x in f(3)]\nassert asyncio.run(main())==[0,1,2]\n', 'async def f(n):\n    for i in range(n): yield i\n', '', 'f', True),
    'async cm': ('import asyncio\nasync def main():\n    async with R() as r: return r\nassert asyncio.run(main())==5\n', 'class R:\n    async def __aenter__(s): return 5\n    async def __aexit__(s,*a): return False\n', '', 'R', True),
    'threads in tests': ('import threading\nc=C()\nts=[threading.Thread(target=lambda: [c.inc() for _ in range(20)]) for _ in range(4)]\n[t.start() for t in ts]; [t.join() for t in ts]\nassert c.n==80\n', 'import threading\nclass C:\n    def __init__(s): s.n=0; s.l=threading.Lock()\n    def inc(s):\n        with s.l: s.n+=1\n', '', 'C', True),
    'program threads call back': ('got=[]\nf(got.append)\nassert sorted(got)==[0,1,2]\n', 'from concurrent.futures import ThreadPoolExecutor\ndef f(g):\n    with ThreadPoolExecutor(3) as e: list(e.map(g, range(3)))\n', '', 'f', True),
    'nested containers identity': ('a=[1]\nb=f(a)\nassert b[0] is a and b[1] is a\nb[0].append(2)\nassert a==[1,2]\n', 'def f(x): return [x,x]\n', '', 'f', True),
    'aliased rows': ('m=f(2)\nm[0][0]=5\nassert m==[[5,0],[5,0]]\n', 'def f(n): return [[0]*n]*n\n', '', 'f', True),
    'fresh rows': ('m=f(2)\nm[0][0]=5\nassert m==[[5,0],[0,0]]\n', 'def f(n): return [[0]*n for _ in range(n)]\n', '', 'f', True),
    'mutable default dict': ("assert f('a')=={'a':1}\nassert f('b')=={'a':1,'b':1}\n", 'def f(k,d={}):\n    d[k]=1\n    return d\n', '', 'f', True),
    'slots of program': ('p=P(1)\nassert p.x==1\ntry:\n    p.y=2\n    assert False\nexcept AttributeError: pass\n', "class P:\n    __slots__=('x',)\n    def __init__(s,x): s.x=x\n", '', 'P', True),
    'unhashable': ('try:\n    {P(): 1}\n    assert False\nexcept TypeError: pass\n', 'class P:\n    def __eq__(s,o): return True\n', '', 'P', True),
    'not callable': ('assert not callable(P())\nassert callable(P)\ntry:\n    len(P())\n    assert False\nexcept TypeError: pass\n', 'class P: pass\n', '', 'P', True),
    'total ordering': ('assert V(1)<=V(1) and V(2)>V(1) and max(V(1),V(3))==V(3)\n', 'import functools\n@functools.total_ordering\nclass V:\n    def __init__(s,x): s.x=x\n    def __lt__(s,o): return s.x<o.x\n    def __eq__(s,o): return s.x==o.x\n', '', 'V', True),
    'generic class': ('s=Stack[int]()\ns.push(1)\nassert s.pop()==1\n', "from typing import TypeVar, Generic\nT=TypeVar('T')\nclass Stack(Generic[T]):\n    def __init__(s): s.i=[]\n    def push(s,x): s.i.append(x)\n    def pop(s): return s.i.pop()\n", '', 'Stack', True),
    'subclass with super': ("class B(A):\n    def __init__(self,x):\n        super().__init__(x)\n        self.y=2\n    def name(self): return 'B'+super().name()\nb=B(1)\nassert b.hello()=='hi BA1' and b.y==2 and b.x==1 and isinstance(b,A)\n", "class A:\n    def __init__(s,x): s.x=x\n    def name(s): return f'A{s.x}'\n    def hello(s): return 'hi '+s.name()\n", '', 'A', True),
    'subclass of program exception': ("class F(E): pass\ntry:\n    raise F('z')\nexcept E as e:\n    assert str(e)=='z'\n", 'class E(Exception): pass\n', '', 'E', True),
    'partial arg': ('import functools\nassert f(functools.partial(pow,2),5)==32\n', 'def f(g,x): return g(x)\n', '', 'f', True),
    'method arg': ("assert f(str.upper,'a')=='A' and f('abc'.index,'b')==1\n", 'def f(g,x): return g(x)\n', '', 'f', True),
    'regex arg': ("import re\nassert f(re.compile('a+'),'baa')=='aa'\n", 'def f(p,s): return p.search(s).group()\n', '', 'f', True),
    'stringio arg': ("import io\nassert f(io.StringIO('a\\nb'))==['a','b']\n", 'def f(h): return [l.strip() for l in h]\n', '', 'f', True),
    'stringio written': ("import io\no=io.StringIO()\nf(o)\nassert o.getvalue()=='x'\n", "def f(h): h.write('x')\n", '', 'f', True),
    'bytes io': ("import io\nassert f(io.BytesIO(b'ab'))==b'ab'\n", 'def f(h): return h.read()\n', '', 'f', True),
    'type returned': ("assert f(1) is int and f('a')==str\n", 'def f(x): return type(x)\n', '', 'f', True),
    'exception returned': ("e=f()\nassert isinstance(e,ValueError) and e.args==('x',)\n", "def f(): return ValueError('x')\n", '', 'f', True),
    'class returned': ("C=f()\nassert C().x==1 and C.__name__=='C'\n", 'def f():\n    class C:\n        x=1\n    return C\n', '', 'f', True),
    'deep copy shared': ('import copy\na=[[1]]\nb=f(a)\nassert b==a and b is not a and b[0] is not a[0]\n', 'import copy\ndef f(x): return copy.deepcopy(x)\n', '', 'f', True),
    'weird unicode': ("assert f('\\ud83d\\ude00')=='\\ud83d\\ude00' and f('😀')=='😀'\n", 'def f(s): return s\n', '', 'f', True),
    'kwonly': ('assert f(1,b=2)==3\n', 'def f(a,*,b): return a+b\n', '', 'f', True),
    'TypeError on wrong args': ('try:\n    f(1,2,3)\n    assert False\nexcept TypeError: pass\n', 'def f(a): return a\n', '', 'f', True),
    'recursion error': ('try:\n    f(10**6)\n    assert False\nexcept RecursionError: pass\n', 'def f(n): return f(n-1) if n else 0\n', '', 'f', True),
    'numbers ABC': ('import numbers\nassert isinstance(f(),numbers.Number)\n', 'from fractions import Fraction\ndef f(): return Fraction(1,2)\n', '', 'f', True),
    'Iterable ABC': ('from collections.abc import Iterable, Sized, Iterator, Mapping\nassert isinstance(B(),Iterable) and not isinstance(B(),Sized)\n', 'class B:\n    def __iter__(s): return iter([])\n', '', 'B', True),
    'map type': ("assert isinstance(f([1]),map)\nassert list(f([1]))==['1']\n", 'def f(x): return map(str,x)\n', '', 'f', True),
    'zip longest': ('assert list(f([1],[2,3]))==[(1,2),(None,3)]\n', 'import itertools\ndef f(a,b): return itertools.zip_longest(a,b)\n', '', 'f', True),
    'tee/cycle': ("import itertools\nc=f('ab')\nassert [next(c) for _ in range(5)]==list('ababa')\n", 'import itertools\ndef f(x): return itertools.cycle(x)\n', '', 'f', True),
    'lambda eq identity': ('g=f()\nassert g is f()\n', 'H=lambda: 1\ndef f(): return H\n', '', 'f', True),
    'bool of object': ('assert not E() and bool(G())\n', 'class E:\n    def __len__(s): return 0\nclass G: pass\n', '', 'E', True),
    'float()': ('import math\nassert float(A())==1.5 and math.isclose(A(),1.5) and round(A())==2 and int(A())==1\n', 'class A:\n    def __float__(s): return 1.5\n    def __round__(s,n=None): return 2\n    def __int__(s): return 1\n', '', 'A', True),
    'Solution class': ('assert Solution().two(3)==6\n', 'class Solution:\n    def two(s,x): return 2*x\n', '', 'two', True),
    'entry Solution.method': ('assert two(3)==6\n', 'class Solution:\n    def two(s,x): return 2*x\n', '', 'Solution.two', True),
    'prompt exception': ('try:\n    f(-1)\n    assert False\nexcept Bad as e:\n    assert e.code==3\n', '    raise Bad(3)\n', "class Bad(Exception):\n    def __init__(self, code):\n        super().__init__(code)\n        self.code = code\n\ndef f(x):\n    '''raise'''\n", 'f', False),
    'prompt enum': ('assert f(C.A) is C.B and f(C.B)==C.A\n', '    return C.B if c is C.A else C.A\n', "from enum import Enum\nclass C(Enum):\n    A=1\n    B=2\n\ndef f(c):\n    '''swap'''\n", 'f', False),
    'prompt namedtuple': ('assert f(P(1,2))==P(2,1) and f(P(1,2)).x==2\n', '    return P(p.y,p.x)\n', "from collections import namedtuple\nP=namedtuple('P','x y')\n\ndef f(p):\n    '''swap'''\n", 'f', False),
    'prompt subclass returned': ('r=f(2)\nassert isinstance(r,Shape) and r.area()==4\n', '    class Sq(Shape):\n        def __init__(self,a): self.a=a\n        def area(self): return self.a**2\n    return Sq(x)\n', "class Shape:\n    def area(self):\n        raise NotImplementedError\n\ndef f(x):\n    '''square'''\n", 'f', False),
    'prompt helper with class': ('assert to_list(f(to_list_node([1,2])))==[2,1]\n', '    p=None\n    while h: h.next,p,h=p,h,h.next\n    return p\n', "class N:\n    def __init__(self,v,next=None):\n        self.v=v\n        self.next=next\ndef to_list_node(xs):\n    h=None\n    for x in reversed(xs): h=N(x,h)\n    return h\ndef to_list(h):\n    out=[]\n    while h: out.append(h.v); h=h.next\n    return out\n\ndef f(h):\n    '''rev'''\n", 'f', False),
    'time': ('import time\nt=time.time()\nassert f()>=t-1\n', 'import time\ndef f(): return time.time()\n', '', 'f', True),
    'warns': ("import warnings\nwith warnings.catch_warnings(record=True) as w:\n    warnings.simplefilter('always')\n    f()\nassert len(w)==1\n", "import warnings\ndef f(): warnings.warn('x')\n", '', 'f', True),
    'logging': ("import logging, io\ns=io.StringIO()\nh=logging.StreamHandler(s)\nlogging.getLogger().addHandler(h)\nf()\nassert 'oops' in s.getvalue()\n", "import logging\ndef f(): logging.getLogger().warning('oops')\n", '', 'f', True),
    'string Template / textwrap': ("assert f('x')=='x'\n", "import string\ndef f(a): return string.Template('$a').substitute(a=a)\n", '', 'f', True),
    'statistics': ('import statistics\nassert statistics.mean(f())==2\n', 'def f(): return [1,2,3]\n', '', 'f', True),
    'setattr on function': ('f.x=3\nassert f()==3\n', 'def f(): return f.x\n', '', 'f', True),
    'global counter': ('f();f()\nimport solution\nassert solution.n==2\n', 'n=0\ndef f():\n    global n\n    n+=1\n', '', 'f', True),
    'os.environ by tests': ("import os\nos.environ['X']='1'\nassert f()=='1'\n", "import os\ndef f(): return os.environ.get('X')\n", '', 'f', True),
}

# What plain Python passes and does not pass here, each with the reason.
EXCEPTIONS: dict[str, tuple[str, str, str]] = {
    # the program would decide a comparison with data of the tests
    "an object equal to a number": ("failed", "assert V(1) == 1\n", "class V:\n    def __init__(self, x): self.x = x\n    def __eq__(self, other): return self.x == other\n"),
    "an object above a number": ("failed", "assert V(3) > 1\n", "class V:\n    def __init__(self, x): self.x = x\n    def __gt__(self, other): return self.x > other\n"),
    "membership in a result without iteration": ("failed", "assert 1 in make()\n", "class Box:\n    def __contains__(self, item): return item == 1\ndef make(): return Box()\n"),
    # a name of the tests that plain Python would take from the program
    "a second function named like a built-in": ("failed", "assert filter(1) == 2\n", "def make(x): return x\ndef filter(x): return x + 1\n"),
    "a global of the program assigned by name": ("failed", "global N\nN = 7\nassert make() == 7\n", "N = 5\ndef make(): return N\n"),
    # what two processes do not share: no verdict at all
    "a file of the tests": ("infra_error", "import tempfile\nwith tempfile.NamedTemporaryFile('w', delete=False) as file:\n    file.write('abc')\nassert make(file.name) == 'abc'\n", "def make(path): return open(path).read()\n"),
    "a file for the tests": ("infra_error", "import tempfile\nfolder = tempfile.mkdtemp()\nmake(folder + '/x')\nassert open(folder + '/x').read() == 'abc'\n", "def make(path): open(path, 'w').write('abc')\n"),
    "a patched module": ("infra_error", "from unittest.mock import patch\nwith patch('time.time', return_value=5):\n    assert make() == 5\n", "import time\ndef make(): return time.time()\n"),
}
# fmt: on


@pytest.fixture(scope="module")
def grades():
    tasks = [
        Task(task_id=name, prompt=prompt, entry_point=entry, tests=AssertTests(code=tests))
        for name, (tests, _, prompt, entry, _) in HONEST.items()
    ]
    with CodeGrader(workers=2, timeout_s=5.0) as grader:
        stream = grader.stream(
            tasks, [row[1] for row in HONEST.values()], solutions=[row[4] for row in HONEST.values()]
        )
        found = dict(stream)
    return {task.task_id: found[number] for number, task in enumerate(tasks)}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_passes(grades, name):
    assert grades[name].outcome == "passed", grades[name]


def test_the_documented_exceptions_are_what_the_readme_says():
    tasks = [
        Task(task_id=name, prompt="", entry_point="", tests=AssertTests(code=tests))
        for name, (_, tests, _) in EXCEPTIONS.items()
    ]
    with CodeGrader(workers=2, timeout_s=5.0) as grader:
        found = grader.grade(tasks, [program for _, _, program in EXCEPTIONS.values()], solutions=True)
    outcomes = {task.task_id: grade.outcome for task, grade in zip(tasks, found, strict=True)}
    if grader.isolation != "full":  # elsewhere the tests cannot even make a file
        outcomes = {name: outcome for name, outcome in outcomes.items() if "file" not in name}
    assert outcomes == {name: EXCEPTIONS[name][0] for name in outcomes}
