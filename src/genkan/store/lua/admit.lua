-- Takes what a request needs from every line of its plan, or nothing from any.
--
-- KEYS  1 the mark that this request was settled; 2 hash of reservations, id -> draft; 3 zset of the same ids by when
--       they run out (ms); from 4 on the lines
-- ARGV  four for each line: kind, unit, most, per; then hold_ms, id, amounts, draft
--       kind b(ucket): most = burst, per = µs until one token is back; w(indow): limit, µs; l(ease): limit, ms;
--       $ (budget): limit, ms that its key is kept. unit 1 to 4: which of the four ``amounts`` it takes, "1 200 300 0".
--       draft '' reserves nothing; else it is kept until it is settled, or closed as lost after hold_ms.
-- Reply {denied, then for each line: remaining, retry_us, reset_us}; denied: 0, or the first line that has not enough;
--       retry -1: never, as far as is known now: so it is of every budget; of a lease: until one runs out, should none
--       be given back before. Denied, the lines stand as they were; admitted, what was taken is taken.
--
-- What a line keeps. bucket: "<µs> <tokens owed then>", which is GCRA's arrival time in a form that stays exact where a
-- token takes less than a microsecond, follows a changed limit, and is not stuck when the clock is set back. window: a
-- zset of "<cost>:<id>" by µs, whose member "=" has minus the sum as its score and so comes first. lease: a zset of ids
-- by when they run out (ms). budget: what was spent, an integer. All expire once they are as if never used.

local call, match, format = redis.call, string.match, string.format
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = floor(now / 1000)
local lines = #KEYS - 3
local rest = 4 * lines
local hold_ms, id, draft = ARGV[rest + 1], ARGV[rest + 2], ARGV[rest + 4]
local a, b, c, d = match(ARGV[rest + 3], '^(%d+) (%d+) (%d+) (%d+)$')
local amounts = { ['1'] = min(a, 1e15), ['2'] = min(b, 1e15), ['3'] = min(c, 1e15), ['4'] = min(d, 1e15) }

local function microseconds(us) return min(ceil(us), 1e15) end

local function owed_now(state, per)
  local at, owed = match(state, '^(%d+) (%S+)$')
  return max(0, owed - max(0, now - at) / per)
end

-- What a window holds, once those that have left it are removed.
local function used_now(key, per)
  local left = call('ZRANGEBYSCORE', key, '(0', now - per)
  if #left == 0 then return -(call('ZSCORE', key, '=') or 0) end
  local freed = 0
  for j = 1, #left do freed = freed + match(left[j], '^%d+') end
  call('ZREMRANGEBYSCORE', key, '(0', now - per)
  return -call('ZINCRBY', key, freed, '=')
end

-- µs until ``short`` of a window have left it: the oldest leave first.
local function until_left(key, per, short)
  local first = 1
  while true do
    local oldest = call('ZRANGE', key, first, first + 99, 'WITHSCORES')
    if #oldest == 0 then return per end
    for j = 1, #oldest, 2 do
      short = short - match(oldest[j], '^%d+')
      if short <= 0 then return max(1, oldest[j + 1] + per - now) end
    end
    first = first + 100
  end
end

local held, retry, denied = {}, {}, 0
for i = 1, lines do
  local key, kind = KEYS[i + 3], ARGV[4 * i - 3]
  local cost, most, per = amounts[ARGV[4 * i - 2]], tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local has
  if kind == 'b' then
    local state = call('GET', key)
    has = state and owed_now(state, per) or 0
  elseif kind == 'w' then
    has = used_now(key, per)
  elseif kind == 'l' then
    cost = 1
    call('ZREMRANGEBYSCORE', key, '-inf', now_ms)
    has = call('ZCARD', key)
  else
    has = tonumber(call('GET', key) or 0)
  end
  held[i], retry[i] = has, 0
  if has + cost > most then
    if denied == 0 then denied = i end
    if kind == 'b' then
      retry[i] = cost > most and -1 or microseconds((has + cost - most) * per)
    elseif kind == 'w' then
      retry[i] = cost > most and -1 or until_left(key, per, has + cost - most)
    elseif kind == 'l' then
      local place = call('ZRANGE', key, has - most, has - most, 'WITHSCORES')
      retry[i] = max(1, place[2] * 1000 - now)
    else
      retry[i] = -1
    end
  end
end

-- A settlement may overtake an admission that waited in a lost connection, and nobody asks twice: neither takes.
local takes = denied == 0
if takes and draft ~= '' then
  takes = call('EXISTS', KEYS[1]) == 0 and call('HSETNX', KEYS[2], id, draft) == 1
  if takes then call('ZADD', KEYS[3], now_ms + hold_ms, id) end
end

local reply = { denied }
for i = 1, lines do
  local key, kind = KEYS[i + 3], ARGV[4 * i - 3]
  local cost, most, per = amounts[ARGV[4 * i - 2]], tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local has, reset = held[i], 0
  if kind == 'b' then
    if takes and cost > 0 then
      has = has + cost
      call('SET', key, format('%.0f %.17g', now, has), 'PX', ceil(microseconds(has * per) / 1000))
    end
    reset = microseconds(has * per)
  elseif kind == 'w' then
    if takes and call('ZADD', key, 'NX', now, format('%.0f:', cost) .. id) == 1 then
      has = has + cost
      call('ZADD', key, -has, '=')
      call('PEXPIRE', key, ceil(per / 1000))
      reset = per
    else
      local newest = call('ZRANGE', key, -1, -1, 'WITHSCORES')
      reset = newest[2] and newest[1] ~= '=' and newest[2] + per - now or 0
    end
  elseif kind == 'l' then
    if takes and call('ZADD', key, now_ms + per, id) == 1 then
      has = has + 1
      call('PEXPIRE', key, per)
      reset = per * 1000
    else
      local last = call('ZRANGE', key, -1, -1, 'WITHSCORES')
      reset = last[2] and last[2] * 1000 - now or 0
    end
  elseif takes and cost > 0 then
    has = call('INCRBY', key, cost)
    if has == cost then call('PEXPIRE', key, per) end
  end
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = floor(max(0, most - has)), retry[i], reset
end
return reply
