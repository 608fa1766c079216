-- The version of the table of API keys, the fingerprint of its secret, and all records, at one moment.
-- KEYS: the table, its version, the secret's fingerprint.
return {redis.call('GET', KEYS[2]) or '0', redis.call('GET', KEYS[3]) or '', redis.call('HGETALL', KEYS[1])}
