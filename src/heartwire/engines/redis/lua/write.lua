-- KEYS[3] the channel's feed. ARGV: 4 now, 5 PUBLISH or SPUBLISH, 6 the revision that it expects, 7 the one it makes,
-- or "0": the record ends, 8 the record, 9 ttl, 10 when it ends, 11 how tokens begin, 12 MessagePack: length of about,
-- length of data and origin of each message, 13 all that together (an argument each may be more than a command has).
-- Returns epoch, head, the time; where another revision is there, also what `recorded` does.
local meta, entries, feed, all = KEYS[1], KEYS[2], KEYS[3], ARGV[13]
local is_end, sizes, place = ARGV[7] == '0', cmsgpack.unpack(ARGV[12]), 0
local now = now_ms(ARGV[4])

local function take(size)
  place = place + size
  return string.sub(all, place - size + 1, place)
end

local has_ended = lapse(meta, entries, now)
local epoch, head, last = open(meta, entries, ARGV[3])
local revision = redis.call('HGET', meta, 'r') or '0'
local fits = revision == ARGV[6]
if fits and not has_ended and (is_end or (revision == '0' and head > 0)) then
  redis.call('UNLINK', meta, entries)
  epoch, head, last = open(meta, entries, ARGV[3] .. '-')
  has_ended = true
end
if has_ended then redis.call(ARGV[5], feed, 'x' .. epoch .. ' ' .. head) end
if not fits then return {epoch, head, now, recorded(meta)} end
if is_end then return {epoch, head, now} end

local time = math.max(now, last)
-- A server cuts off a feed that has some MiB to read, with all its channels.
local is_told = #all <= 4194304
for at = 1, #sizes, 3 do
  local about, data, token = take(sizes[at]), take(sizes[at + 1]), ARGV[11] .. sizes[at + 2]
  head = head + 1
  redis.call('XADD', entries, head .. '-0', 't', time, 'o', '', 'a', about, 'd', data)
  if is_told then
    redis.call(ARGV[5], feed,
      'p' .. epoch .. ' ' .. head .. ' ' .. time .. ' ' .. token .. ' ' .. #about .. ' ' .. about .. data)
  end
end
if not is_told then redis.call(ARGV[5], feed, 'b' .. epoch .. ' ' .. head) end
redis.call('HSET', meta, 'h', head, 't', time, 'r', ARGV[7], 'd', ARGV[8], 'w', now, 'l', ARGV[9], 'y', ARGV[10])
begin_life(meta, entries, now, ARGV[9], ARGV[10])
return {epoch, head, now}
