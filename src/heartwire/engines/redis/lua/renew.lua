-- ARGV: 4 the epoch that is to end.  Returns epoch and offset.
local epoch, head = open(KEYS[1], KEYS[2], ARGV[3])
if epoch == ARGV[4] then
  epoch = ARGV[3]
  redis.call('HSET', KEYS[1], 'e', epoch)
end
return {epoch, head}
