-- Holds leases and reservations of requests still under way for longer; those that are no longer there stay away.
--
-- KEYS  1 zset of reservations by when they run out (ms); then the lease lines of all requests, one after the other
-- ARGV  for each request: id, hold_ms of its reservation or 0, how many lease lines it has; for each of them: ms
-- Reply how many leases and reservations were found

local call = redis.call
local time = call('TIME')
local now_ms = math.floor(time[1] * 1000 + time[2] / 1000)
local found, key, arg = 0, 2, 1

local function hold(zset, id, hold_ms)
  if not call('ZSCORE', zset, id) then return 0 end
  call('ZADD', zset, now_ms + hold_ms, id)
  return 1
end

while ARGV[arg] do
  local id, hold_ms, leases = ARGV[arg], tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
  arg = arg + 3
  if hold_ms > 0 then found = found + hold(KEYS[1], id, hold_ms) end
  for _ = 1, leases do
    if hold(KEYS[key], id, ARGV[arg]) == 1 then
      found = found + 1
      call('PEXPIRE', KEYS[key], ARGV[arg])
    end
    key, arg = key + 1, arg + 1
  end
end
return found
