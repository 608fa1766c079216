-- Puts right what admit.lua took for one request, and writes its row of the ledger; once, however often it is asked.
--
-- KEYS  1 the mark that this request was settled; 2 hash of reservations; 3 zset of the same by when they run out;
--       4 zset of those closed as lost; 5 the ledger; from 6 on the lines
-- ARGV  four for each line as in admit.lua; then the most rows to keep, ms to keep them, id, "1" if it was admitted
--       here or "0", what was reserved and what it was, "1 200 300 0 1 150 150 0", and the row or ''
-- Reply 0 it was settled before, 1 settled, 2 settled after it had been closed as lost
--
-- Whether the admission took anything is known for certain where it left a reservation. A request with a row whose
-- reservation is nowhere was never admitted here, whatever its worker believes: the admission was lost on its way, or
-- with the last second of a Redis that was killed. Then budgets are charged with all that it was, and buckets stay as
-- they are. A lease or a place in a window has the id in it, so it is given back or put right if it is there at all.
--
-- Redis undoes nothing when a script fails. So all that is to be changed is read first, which fails if one of the keys
-- is not what it should be. The row, which may be refused for more reasons, is the first change after the mark; if it
-- is refused, the mark goes, and all can be asked again.

local call, match, format = redis.call, string.match, string.format
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local lines = #KEYS - 5
local rest = 4 * lines
local id, row = ARGV[rest + 3], ARGV[rest + 6]
local r1, r2, r3, r4, a1, a2, a3, a4 =
  match(ARGV[rest + 5], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
local reserved = { ['1'] = min(r1, 1e15), ['2'] = min(r2, 1e15), ['3'] = min(r3, 1e15), ['4'] = min(r4, 1e15) }
local actual = { ['1'] = min(a1, 1e15), ['2'] = min(a2, 1e15), ['3'] = min(a3, 1e15), ['4'] = min(a4, 1e15) }

local is_reserved = call('HEXISTS', KEYS[2], id) == 1
local is_known = call('ZSCORE', KEYS[is_reserved and 3 or 4], id)
local is_late = is_known and not is_reserved
local taken = is_reserved or is_late or (row == '' and ARGV[rest + 4] == '1')

-- Of each line what it has: of a bucket the tokens owed now, of a window when it was taken, of a lease when it runs
-- out, of a budget what was spent.
local held = {}

local function owed_now(state, per)
  local at, owed = match(state, '^(%d+) (%S+)$')
  return max(0, owed - max(0, now - at) / per)
end

local function member(cost) return format('%.0f:', cost) .. id end

for i = 1, lines do
  local key, kind, unit = KEYS[i + 5], ARGV[4 * i - 3], ARGV[4 * i - 2]
  if kind == 'b' then
    local state = call('GET', key)
    held[i] = state and owed_now(state, tonumber(ARGV[4 * i])) or 0
  elseif kind == 'w' then
    held[i] = call('ZSCORE', key, member(reserved[unit]))
  elseif kind == 'l' then
    held[i] = call('ZSCORE', key, id)
  else
    held[i] = match(call('GET', key) or '0', '^-?%d+$') + 0
  end
end

local function put_right_bucket(key, owed, per)
  if owed > 0 then
    call('SET', key, format('%.0f %.17g', now, owed), 'PX', ceil(min(owed * per, 1e15) / 1000))
  else
    call('DEL', key)
  end
end

-- At the time it was taken; what has left the window since changes nothing.
local function put_right_window(key, at, was, is)
  call('ZREM', key, member(was))
  if is > 0 then call('ZADD', key, at, member(is)) end
  if call('ZCARD', key) > 1 then call('ZINCRBY', key, was - is, '=') else call('DEL', key) end
end

-- A refund never makes more of a budget than it was, should its key have expired or been lost.
local function put_right_budget(key, spent, change, per)
  change = max(change, -max(0, spent))
  if change ~= 0 and call('INCRBY', key, change) == change then call('PEXPIRE', key, per) end
end

if not call('SET', KEYS[1], '', 'NX', 'PX', 120000) then return 0 end
if row ~= '' then
  if is_late then row = string.sub(row, 1, -2) .. ',"late":true}' end
  local written = redis.pcall('XADD', KEYS[5], 'MAXLEN', '~', ARGV[rest + 1], '*', 'r', row)
  if type(written) == 'table' and written.err then
    call('DEL', KEYS[1])
    return written
  end
  if now % 128 == 0 then call('XTRIM', KEYS[5], 'MINID', '~', floor(now / 1000) - ARGV[rest + 2]) end
end

if is_reserved then call('HDEL', KEYS[2], id) end
if is_known then call('ZREM', KEYS[is_reserved and 3 or 4], id) end
for i = 1, lines do
  local key, kind, unit = KEYS[i + 5], ARGV[4 * i - 3], ARGV[4 * i - 2]
  local was, is, per = reserved[unit], actual[unit], tonumber(ARGV[4 * i])
  if kind == '$' then
    put_right_budget(key, held[i], taken and is - was or is, per)
  elseif kind == 'l' then
    if held[i] then call('ZREM', key, id) end
  elseif is ~= was then
    if kind == 'w' then
      if held[i] then put_right_window(key, held[i], was, is) end
    elseif taken then
      put_right_bucket(key, held[i] + is - was, per)
    end
  end
end
return is_late and 2 or 1
