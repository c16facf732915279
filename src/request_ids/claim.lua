-- Claims a request id for a write.
--
-- KEYS[1]: record of the id.
-- ARGV: version of the record, digest of the content, token of the claim, lease and time to live in
-- milliseconds, maximum size in bytes of a result in the response.
--
-- Returns a status, the number of parts of the result, and the result if it is small. The claim is valid
-- for the statuses new, open and interrupted.

local version, content, token = ARGV[1], ARGV[2], ARGV[3]
local lease, time_to_live, inline = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local record = redis.call('HMGET', KEYS[1], 'version', 'content', 'token', 'until', 'final', 'parts')
local known = { version = record[1], content = record[2], token = record[3], final = record[5] }
local held_until, parts = tonumber(record[4] or 0), tonumber(record[6] or 0)

local function claim()
  local until_ = string.format('%.0f', now + lease)
  redis.call('HSET', KEYS[1], 'version', version, 'content', content, 'token', token, 'until', until_)
  redis.call('PEXPIRE', KEYS[1], time_to_live)
end

local function result(status)
  if parts == 1 then
    local part = redis.call('HGET', KEYS[1], 'part0') or ''
    if #part <= inline then
      return { status, 0, part }
    end
  end
  return { status, parts, '' }
end

if not known.version then
  claim()
  return { 'new', 0, '' }
end
if known.version ~= version then
  return { 'version', 0, '' }
end
if known.content ~= content then
  return { 'content', 0, '' }
end
if known.final then
  return result('final')
end
if known.token and held_until > now then
  return { 'held', 0, '' }
end
claim()
return result(known.token and 'interrupted' or 'open')
