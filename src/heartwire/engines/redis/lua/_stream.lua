-- Before the scripts of streams. KEYS[1]: hash e epoch, h offset of the last publication, t its time, g the life of
-- the store that the epoch is of. KEYS[2]: the entries, <offset>-0, with t time, o token, a about, d data.
-- A stream record is in the hash: r its revision, d its bytes, w when it was written, l seconds of life after each use,
-- y a time that it ends at, x when it ends as it is ("0", all three: by none).
-- ARGV[1] the present life, ARGV[2] "1": a restart keeps epochs, ARGV[3] an epoch that no stream had yet.

-- Epoch, offset and time. A stream that is not there, or of another life, gets the fresh epoch; in the second
-- case offsets and entries go on.
local function open(meta, entries, fresh)
  local life = ARGV[1]
  local found = redis.call('HMGET', meta, 'e', 'h', 't', 'g')
  local epoch, head, time, was = found[1], tonumber(found[2]), tonumber(found[3]), found[4]
  if not (epoch and head and time) then
    redis.call('DEL', entries)
    redis.call('HSET', meta, 'e', fresh, 'h', 0, 't', 0, 'g', life)
    redis.call('PEXPIRE', meta, META_MS)
    return fresh, 0, 0
  end
  if was ~= life and life ~= '' then
    local restarted = was and string.sub(was, 1, 12) ~= string.sub(life, 1, 12)
    if not (ARGV[2] == '1' and restarted) then epoch = fresh end
    redis.call('HSET', meta, 'e', epoch, 'g', life)
  end
  return epoch, head, time
end

local function offset_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

-- The offset of the oldest that is kept; head + 1: none is. Times never go back in a stream.
local function oldest_kept(entries, head, now, size, ttl)
  local first = redis.call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
  if not first then return head + 1 end
  local low = math.max(offset_of(first), head - tonumber(size) + 1)
  if ttl == '' or low > head then return math.min(low, head + 1) end
  local since, high = math.max(0, now - tonumber(ttl)), head + 1
  local probe = low
  while low < high do
    local entry = redis.call('XRANGE', entries, probe .. '-0', probe .. '-0')[1]
    if entry and tonumber(entry[2][2]) >= since then high = probe else low = probe + 1 end
    probe = math.floor((low + high) / 2)
  end
  return low
end

-- Forget a stream whose record has ended. Returns whether it had.
local function lapse(meta, entries, now)
  local ends = tonumber(redis.call('HGET', meta, 'x') or '0')
  if ends == 0 or ends > now then return false end
  redis.call('UNLINK', meta, entries)
  return true
end

-- Begin the life of a record. The keys stay a minute longer, so that it is the scripts' time that ends it.
local function begin_life(meta, entries, now, ttl, time)
  local ends = math.huge
  if tonumber(ttl) > 0 then ends = now + ttl * 1000 end
  if tonumber(time) > 0 then ends = math.min(ends, time) end
  if ends == math.huge then
    redis.call('HSET', meta, 'x', 0)
    redis.call('PERSIST', meta)
    redis.call('PERSIST', entries)
  else
    local left = math.ceil(math.min(math.max(0, ends - now), 1e14)) + 60000
    redis.call('HSET', meta, 'x', ends)
    redis.call('PEXPIRE', meta, left)
    redis.call('PEXPIRE', entries, left)
  end
end

-- Revision, bytes, when written, ttl and end; false five times: there is no record.
local function recorded(meta)
  return redis.call('HMGET', meta, 'r', 'd', 'w', 'l', 'y')
end
