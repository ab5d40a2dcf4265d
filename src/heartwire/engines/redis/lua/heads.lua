-- KEYS: of each stream the hash and the entries.  Returns epoch and offset of each.
local answer = {}
for at = 1, #KEYS, 2 do
  local epoch, head = open(KEYS[at], KEYS[at + 1], ARGV[3] .. '-' .. at)
  local left = redis.call('PTTL', KEYS[at])
  if left >= 0 and left < META_MS / 2 and redis.call('HEXISTS', KEYS[at], 'r') == 0 then
    redis.call('PEXPIRE', KEYS[at], META_MS)
  end
  answer[at], answer[at + 1] = epoch, head
end
return answer
