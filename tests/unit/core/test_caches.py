"""What is remembered of what clients send is bounded in bytes."""

from heartwire.core.caches import ByteCache


def test_a_full_cache_forgets_and_a_long_key_is_not_remembered() -> None:
    cache: ByteCache[int] = ByteCache(10_000, max_key_bytes=1000)
    assert cache.remember(b"x" * 1001, 1) == 1
    assert not cache
    for number in range(1000):
        assert cache.remember(b"%01000d" % number, number) == number
        assert cache[b"%01000d" % number] == number
        assert sum(map(len, cache)) <= cache.size_bytes <= 10_000
    assert 1 <= len(cache) < 9
