-- KEYS[3] the channel's feed, KEYS[4] the idempotency key, if any.
-- ARGV: 4 now, 5 PUBLISH or SPUBLISH, 6 "1": it may have been applied, 7 token, 8 about, 9 data, 10 size kept,
-- 11 ms kept or "": for ever, 12 ms of the key or "".  Returns epoch, offset, 1 if it is new.
local meta, entries, feed, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, head, last = open(meta, entries, ARGV[3])
local now, token, about, data, ttl = now_ms(ARGV[4]), ARGV[7], ARGV[8], ARGV[9], ARGV[11]
if key then
  local known = redis.call('GET', key)
  if known then
    local used, offset, ends = string.match(known, '^(%S+) (%d+) (%d+)$')
    if ends == '0' or tonumber(ends) > now then return {used, tonumber(offset), 0} end
  end
end
if ARGV[6] == '1' then
  local up_to, looked = '+', 0
  while looked < 1000 do
    local page = redis.call('XREVRANGE', entries, up_to, '-', 'COUNT', 50)
    for _, entry in ipairs(page) do
      if entry[2][4] == token then return {epoch, offset_of(entry), 0} end
    end
    if #page < 50 then break end
    looked, up_to = looked + 50, '(' .. page[50][1]
  end
end
local offset, time = head + 1, math.max(now, last)
redis.call('HSET', meta, 'h', offset, 't', time)
redis.call('XADD', entries, 'MAXLEN', '~', ARGV[10], offset .. '-0', 't', time, 'o', token, 'a', about, 'd', data)
if ttl == '' then
  redis.call('PERSIST', entries)
  redis.call('PERSIST', meta)
else
  redis.call('PEXPIRE', entries, math.max(tonumber(ttl), 60000))
  if math.floor(last / DAY) ~= math.floor(time / DAY) then
    redis.call('PEXPIRE', meta, math.max(META_MS, 2 * tonumber(ttl)))
  end
end
if key then
  if ARGV[12] == '' then
    redis.call('SET', key, epoch .. ' ' .. offset .. ' 0')
  else
    redis.call('SET', key, epoch .. ' ' .. offset .. ' ' .. (now + ARGV[12]), 'PX', ARGV[12])
  end
end
redis.call(ARGV[5], feed, 'p' .. epoch .. ' ' .. offset .. ' ' .. time .. ' ' .. token .. ' ' .. #about .. ' ' .. about .. data)
return {epoch, offset, 1}
