-- Who answers a request for everybody that asks the same.
-- KEYS[1]: the lock. ARGV: what to do, the holder's name, for how many ms; to take: whose lock may be taken over, or ''.
-- A holder's name begins with the 16 characters of its worker's.
-- take: returns false, with the lock taken, or who holds it. hold: for longer, also if it was lost but nobody has it;
-- returns 1 or 0. leave: returns 1 if it was held, or 0.
local holder = redis.call('GET', KEYS[1])
local ours = holder == ARGV[2]
if ARGV[1] == 'leave' then
  return ours and redis.call('DEL', KEYS[1]) or 0
end
if ARGV[1] == 'take' then
  if holder and holder ~= ARGV[4] and string.sub(holder, 1, 16) ~= string.sub(ARGV[2], 1, 16) then
    return holder
  end
elseif holder and not ours then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[1] == 'hold' and 1 or false
