-- ARGV: 4 now.  Returns epoch, head, the time, and what `recorded` does.
local now = now_ms(ARGV[4])
lapse(KEYS[1], KEYS[2], now)
local epoch, head = open(KEYS[1], KEYS[2], ARGV[3])
return {epoch, head, now, recorded(KEYS[1])}
