-- KEYS: 1 a feed. ARGV: 1 PUBLISH or SPUBLISH, 2 the message.
return redis.call(ARGV[1], KEYS[1], ARGV[2])
