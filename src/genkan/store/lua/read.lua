-- The lines of a plan as they stand, for a request of nothing. Changes nothing.
--
-- KEYS  the lines
-- ARGV  the lines as in admit.lua
-- Reply for each line: remaining, retry_us, reset_us, as in admit.lua; less than 0 remains of a budget that is overspent

local call, match, unpack = redis.call, string.match, struct.unpack
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local function bucket(key, most, per)
  local owed, state = 0, call('GET', key)
  if state then
    local at, then_owed = unpack('<dd', state)
    owed = max(0, then_owed - max(0, now - at) / per)
  end
  return owed, min(ceil(max(0, owed - most) * per), 1e15), min(ceil(owed * per), 1e15)
end

local function window(key, most, per)
  local used = -(call('ZSCORE', key, '=') or 0)
  local left = call('ZRANGEBYSCORE', key, '(0', now - per)
  for j = 1, #left do used = used - match(left[j], '^%d+') end
  local newest = call('ZRANGE', key, -1, -1, 'WITHSCORES')
  if not newest[2] or newest[1] == '=' or newest[2] + per <= now then return 0, 0, 0 end
  local place, short, retry = #left + 1, used - most, 0
  while short > 0 do
    local oldest = call('ZRANGE', key, place, place, 'WITHSCORES')
    short, place, retry = short - match(oldest[1], '^%d+'), place + 1, oldest[2] + per - now
  end
  return used, retry, newest[2] + per - now
end

local function lease(key, most)
  local over = call('ZCOUNT', key, '-inf', floor(now / 1000))
  local held = call('ZCARD', key) - over
  if held == 0 then return 0, 0, 0 end
  local last, retry = call('ZRANGE', key, -1, -1, 'WITHSCORES'), 0
  if held > most then
    local place = over + held - most - 1
    retry = call('ZRANGE', key, place, place, 'WITHSCORES')[2] * 1000 - now
  end
  return held, retry, last[2] * 1000 - now
end

local reply = {}
for i = 1, #KEYS do
  local key = KEYS[i]
  local kind, _, most, per = unpack('<c1Bdd', ARGV[1], 18 * i - 17)
  local has, retry, reset
  if kind == 'b' then
    has, retry, reset = bucket(key, most, per)
  elseif kind == 'w' then
    has, retry, reset = window(key, most, per)
  elseif kind == 'l' then
    has, retry, reset = lease(key, most)
  else
    has, retry, reset = tonumber(call('GET', key) or 0), 0, 0
    if has > most then retry = -1 end
  end
  reply[3 * i - 2], reply[3 * i - 1], reply[3 * i] = floor(kind == '$' and most - has or max(0, most - has)), retry, reset
end
return reply
