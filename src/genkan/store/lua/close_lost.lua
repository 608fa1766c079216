-- Writes the drafts of reservations that ran out to the ledger, and remembers for 8 days that it did.
--
-- KEYS  1 zset of reservations by when they run out (ms); 2 hash of reservations, id -> draft; 3 zset of those closed
--       as lost, by when (ms); 4 the ledger
-- ARGV  1 at most so many; 2 the most rows to keep
-- Reply how many rows were written

local call = redis.call
local KEPT_MS = 8 * 24 * 3600 * 1000
local time = call('TIME')
local now_ms = math.floor(time[1] * 1000 + time[2] / 1000)
local closed = 0
for _, id in ipairs(call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, ARGV[1])) do
  local draft = call('HGET', KEYS[2], id)
  if draft then
    call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], '*', 'r', draft)
    call('ZADD', KEYS[3], now_ms, id)
    call('HDEL', KEYS[2], id)
    closed = closed + 1
  end
  call('ZREM', KEYS[1], id)
end
call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now_ms - KEPT_MS)
if closed > 0 then call('PEXPIRE', KEYS[3], KEPT_MS) end
return closed
