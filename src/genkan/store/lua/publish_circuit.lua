-- Tells every worker of a circuit, and keeps it for those that start later.
-- KEYS[1]: the hash, and the channel. ARGV: deployment, generation, what is told.
-- Returns what is known instead, with its age in ms, if that is of a later generation; then nothing is told.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  local generation, stamp, told = string.match(known, '^(%d+) (%d+) (.*)$')
  if generation and tonumber(generation) > tonumber(ARGV[2]) then
    return {now_ms - tonumber(stamp), told}
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %.0f %s', ARGV[2], now_ms, ARGV[3]))
redis.call('PEXPIRE', KEYS[1], 86400000)
redis.call('PUBLISH', KEYS[1], ARGV[3])
return false
