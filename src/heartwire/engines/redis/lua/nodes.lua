-- KEYS: 1 the nodes. ARGV: 1 now.  Returns the time, and the lives of the nodes that are there.
local now = now_ms(ARGV[1])
return {now, redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%d', now), '+inf')}
