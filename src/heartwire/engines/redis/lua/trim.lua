-- ARGV: 4 now, 5 size kept, 6 ms kept or "": for ever.
local head = tonumber(redis.call('HGET', KEYS[1], 'h'))
if not head then return 0 end
local oldest = oldest_kept(KEYS[2], head, now_ms(ARGV[4]), ARGV[5], ARGV[6])
return redis.call('XTRIM', KEYS[2], 'MINID', oldest .. '-0')
