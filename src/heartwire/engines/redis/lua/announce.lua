-- KEYS: 1 the node's members whose leaves are to be told when it is gone, 2 the channel's feed.
-- ARGV: 1 "join", "leave"; "again": join, where its leave was told; "quiet": join, untold, 2 PUBLISH or SPUBLISH,
-- 3 client, 4 channel, 5 member.
local what, entry = ARGV[1], ARGV[3] .. '\0' .. ARGV[4]
local told = what == 'leave' and 'l' or 'j'
local is_new = true
if what == 'leave' then
  redis.call('HDEL', KEYS[1], entry)
else
  is_new = redis.call('HSET', KEYS[1], entry, ARGV[5]) == 1
end
if what == 'join' or what == 'leave' or (what == 'again' and is_new) then
  redis.call(ARGV[2], KEYS[2], told .. ARGV[5])
end
return 1
