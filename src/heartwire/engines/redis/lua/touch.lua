-- ARGV: 4 now.  Returns 1 where there is a record.
local now = now_ms(ARGV[4])
if lapse(KEYS[1], KEYS[2], now) then return 0 end
local found = recorded(KEYS[1])
if not found[1] then return 0 end
begin_life(KEYS[1], KEYS[2], now, found[4], found[5])
return 1
