-- Takes what a request needs from every line of its plan, or nothing from any.
--
-- KEYS  1 the mark that this request was settled; 2 hash of reservations, id -> draft; 3 zset of the same ids by when
--       they run out (ms); from 4 on the lines
-- ARGV  1 the lines, of each kind, unit, most, per, packed as a letter, a byte and two doubles; 2 hold_ms; 3 id;
--       4 amounts, packed as four doubles; 5 draft. All that is packed is little-endian and without gaps.
--       kind b(ucket): most = burst, per = µs until one token is back; w(indow): limit, µs; l(ease): limit, ms;
--       $ (budget): limit, ms that its key is kept. unit 1 to 4: which of the four ``amounts`` it takes.
--       draft '' reserves nothing; else it is kept until it is settled, or closed as lost after hold_ms.
-- Reply {denied, then for each line: remaining, retry_us, reset_us}; denied: 0, or the first line that has not enough;
--       retry -1: never, as far as is known now: so it is of every budget; of a lease: until one runs out, should none
--       be given back before. Denied, the lines stand as they were; admitted, what was taken is taken.
--
-- What a line keeps. bucket: µs, tokens owed then, and when its key expires (ms), packed as three doubles. That is
-- GCRA's arrival time in a form that stays exact where a token takes less than a microsecond, follows a changed limit,
-- and is not stuck when the clock is set back. The key is kept for twice as long as it must be, and a second, so that
-- most writes leave the expiry as it is, which halves what they cost. window: a zset of "<cost>:<id>" by µs, whose
-- member "=" has minus the sum as its score and so comes first. lease: a zset of ids by when they run out (ms).
-- budget: what was spent, an integer. All expire once they are as if never used, or a little later.

local call, match, format = redis.call, string.match, string.format
local pack, unpack = struct.pack, struct.unpack
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = floor(now / 1000)
local lines = #KEYS - 3
local packed, hold_ms, id, draft = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local a, b, c, d = unpack('<dddd', ARGV[4])
assert(min(a, b, c, d) >= 0, 'amounts are at least 0')
local amounts = { min(a, 1e15), min(b, 1e15), min(c, 1e15), min(d, 1e15) }

local function microseconds(us) return min(ceil(us), 1e15) end

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

local held, retry, expires, denied = {}, {}, {}, 0
for i = 1, lines do
  local key = KEYS[i + 3]
  local kind, unit, most, per = unpack('<c1Bdd', packed, 18 * i - 17)
  local cost, has = amounts[unit], 0
  if kind == 'b' then
    local state = call('GET', key)
    expires[i] = 0
    if state then
      local at, owed, expires_ms = unpack('<ddd', state)
      has, expires[i] = max(0, owed - max(0, now - at) / per), expires_ms
    end
  elseif kind == 'w' then
    has = used_now(key, per)
  elseif kind == 'l' then
    cost = 1
    has = call('ZCARD', key)
    if has > 0 then has = has - call('ZREMRANGEBYSCORE', key, '-inf', now_ms) end
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
  local key = KEYS[i + 3]
  local kind, unit, most, per = unpack('<c1Bdd', packed, 18 * i - 17)
  local cost, has, reset = amounts[unit], held[i], 0
  if kind == 'b' then
    local is_taken = takes and cost > 0
    if is_taken then has = has + cost end
    reset = microseconds(has * per)
    if is_taken then
      local idle_ms = now_ms + ceil(reset / 1000)
      if idle_ms < expires[i] then
        call('SET', key, pack('<ddd', now, has, expires[i]), 'KEEPTTL')
      else
        idle_ms = 2 * idle_ms - now_ms + 1000
        call('SET', key, pack('<ddd', now, has, idle_ms), 'PXAT', idle_ms)
      end
    end
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
