-- KEYS: 1 the index of members with an end of their own. ARGV: 1 now, 2 how presence hashes begin, 3 cursor.
-- Removes those that have ended.  Returns the next cursor, "0" at the end.
local now = now_ms(ARGV[1])
local page = redis.call('SSCAN', KEYS[1], ARGV[3], 'COUNT', 200)
for _, entry in ipairs(page[2]) do
  local client, channel = split(entry)
  local kept = redis.call('HGET', ARGV[2] .. channel, client)
  local ends = kept and tonumber(string.match(kept, '^%- (%d+) '))
  if not ends or ends <= now then
    if ends then redis.call('HDEL', ARGV[2] .. channel, client) end
    redis.call('SREM', KEYS[1], entry)
  end
end
return page[1]
