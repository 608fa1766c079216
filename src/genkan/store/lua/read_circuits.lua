-- What is known of every circuit: a flat list of its age in ms, and what was told. Drops what is older than a day.
-- KEYS[1]: the hash.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local fields, found = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #fields, 2 do
  local stamp, told = string.match(fields[i + 1], '^%d+ (%d+) (.*)$')
  local age_ms = stamp and now_ms - tonumber(stamp)
  if not age_ms or age_ms > 86400000 then
    redis.call('HDEL', KEYS[1], fields[i])
  else
    found[#found + 1] = age_ms
    found[#found + 1] = told
  end
end
return found
