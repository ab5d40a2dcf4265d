-- KEYS: 1 the nodes, by the end of their lease, 2 whether this life of the node was given up.
-- ARGV: 1 now, 2 the node's life, 3 its next one, 4 ms.
-- Returns 1: it held; 0: it was missed; -1: the store does not know the node. In both the next life begins.
local now = now_ms(ARGV[1])
local ends = redis.call('ZSCORE', KEYS[1], ARGV[2])
local state = 1
if not ends then
  state = redis.call('EXISTS', KEYS[2]) == 1 and 0 or -1
elseif tonumber(ends) <= now then
  state = 0
end
if state == 0 then redis.call('ZADD', KEYS[1], 0, ARGV[2]) end
redis.call('ZADD', KEYS[1], now + ARGV[4], state == 1 and ARGV[2] or ARGV[3])
return state
