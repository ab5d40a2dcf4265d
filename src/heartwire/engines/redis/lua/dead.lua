-- KEYS: 1 the nodes, 2 a lock. ARGV: 1 now, 2 who asks.  Returns dead nodes, to one that asks in 10 s.
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now_ms(ARGV[1])), 'LIMIT', 0, 100)
if #dead > 0 and not redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', 10000) then return {} end
return dead
