-- ARGV: 4 now, 5 "now", "earliest" or an epoch, 6 the offset in it, 7 size kept, 8 ms kept or "": for ever, 9 most
-- publications, 10 most bytes.  Returns epoch, head, the oldest kept, and time, about, data of each that follows.
local entries, now = KEYS[2], now_ms(ARGV[4])
lapse(KEYS[1], entries, now)
local epoch, head = open(KEYS[1], entries, ARGV[3])
local oldest = oldest_kept(entries, head, now, ARGV[7], ARGV[8])
local after, found = oldest - 1, {}
local answer = {epoch, head, oldest, found}
if ARGV[5] == 'now' then return answer end
if ARGV[5] == epoch then
  local offset = tonumber(ARGV[6])
  if offset >= after and offset <= head then after = offset end
end
local left, bytes = tonumber(ARGV[9]), tonumber(ARGV[10])
while left > 0 and bytes > 0 and after < head do
  local page = redis.call('XRANGE', entries, (after + 1) .. '-0', '+', 'COUNT', math.min(left, 32))
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    if offset_of(entry) ~= after + 1 then return answer end
    local fields = entry[2]
    after, left, bytes = after + 1, left - 1, bytes - #fields[8]
    found[#found + 1], found[#found + 2], found[#found + 3] = fields[2], fields[6], fields[8]
    if bytes <= 0 then break end
  end
end
return answer
