-- Change records of API keys, all of them or none, and give the table a new version.
-- KEYS: the table, its version, the secret's fingerprint.
-- ARGV: our secret's fingerprint, then (digest, before, after) of each edit, with '' for no record.
-- 1: done; 0: a record is not what its edit says; OTHERSECRET: there are records made under another secret.
local records, version, secret = KEYS[1], KEYS[2], KEYS[3]

if redis.call('HLEN', records) > 0 and redis.call('GET', secret) ~= ARGV[1] then
  return redis.error_reply('OTHERSECRET the keys in Redis were hashed under another secret')
end
for i = 2, #ARGV, 3 do
  if (redis.call('HGET', records, ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 2, #ARGV, 3 do
  if ARGV[i + 2] == '' then
    redis.call('HDEL', records, ARGV[i])
  else
    redis.call('HSET', records, ARGV[i], ARGV[i + 2])
  end
end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', version) or '0')
redis.call('SET', version, string.format('%.0f', math.max(last + 1, now[1] * 1000000 + now[2])))
redis.call('SET', secret, ARGV[1])
return 1
