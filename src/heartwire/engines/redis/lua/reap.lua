-- KEYS: 1 the index of a dead node's members, 2 those whose leaves are to be told. ARGV: 1 the node's life, 2 how
-- presence hashes begin, 3 how feeds do, 4 PUBLISH or SPUBLISH, 5 most.  Returns 1 if there may be more.
local most = tonumber(ARGV[5])
local entries = redis.call('SPOP', KEYS[1], most)
for _, entry in ipairs(entries) do
  local client, channel = split(entry)
  local kept = redis.call('HGET', ARGV[2] .. channel, client)
  if kept and string.match(kept, '^%S+') == ARGV[1] then redis.call('HDEL', ARGV[2] .. channel, client) end
end
local told = redis.call('HRANDFIELD', KEYS[2], most, 'WITHVALUES')
for at = 1, #told, 2 do
  local _, channel = split(told[at])
  redis.call('HDEL', KEYS[2], told[at])
  redis.call(ARGV[4], ARGV[3] .. channel, 'l' .. told[at + 1])
end
return (#entries == most or #told == 2 * most) and 1 or 0
