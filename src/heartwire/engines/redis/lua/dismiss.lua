-- KEYS: the connections of each user. ARGV: the client of each.
for at = 1, #KEYS do redis.call('HDEL', KEYS[at], ARGV[at]) end
return 1
