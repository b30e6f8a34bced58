"""The Python side of tests/interop.rs: `peer.py redis|memcached PORT write|read`.

`write` stores entries with aiocache for cacheio to read; `read` expects those that cacheio has
stored, changes some, and expects what cacheio has deleted to be gone.
"""

import asyncio
import sys
import time

from aiocache import MemcachedCache, RedisCache

VALUES = {
    "str": "plain",
    "unicode": "Grüße, 世界 🦀 \"quoted\" \\ \n",
    "empty": "",
    "int": -42,
    "large": 2**63 - 1,
    "float": 1.5,
    "true": True,
    "false": False,
    "none": None,
    "list": [1, 2, 3],
    "dict": {"id": 7, "name": "Ada Lövelace", "tags": ["a", "b"], "score": None},
    "empty_list": [],
}


def cache_of(backend, port):
    if backend == "redis":
        # aiocache joins a namespace and a key with a colon on Redis, and with nothing on Memcached.
        return RedisCache(endpoint="127.0.0.1", port=port, namespace="shop")
    return MemcachedCache(endpoint="127.0.0.1", port=port, namespace="shop:")


async def write(cache):
    for name, value in VALUES.items():
        await cache.set(f"py:{name}", value, ttl=100)
    await cache.multi_set([(f"py:many:{n}", n) for n in range(5)])
    await cache.set("py:for_ever", "x")
    await cache.set("py:short", "x", ttl=1)
    await cache.set("py:deleted", "x")
    await cache.delete("py:deleted")
    assert await cache.increment("py:counter", 10) == 10
    # Memcached pads what a decrement has made shorter: "9 ".
    assert await cache.increment("py:counter", -1) == 9
    assert await cache.add("py:added", 1)


async def read(cache):
    for name, value in VALUES.items():
        key = f"rs:{name}"
        found = await cache.get(key)
        assert found == value and type(found) is type(value), (key, found)
        # aiocache's `get` does not tell null from nothing.
        assert await cache.exists(key), key
    assert await cache.multi_get([f"rs:many:{n}" for n in range(5)]) == list(range(5))
    assert await cache.get("rs:schlüssel") == "unicode key"

    assert not await cache.exists("rs:deleted")
    assert not await cache.exists("py:str"), "cacheio has deleted it"
    assert await cache.exists("rs:for_ever")
    try:
        await cache.add("rs:added", 2)
    except ValueError:
        pass
    else:
        raise AssertionError("rs:added is there")

    assert await cache.get("rs:counter") == 5
    assert await cache.increment("rs:counter", 3) == 8
    assert await cache.get("py:counter") == 16

    deadline = time.monotonic() + 5
    while await cache.exists("rs:short"):
        assert time.monotonic() < deadline, "rs:short does not expire"
        await asyncio.sleep(0.05)
    if isinstance(cache, RedisCache):
        left = await cache.raw("pttl", "shop:rs:str")
        assert 50_000 < left <= 100_000, left
        assert await cache.raw("pttl", "shop:rs:for_ever") == -1
    assert await cache.delete("rs:str") == 1


async def main(backend, port, phase):
    cache = cache_of(backend, int(port))
    try:
        await {"write": write, "read": read}[phase](cache)
    finally:
        await cache.close()


asyncio.run(main(*sys.argv[1:]))
