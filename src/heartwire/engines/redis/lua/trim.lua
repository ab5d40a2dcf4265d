-- ARGV: 4 now, 5 size kept, 6 ms kept or "": for ever. A stream with a record is kept whole, until that ends.
local now = now_ms(ARGV[4])
lapse(KEYS[1], KEYS[2], now)
local found = redis.call('HMGET', KEYS[1], 'h', 'r')
if not found[1] or found[2] then return 0 end
local oldest = oldest_kept(KEYS[2], tonumber(found[1]), now, ARGV[5], ARGV[6])
return redis.call('XTRIM', KEYS[2], 'MINID', oldest .. '-0')
