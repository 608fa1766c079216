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
-- with the last second of a Redis that was killed. Then only budgets are charged, with all that it was.

local call, match, format = redis.call, string.match, string.format
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
if not call('SET', KEYS[1], '', 'NX', 'PX', 120000) then return 0 end

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local lines = #KEYS - 5
local rest = 4 * lines
local id, row = ARGV[rest + 3], ARGV[rest + 6]
local r1, r2, r3, r4, a1, a2, a3, a4 =
  match(ARGV[rest + 5], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
local reserved = { ['1'] = min(r1, 1e15), ['2'] = min(r2, 1e15), ['3'] = min(r3, 1e15), ['4'] = min(r4, 1e15) }
local actual = { ['1'] = min(a1, 1e15), ['2'] = min(a2, 1e15), ['3'] = min(a3, 1e15), ['4'] = min(a4, 1e15) }

local outcome, taken = 1, true
if call('HDEL', KEYS[2], id) == 1 then
  call('ZREM', KEYS[3], id)
elseif call('ZREM', KEYS[4], id) == 1 then
  outcome = 2
else
  taken = row == '' and ARGV[rest + 4] == '1'
end

local function put_right_bucket(key, change, per)
  local owed, state = 0, call('GET', key)
  if state then
    local at, then_owed = match(state, '^(%d+) (%S+)$')
    owed = max(0, then_owed - max(0, now - at) / per)
  end
  owed = owed + change
  if owed > 0 then
    call('SET', key, format('%.0f %.17g', now, owed), 'PX', ceil(min(owed * per, 1e15) / 1000))
  else
    call('DEL', key)
  end
end

-- At the time it was taken; what has left the window since changes nothing.
local function put_right_window(key, was, is)
  local member = format('%.0f:', was) .. id
  local at = call('ZSCORE', key, member)
  if not at then return end
  call('ZREM', key, member)
  if is > 0 then call('ZADD', key, at, format('%.0f:', is) .. id) end
  if call('ZCARD', key) > 1 then call('ZINCRBY', key, was - is, '=') else call('DEL', key) end
end

-- A refund never makes more of a budget than it was, should its key have expired or been lost.
local function put_right_budget(key, change, per)
  if change < 0 then change = max(change, -(call('GET', key) or 0)) end
  if change ~= 0 and call('INCRBY', key, change) == change then call('PEXPIRE', key, per) end
end

for i = 1, lines do
  local key, kind, unit = KEYS[i + 5], ARGV[4 * i - 3], ARGV[4 * i - 2]
  local was, is, per = reserved[unit], actual[unit], tonumber(ARGV[4 * i])
  if kind == '$' then
    put_right_budget(key, taken and is - was or is, per)
  elseif taken and kind == 'l' then
    call('ZREM', key, id)
  elseif taken and is ~= was then
    if kind == 'b' then put_right_bucket(key, is - was, per) else put_right_window(key, was, is) end
  end
end

if row ~= '' then
  if outcome == 2 then row = string.sub(row, 1, -2) .. ',"late":true}' end
  call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[rest + 1], '*', 'r', row)
  if now % 128 == 0 then call('XTRIM', KEYS[5], 'MINID', '~', floor(now / 1000) - ARGV[rest + 2]) end
end
return outcome
