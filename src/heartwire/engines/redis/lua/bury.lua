-- KEYS: 1 the nodes, 2 says that this life was given up, 3 the lock. ARGV: 1 the life, 2 "1": nothing is left of it.
redis.call('SET', KEYS[2], 1, 'PX', DAY)
if ARGV[2] == '1' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
end
return 1
