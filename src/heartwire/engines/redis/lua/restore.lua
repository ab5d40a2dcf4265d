-- ARGV: 4 now, 5 epoch, 6 offset of the last, 7 to 10 revision, bytes, ttl and end of a record, or "" each; then of each
-- publication: offset, time, about, data. Without a record they are kept without an end until the next append says how
-- long.
local meta, entries, time = KEYS[1], KEYS[2], 0
for at = 11, #ARGV, 4 do
  time = ARGV[at + 1]
  redis.call('XADD', entries, ARGV[at] .. '-0', 't', time, 'o', '', 'a', ARGV[at + 2], 'd', ARGV[at + 3])
end
redis.call('HSET', meta, 'e', ARGV[5], 'h', ARGV[6], 't', time, 'g', ARGV[1])
if ARGV[7] ~= '' then
  local now = now_ms(ARGV[4])
  redis.call('HSET', meta, 'r', ARGV[7], 'd', ARGV[8], 'w', now, 'l', ARGV[9], 'y', ARGV[10])
  begin_life(meta, entries, now, ARGV[9], ARGV[10])
end
return 1
