-- What workers measured of a canary is added up, and what was decided of it is kept.
--
-- KEYS  1 hash of the experiment: run, decision, and the sums by name; 2 the last batch of this worker (exchange), or
--       the list of the route's records, the newest first (decide, restart)
-- ARGV  1 what; 2 the run that the caller knows; then
--       exchange: 3 the batch's number; 4, 5, … each sum's name and what is added to it
--       decide:   3 the record; 4 '1' if it replaces another; 5 how many records are kept
--       restart:  3 the record; 4 ''; 5 as above
-- Reply the hash, flat. Of another run than the kept one nothing is done; an earlier one than the caller's is dropped,
--       as what came after it was lost.

local call = redis.call
local hash, what, run = KEYS[1], ARGV[1], tonumber(ARGV[2])
local kept = tonumber(call('HGET', hash, 'run') or 0)
if kept < run then
  call('DEL', hash)
  call('HSET', hash, 'run', run)
  kept = run
end

local function note(record)
  call('LPUSH', KEYS[2], record)
  call('LTRIM', KEYS[2], 0, ARGV[5] - 1)
  call('EXPIRE', KEYS[2], 34560000)
end

if kept == run then
  if what == 'exchange' then
    if tonumber(call('GET', KEYS[2]) or 0) < tonumber(ARGV[3]) then
      call('SET', KEYS[2], ARGV[3], 'EX', 86400)
      for i = 4, #ARGV, 2 do call('HINCRBYFLOAT', hash, ARGV[i], ARGV[i + 1]) end
    end
  elseif what == 'decide' then
    if ARGV[4] == '1' or call('HEXISTS', hash, 'decision') == 0 then
      call('HSET', hash, 'decision', ARGV[3])
      note(ARGV[3])
    end
  else
    call('DEL', hash)
    call('HSET', hash, 'run', run + 1)
    note(ARGV[3])
  end
end
call('EXPIRE', hash, 34560000)  -- 400 days
return call('HGETALL', hash)
