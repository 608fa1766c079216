-- Puts right what admit.lua took for one request, and writes its row of the ledger; once, however often it is asked.
--
-- KEYS  1 the mark that this request was settled; 2 hash of reservations; 3 zset of the same by when they run out;
--       4 zset of those closed as lost; 5 the ledger; from 6 on the lines
-- ARGV  1 the lines as in admit.lua; 2 the most rows to keep; 3 ms to keep them; 4 id; 5 "1" if it was admitted here or
--       "0"; 6 what was reserved and what it was, four doubles each, little-endian; 7 the row or ''
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
local pack, unpack = struct.pack, struct.unpack
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local lines = #KEYS - 5
local packed, id, row = ARGV[1], ARGV[4], ARGV[7]
local r1, r2, r3, r4, a1, a2, a3, a4 = unpack('<dddddddd', ARGV[6])
assert(min(r1, r2, r3, r4, a1, a2, a3, a4) >= 0, 'amounts are at least 0')
local reserved = { min(r1, 1e15), min(r2, 1e15), min(r3, 1e15), min(r4, 1e15) }
local actual = { min(a1, 1e15), min(a2, 1e15), min(a3, 1e15), min(a4, 1e15) }

local is_reserved = call('HEXISTS', KEYS[2], id) == 1
local is_late = not is_reserved and call('ZSCORE', KEYS[4], id)
if is_reserved then call('ZCARD', KEYS[3]) end
local taken = is_reserved or is_late or (row == '' and ARGV[5] == '1')

-- Of each line what it has: of a bucket the tokens owed now, if that changes, and when its key expires (nil: there is
-- none); of a window when it was taken, of a budget what was spent. Of a lease it is enough that it is one.
local held, expires = {}, {}

local function member(cost) return format('%.0f:', cost) .. id end

for i = 1, lines do
  local key = KEYS[i + 5]
  local kind, unit, _, per = unpack('<c1Bdd', packed, 18 * i - 17)
  if kind == 'b' then
    local state = reserved[unit] ~= actual[unit] and call('GET', key)
    held[i] = 0
    if state then
      local at, owed, expires_ms = unpack('<ddd', state)
      held[i], expires[i] = max(0, owed - max(0, now - at) / per), expires_ms
    end
  elseif kind == 'w' then
    held[i] = call('ZSCORE', key, member(reserved[unit]))
  elseif kind == 'l' then
    call('ZCARD', key)
  else
    held[i] = match(call('GET', key) or '0', '^-?%d+$') + 0
  end
end

-- A refund never fills it beyond its burst; a key that is not there stands for a full one, and stays away.
local function put_right_bucket(key, owed, per, expires_ms)
  owed = max(0, owed)
  local owed_ms = ceil(min(owed * per, 1e15) / 1000)
  local idle_ms = floor(now / 1000) + owed_ms
  if expires_ms and idle_ms < expires_ms then
    call('SET', key, pack('<ddd', now, owed, expires_ms), 'KEEPTTL')
  elseif expires_ms or owed > 0 then
    idle_ms = idle_ms + owed_ms + 1000
    call('SET', key, pack('<ddd', now, owed, idle_ms), 'PXAT', idle_ms)
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

if not call('SET', KEYS[1], '', 'NX', 'PX', '120000') then return 0 end
if row ~= '' then
  if is_late then row = string.sub(row, 1, -2) .. ',"late":true}' end
  local written = redis.pcall('XADD', KEYS[5], 'MAXLEN', '~', ARGV[2], '*', 'r', row)
  if type(written) == 'table' and written.err then
    call('DEL', KEYS[1])
    return written
  end
  if now % 128 == 0 then call('XTRIM', KEYS[5], 'MINID', '~', floor(now / 1000) - ARGV[3]) end
end

if is_reserved then
  call('HDEL', KEYS[2], id)
  call('ZREM', KEYS[3], id)
elseif is_late then
  call('ZREM', KEYS[4], id)
end
for i = 1, lines do
  local key = KEYS[i + 5]
  local kind, unit, _, per = unpack('<c1Bdd', packed, 18 * i - 17)
  local was, is = reserved[unit], actual[unit]
  if kind == '$' then
    put_right_budget(key, held[i], taken and is - was or is, per)
  elseif kind == 'l' then
    call('ZREM', key, id)
  elseif is ~= was then
    if kind == 'w' then
      if held[i] then put_right_window(key, held[i], was, is) end
    elseif taken then
      put_right_bucket(key, held[i] + is - was, per, expires[i])
    end
  end
end
return is_late and 2 or 1
