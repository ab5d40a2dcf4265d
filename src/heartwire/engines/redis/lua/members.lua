-- KEYS: 1 the index of the node's members, 2 that of members with an end of their own, then the presence hash of
-- each change. ARGV: 1 now, 2 the node's life, then of each change: client, channel, member, ms or "0": as long as
-- the node; "": the client has left.
local now = now_ms(ARGV[1])
for at = 3, #KEYS do
  local arg = 3 + (at - 3) * 4
  local client, member, ms = ARGV[arg], ARGV[arg + 2], ARGV[arg + 3]
  local entry = client .. '\0' .. ARGV[arg + 1]
  if ms == '' then
    redis.call('HDEL', KEYS[at], client)
    redis.call('SREM', KEYS[1], entry)
    redis.call('SREM', KEYS[2], entry)
  elseif ms == '0' then
    redis.call('HSET', KEYS[at], client, ARGV[2] .. ' 0 ' .. member)
    redis.call('SADD', KEYS[1], entry)
  else
    redis.call('HSET', KEYS[at], client, '- ' .. string.format('%d', now + ms) .. ' ' .. member)
    redis.call('SADD', KEYS[2], entry)
  end
end
return 1
