-- A node lives on under another name: KEYS: the old and the new index, the old and the new hash of its members.
for at = 1, 3, 2 do
  if redis.call('EXISTS', KEYS[at]) == 1 then redis.call('RENAME', KEYS[at], KEYS[at + 1]) end
end
return 1
