"""Expressions made to take long: milliseconds to compile, to match and to explain each of them.

`WORST` runs into the limits while evaluating, `SHAPES` is as much source as is allowed. No text whatever is
to take 100 ms.
"""

# ruff: noqa: E501, UP031
from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from drakit import cel
from drakit.cel.compile import _compile
from drakit.errors import CELError
from drakit.model.resource import Device, DeviceAttribute, DeviceCapacity

DEVICE = Device(
    name="d",
    attributes={
        "s": DeviceAttribute(string="fish"),
        "l": DeviceAttribute(ints=[1, 2]),
        "v": DeviceAttribute(version="1.2.3"),
    },
    capacity={"m": DeviceCapacity(value="1Gi")},
)  # fmt: skip


def loop(body: str, count: int = 400000) -> str:
    return f"lists.range({count}).all(x, {body})"


def loop2(body: str) -> str:
    return f"lists.range(1000).all(y, lists.range(1000).all(x, {body}))"


def doubled(count: int, end: str) -> str:
    """`end` about lists that hold the one before twice: small, and endless to walk through."""
    binds = "".join(f"cel.bind(a{i + 1}, [a{i}, a{i}], " for i in range(count))
    return f"cel.bind(a0, ['x'], {binds}{end})" + ")" * count


WORST = {
 "all const":loop("true"),
 "all lt":loop2("x + y >= 0"),
 "map":"lists.range(70000).map(x, x*2).size() > 0",
 "pairs":"lists.range(700000).transformList(i, x, x + i).size() > 0",
 "nested dep":"".join(f"[1,2,3,4,5,6,7,8,9,10].all({c}," for c in "abcdefg")+"a+b+c+d+e+f+g>0"+")"*7,
 "nested 12":"".join(f"[1,2,3].all({c}," for c in "abcdefghijklm")+"a+b+c+d+e+f+g+h+i+j+k+l+m>0"+")"*13,
 "nested 30":"".join(f"[1,2].all(v{c}," for c in range(30))+"+".join(f"v{c}" for c in range(30))+">0"+")"*30,
 "nested 100":"".join(f"[1,2].all(v{c}," for c in range(100))+"+".join(f"v{c}" for c in range(100))+">0"+")"*100,
 "nested 100 dep":"".join(f"[1,v{c-1}].all(v{c}," if c else "[1,2].all(v0," for c in range(100))+"v99>0"+")"*100,
 "eq str":loop("'a'+string(x) != device.driver"),
 "in list":loop("x in [1,2,3,4,5]"),
 "dyn lists":loop("[x, 1] == [1, x] || true"),
 "x==dyn":loop("dyn(x) == 1.5 || true"),
 "dev":loop("device.attributes['x'].s == string(x) || true"),
 "dev2":loop("device.attributes['x'].l[x % 2] < 5"),
 "dev dyn":loop("device.attributes[string(x)].size() < 5"),
 "ors":loop("||".join(["x < 0"]*600)+"|| true",20000),
 "ors2":loop("||".join(["x==-1"]*600)+"|| true",20000),
 "tern":loop("x<0 ? true : "*200+"true"),
 "plus":loop("+".join(["x"]*240)+">=0"),
 "plus nest":loop("(x+"*200+"x"+")"*200+">=0"),
 "calls":loop("&&".join(["x.size()==0" .replace('x','string(x)')+"||true"]*100)),
 "ts":loop("timestamp(x).getHours('America/New_York') >= 0"),
 "ts2":loop("string(timestamp(x)) != ''"),
 "ts3":loop("timestamp(x).getHours('America/N'+string(x)) >= 0 || true"),
 "dbl":loop("string(double(x)/3.0) != ''"),
 "quant":loop("quantity('1').add(x).isGreaterThan(quantity('0'))"),
 "quant2":loop("quantity(string(x)).isGreaterThan(quantity('-1'))"),
 "url":loop("url('http://a/?'+string(x)).getQuery().size() > 0"),
 "url const":"cel.bind(u, url('http://a/?' + '"+"a=b&"*2000+"'), "+loop("u.getQuery().size() > 0 || x<0")+")",
 "regex dyn":loop("'aaa'.matches('a'+string(x)) || true"),
 "regex dyn2":loop("'aaa'.matches('(a{1,50}){1,15}'+string(x)) || true"),
 "regex long":loop("('"+"a"*4000+"'+string(x)).matches('(x+x+)+y') || true"),
 "regex long2":loop("('"+"a"*4000+"'+string(x)).matches('(a{1,50}){1,15}b') || true"),
 "findall":loop("('"+"a"*4000+"'+string(x)).findAll('a').size()>0"),
 "format":loop("'%s'.format([x]) != ''"),
 "format2":loop("'%.3f'.format([double(x)]) != ''"),
 "replace":loop(f"string(x).replace('1','{'b'*4000}') != ''"),
 "split":loop("'a,b,c'.split(',').size() + x > 0"),
 "join":loop("['a',string(x)].join(',') != ''"),
 "sortr":"lists.range(700).reverse().sort().size() > 0",
 "sort many":loop("[3,x,1].sort()[0] >= 0"),
 "distinct":"lists.range(700).distinct().size()>0",
 "distinct l":"lists.range(700).map(x,[x]).distinct().size()>0",
 "sets":"sets.contains(lists.range(999), lists.range(999))",
 "sets2":"sets.contains(lists.range(999).map(x,[x]), lists.range(999).map(x,[x]))",
 "flatten":loop("[[x],[1]].flatten().size()>0"),
 "flatten2":"cel.bind(a, lists.range(30000), [[[a]]].flatten(1000).size()>0)",
 "transformMap":"lists.range(300000).transformMap(i,x,x).size()>0",
 "tme":"lists.range(300000).transformMapEntry(i,x,{string(x):x}).size()>0",
 "maps":loop("{'a':x}.a >= 0"),
 "maps2":loop("{x:x}[x] >= 0"),
 "lists":loop("[x,x,x][1] >= 0"),
 "opt":loop("optional.of(x).orValue(1) >= 0"),
 "optmap":loop("optional.of(x).optMap(y, y+1).orValue(1) >= 0"),
 "optsel":loop("{'a':x}.?a.orValue(1) >= 0"),
 "bind":loop("cel.bind(q, x+1, q > 0)"),
 "bind2":loop("cel.bind(q, x+1, cel.bind(r, q+1, r > 0))"),
 "err":loop("dyn(x).foo == 1 || true"),
 "err2":loop("1/(x-x) == 1 || true"),
 "has":loop("has({'a':1}.b) || x>=0"),
 "ip":loop("isIP(string(x)) || true"),
 "cidr":loop("cidr('10.0.0.0/8').containsIP('10.0.0.'+string(x%9))"),
 "semver":loop("isSemver('1.0.'+string(x))"),
 "semver2":loop("semver('1.0.'+string(x)).isLessThan(semver('2.0.0'))"),
 "validate":loop("format.dns1123Label().validate('a'+string(x)).hasValue() || true"),
 "type":loop("type(x) == int"),
 "isSorted empties":"cel.bind(a0,[''],"+"".join(f"cel.bind(a{i+1},a{i}+a{i}," for i in range(13))+loop("a13.isSorted() && x>=0")+")"*14,
 "indexof dag":"cel.bind(a0,[''],"+"".join(f"cel.bind(a{i+1},[a{i},a{i}]," for i in range(13))+loop("a13.indexOf([]) < x")+")"*14,
 "eq bigstr":"cel.bind(a0,'aaaaaaaaaa',"+"".join(f"cel.bind(a{i+1},a{i}+a{i}," for i in range(10))+loop("a10+string(x) != a10")+")"*11,
 "contains":loop("('"+"a"*2000+"'+string(x)).contains('"+"a"*1000+"b')"),
 "lower":loop("('"+"A"*4000+"é'+string(x)).lowerAscii() != ''"),
 "bytes":loop("bytes('"+"A"*4000+"é'+string(x)) != b''"),
 "exists1":loop2("x==y||true"),
 "map in map":"lists.range(300).map(x, lists.range(300).map(y, x*y)).size()>0",
 "filter":"lists.range(100000).filter(x, x%2==0).size()>0",
 "transl":"lists.range(100000).transformList(i,x,x+i).size()>0",
 "optlist":loop("[?optional.of(x)].size()>0"),
 "cond list":loop("(x>0?[1]:[2])[0]>0"),
 "cmp str":loop("'a'+string(x) < 'b'"),
 "uint":loop("uint(x) >= 0u"),
 "double":loop("double(x) >= 0.0"),
 "dur":loop("duration(string(x)+'s') >= duration('0s')"),
 "charAt":loop("'abc'.charAt(x%3) != ''"),
 "big body":loop("&&".join(["x==x"]*900),20000),
 "big body2":loop("&&".join(["[x].all(q,q==x)"]*300),20000),
 "big body3":loop("&&".join(["dyn(x)==x"]*700),20000),
 "nested empty": loop("[].all(y,y)",300000),
 "dag in":doubled(38, "a38 in [a38]"),
 "dag sets":doubled(32, "sets.contains(a32, a32)"),
 "dag distinct":doubled(15, "a15.distinct() == []"),
 "dag indexOf":doubled(20, "[a20, a20, a20].indexOf([]) == 0"),
 "dag format":doubled(42, "'%s'.format([a42]) == ''"),
 "map const": loop("{'a':1,'b':2}.all(k,k!='z') && x>=0",300000),
}  # fmt: skip
SHAPES = {
 "and chain":"&&".join(["true"]*1700),
 "and chain dev":"&&".join(["device.driver=='a'"]*500),
 "and short":"&&".join(["device"]*1200),
 "or ==":"||".join(["1==1"]*1700),
 "list":"["+",".join(["1"]*5000)+"].size()>0",
 "list str":"["+",".join(["''"]*3300)+"].size()>0",
 "list lists":"["+",".join(["[]"]*3300)+"].size()>0",
 "listlist1":"["+",".join(["[1]"]*2500)+"].size()>0",
 "map":"{"+",".join(["%d:1"%i for i in range(1500)])+"}.size()>0",
 "nested list":"["*240+"]"*240+"==[]",
 "nested list1":"["*240+"1"+"]"*240+"==[]",
 "x in":" || ".join(["1 in [1,2]"]*700),
 "macros seq":" && ".join(["[1].all(x,x==1)"]*500),
 "macros seq2":"&&".join(["[].map(x,x)==[]"]*600),
 "macros nest":"[1].all(x, "*240+"true"+")"*240,
 "map nest":"[1].map(x, "*240+"1"+")"*240+"==[]",
 "map nest2":"[1].map(x,x"*200+")"*200+"==[]",
 "map chain":"[1]"+".map(x,x)"*240+"==[]",
 "filter chain":"[1]"+".filter(x,true)"*240+"==[]",
 "bind nest":"cel.bind(a,1,"*240+"true"+")"*240,
 "bind nest2":"".join("cel.bind(a%d,[a%d,a%d],"%(i+1,i,i) if i else "cel.bind(a1,[1]," for i in range(200))+"true"+")"*200,
 "bind map":"".join("cel.bind(a%d,{1:a%d,2:a%d},"%(i+1,i,i) if i else "cel.bind(a1,{1:1}," for i in range(200))+"true"+")"*200,
 "bind eq":"".join("cel.bind(a%d,[a%d,a%d],"%(i+1,i,i) if i else "cel.bind(a1,[1]," for i in range(200))+"a200==a200"+")"*200,
 "opt":"optional.of("*240+"1"+")"*240+"==optional.none()",
 "tern":"true?true:"*1000+"true",
 "tern2":"true?true:"*240+"true",
 "dyn lt":"&&".join(["dyn(1)<dyn(2)"]*700),
 "dyn eq":"&&".join(["dyn(1)==1"]*1000),
 "dyn plus nest":"dyn(1)+"*240+"1==1",
 "dyn add":"&&".join(["dyn(1)+dyn(2)==1"]*600),
 "get":"&&".join(["dyn(1).getHours()==1"]*480),
 "+paren":"(1+"*240+"1"+")"*240+"==1",
 "errors":"&&".join(["a"]*3000),
 "errors2":"["+",".join(["b"]*4000)+"]",
 "errors3":"\n".join(["a&&"]*2500)+"a",
 "errors4":"&&".join(["a.b()"]*1400),
 "errors nest":"a("*240+"1"+")"*240,
 "errors nest2":"size("*240+"1"+")"*240,
 "errors types":"".join("cel.bind(a%d,[a%d,a%d],"%(i+1,i,i) if i else "cel.bind(a1,[1]," for i in range(100))+"+".join(["a100+1"]*600)+")"*100,
 "empty lists plus":"[]"+"+[]"*240+"==[]",
 "eq []":"&&".join(["[]==[]"]*1200),
 "list of empties": "["+",".join(["[[]]"]*2000)+"]==[]",
 "list of dyn": "["+",".join(["dyn([])"]*1000)+"]==[]",
 "sort":"[1]"+".sort()"*240+"==[]",
 "sort2":"&&".join(["[1].sort()==[]"]*600),
 "sum dyn":"&&".join(["dyn([1]).sum()==1"]*500),
 "sortBy":"[1]"+".sortBy(x,x)"*240+"==[]",
 "sortBy nest":"[1].sortBy(x,"*60+"1"+"[0])"*60+"==[]",
 "exists 2":"[1].exists(i,x,"*240+"true"+")"*240,
 "replace":"''"+".replace('a','b')"*240+"==''",
 "optmap":"optional.of(1)"+".optMap(x,x)"*7+"==optional.none()",
 "optmap14":"optional.of(1)"+".optMap(x,x)"*14+"==optional.none()",
 "optmap24":"optional.of(1)"+".optMap(x,x)"*24+"==optional.none()",
 "optmapn":"optional.of(1).optMap(x,"*30+"x"+")"*30+"==optional.none()",
 "regex1":"&&".join([f"'a'.matches('(x{i}{{1,50}}){{1,15}}')" for i in range(240)]),
 "regex2":"&&".join([f"'a'.matches('{i}"+"\\\\pL"*90+"')" for i in range(20)]),
 "regex3":"'a'.matches('"+"\\\\pL|"*1900+"')",
 "regex4":"&&".join([f"'a'.matches('(.{{1,30}}{i}){{1,30}}')" for i in range(240)]),
 "minus":"-"*10000+"1>0",
 "quote":"'\\"*5000,
 "esc":"'"+"\\u0041"*1600+"'==''",
 "neg":"!("*240+"true"+")"*240,
 "idx": "[[1]]"+"[0]"*240+"==1",
 "idx2": "{1:{}}"+"[?1]"*240+"==1",
 "dev": "device.attributes"+".a"*240+"==1",
 "quantity":"&&".join([f"quantity('{i}e4000')==quantity('1')" for i in range(280)]),
 "semver":"&&".join([f"semver('1.2.{i}')==semver('1.2.3')" for i in range(280)]),
 "ts":"&&".join(["timestamp('2024-01-01T00:00:00Z')==timestamp('2024-01-01T00:00:00Z')"]*140),
 "newlines":"\n"*10000+"1",
 "newlines err":"\n"*5000+"a&&"*1000+"a",
 "unclosed":"("*249+"1",
 "unclosed2":"[1].all(x,"*249+"1",
 "brackets":"[{1:"*120+"1"+"}]"*120+"==1",
 "in nest":"1 in [1 in [1"*1+"]]",
 "format":"'%s'.format(["+",".join(["1"]*4900)+"]) == ''",
 "cmp chain":"<".join(["1"]*249),
 "semver fast":"||".join(["device.attributes['a'].v.compareTo(semver('1.0.0'))>0"]*180),
 "exists chain":"||".join(["device.attributes['a'].l.exists(x,x==1)"]*230),
 "bool big":"||".join(["device.attributes['a'].b"]*400),
 "ternary nest":"(true?"*240+"true"+":false)"*240,
}  # fmt: skip


def milliseconds(function: Callable[[], object]) -> float:
    start = time.thread_time()
    with suppress(CELError):
        function()
    return (time.thread_time() - start) * 1e3


def main() -> None:
    print("compile    match  explain   ms of processor time")
    for name, text in {**WORST, **SHAPES}.items():
        _compile.cache_clear()
        times = [milliseconds(lambda text=text: cel.compile(text))]  # type: ignore[misc]
        try:
            selector = cel.compile(text)
        except CELError:
            times += [0.0, 0.0]
        else:
            times.append(milliseconds(lambda selector=selector: selector.matches(DEVICE, "x")))  # type: ignore[misc]
            times.append(milliseconds(lambda selector=selector: selector.explain(DEVICE, "x")))  # type: ignore[misc]
        print(
            "".join(f"{each:7.1f}  " for each in times) + f" {name}{'  <-- slow' if max(times) > 100 else ''}"
        )


if __name__ == "__main__":
    main()
