-- ARGV: 4 epoch, 5 offset of the last, then of each publication: offset, time, about, data. They are kept without an
-- end until the next append says how long.
local meta, entries, time = KEYS[1], KEYS[2], 0
for at = 6, #ARGV, 4 do
  time = ARGV[at + 1]
  redis.call('XADD', entries, ARGV[at] .. '-0', 't', time, 'o', '', 'a', ARGV[at + 2], 'd', ARGV[at + 3])
end
redis.call('HSET', meta, 'e', ARGV[4], 'h', ARGV[5], 't', time, 'g', ARGV[1])
return 1
