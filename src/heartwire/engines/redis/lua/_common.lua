-- Before each script. Times are milliseconds since 1970, by the server's clock unless ``given`` is another.
local DAY, META_MS = 86400000, 30 * 86400000

local function now_ms(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A client in a channel, as an index has it. A channel has no control characters.
local function split(entry)
  return string.match(entry, '^(.*)%z([^%z]*)$')
end
