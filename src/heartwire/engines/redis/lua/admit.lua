-- KEYS: 1 the connections of a user, by client the life of its node, 2 the nodes. ARGV: 1 now, 2 client, 3 the node's
-- life, 4 most, or "": any number.  Returns 1 if it is counted.
local now = now_ms(ARGV[1])
local count, found = 0, redis.call('HGETALL', KEYS[1])
for at = 1, #found, 2 do
  local ends = redis.call('ZSCORE', KEYS[2], found[at + 1])
  if not ends or tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], found[at])
  elseif found[at] ~= ARGV[2] then
    count = count + 1
  end
end
if ARGV[4] ~= '' and count >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], META_MS)
return 1
