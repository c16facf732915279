-- Ends a claim: keeps the result, removes the record or ends the lease.
--
-- KEYS[1]: record of the id.
-- ARGV: version of the record, digest of the content, token of the claim, time to live in milliseconds,
-- ending (final, open, forget or interrupt), parts of the result.
--
-- Returns 1, or 0 if the record belongs to another claim, has other content or a final result.

local version, content, token, time_to_live, ending = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local record = redis.call('HMGET', KEYS[1], 'version', 'content', 'token', 'until', 'final')
if record[1] then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local is_held = record[3] and record[3] ~= token and tonumber(record[4]) > now
  if record[1] ~= version or record[2] ~= content or record[5] or is_held then
    return 0
  end
end

if ending == 'forget' then
  redis.call('DEL', KEYS[1])
elseif ending == 'interrupt' then
  if record[1] then
    redis.call('HSET', KEYS[1], 'token', token, 'until', 0)
  end
else
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'version', version, 'content', content, 'parts', #ARGV - 5)
  if ending == 'final' then
    redis.call('HSET', KEYS[1], 'final', 1)
  end
  for number = 6, #ARGV do
    redis.call('HSET', KEYS[1], 'part' .. (number - 6), ARGV[number])
  end
  redis.call('PEXPIRE', KEYS[1], time_to_live)
end
return 1
