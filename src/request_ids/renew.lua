-- Renews the lease of a claim.
--
-- KEYS[1]: record of the id.
-- ARGV: version of the record, digest of the content, token of the claim, lease in milliseconds.
--
-- Returns 1, or 0 if another claim has replaced this one or the write has ended.

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[3] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + tonumber(ARGV[4])))
return 1
