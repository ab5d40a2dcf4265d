-- KEYS[3] the channel's feed. ARGV: 4 PUBLISH or SPUBLISH.  Returns epoch and offset.
local epoch, head = open(KEYS[1], KEYS[2], ARGV[3])
redis.call('DEL', KEYS[2])
redis.call(ARGV[4], KEYS[3], 'x' .. epoch .. ' ' .. head)
return {epoch, head}
