-- One exchange of a replica with the ledger of one limit: what has become of its permits, what
-- HubSpot said, and permits for its next calls. All times are milliseconds by this server's clock,
-- the only one that counts; answers have microseconds. A slot's score is when HubSpot has counted its call at the latest.
--
-- KEYS: the book (facts about the limit), slots by the window, slots by the second, replicas by when
-- they were seen, those that keep to their parts likewise, replicas that wait by when they will have
-- their turn.
local book, long, short, replicas, apart, hungry = unpack(KEYS)
local ask = cjson.decode(ARGV[1])

local SECOND = 1000
local PART_A_SECOND = 10
-- A ledger this new may not have heard of all replicas yet: they come back within half of it.
local WARM = 2500
-- A replica not heard of for so long may go on without us, and gets its part kept ...
local SILENT = 900
-- ... until it is taken for gone. If it is not, HubSpot's answers tell of what it uses.
local GONE = 60000
-- A permit of later than this is not given: too much may change until then.
local FAR = 2000
-- A replica that waits asks again within this time.
local AGAIN = 300
local TENTHS = 10
-- What nobody uses is forgotten.
local KEEP = 3600000

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000

local function text(number) return string.format('%.3f', number) end

local kept = redis.call('HMGET', book, 'size', 'window', 'born', 'closed', 'foreign', 'told', 'seq', 'last')
local size = tonumber(kept[1]) or ask.size
local window = tonumber(kept[2]) or ask.window
local born = tonumber(kept[3]) or now
local closed = tonumber(kept[4]) or 0
local foreign = tonumber(kept[5]) or 0
local told = tonumber(kept[6]) or 0
local seq = tonumber(kept[7]) or 0
local last = tonumber(kept[8]) or 0

-- Who is there.
if ask.leave then
  redis.call('ZREM', replicas, ask.replica)
else
  redis.call('ZADD', replicas, text(now), ask.replica)
end
redis.call('ZREMRANGEBYSCORE', replicas, '-inf', text(now - GONE))
local known = redis.call('ZCARD', replicas)
local silent = redis.call('ZCOUNT', replicas, '-inf', text(now - SILENT))
if ask.detached and not ask.leave then
  redis.call('ZADD', apart, text(now), ask.replica)
else
  redis.call('ZREM', apart, ask.replica)
end
redis.call('ZREMRANGEBYSCORE', apart, '-inf', text(now - SILENT))
-- Of the silent ones one part is kept for all: most of them have died, and come back by other names.
local on_their_own = math.min(silent, 1) + redis.call('ZCARD', apart)

-- What has become of its permits.
for _, slot in ipairs(ask.slots) do
  local name = ask.replica .. ':' .. slot.number
  if slot.window then
    seq = seq + redis.call('ZADD', long, text(slot.window), name)
    if ask.paced then redis.call('ZADD', short, text(slot.second), name) end
  else
    redis.call('ZREM', long, name)
    redis.call('ZREM', short, name)
  end
end

-- What HubSpot said: calls it has counted and nobody here has made are those of others.
if ask.observed then
  size = ask.observed.size
  window = ask.observed.window
  foreign = math.max(0, ask.observed.used - math.max(0, seq - ask.observed.oldest))
  told = now
end
if ask.close then closed = math.max(closed, now + ask.close) end

redis.call('ZREMRANGEBYSCORE', long, '-inf', text(now - window))
redis.call('ZREMRANGEBYSCORE', short, '-inf', text(now - SECOND))

-- How many calls the replicas may have in the window and in the second. What HubSpot says of others
-- may well be those that are on their own.
local others = foreign * math.max(0, 1 - (now - told) / window)
local kept_back = 0
if on_their_own > 0 then kept_back = size * on_their_own / known end
local in_window = math.max(1, math.floor(size - math.max(others, kept_back)))
local in_second = math.max(1, math.floor(in_window / PART_A_SECOND))
-- In whole microseconds, as everything that is kept.
local gap = ask.paced and math.floor(SECOND * 1000 / in_second) / 1000 or 0

local function fits(slots, limit, length)
  local nth = redis.call('ZREVRANGE', slots, limit - 1, limit - 1, 'WITHSCORES')
  return nth[2] and tonumber(nth[2]) + length or 0
end

-- With others waiting, permits go one after the other, so that each has its turn.
redis.call('ZREMRANGEBYSCORE', hungry, '-inf', text(now))
redis.call('ZREM', hungry, ask.replica)
local crowded = redis.call('ZCARD', hungry) > 0

-- When one more call fits: with no more than the limit counted after the beginning of its window.
local function opens()
  local at = math.max(now, closed, fits(long, in_window, window))
  if ask.paced then at = math.max(at, fits(short, in_second, SECOND)) end
  if ask.spread or crowded then at = math.max(at, last + gap) end
  return at
end

local function is_quiet()
  local busy = redis.call('ZCARD', long) * 2 >= in_window
  return not busy and not (ask.paced and redis.call('ZCARD', short) * 2 >= in_second)
end

local granted = {}
local warming = now - born < WARM
local wanted = warming and 0 or ask.want + ask.spare
for index = 1, wanted do
  local at = opens()
  local is_spare = index > ask.want
  if is_spare and (at > now or not is_quiet()) then break end
  if at > now and (not ask.ahead or #granted > 0 or at > now + FAR) then break end
  local name = ask.replica .. ':' .. string.format('%d', ask.first + index - 1)
  local used_by = at + (is_spare and ask.spare_hold or ask.hold)
  redis.call('ZADD', long, text(used_by + ask.reach_window), name)
  if ask.paced then redis.call('ZADD', short, text(used_by + ask.reach_second), name) end
  seq = seq + 1
  last = at
  granted[#granted + 1] = math.ceil(at * 1000)
  if at > now then break end
end

if wanted > 0 and #granted < ask.want then
  redis.call('ZADD', hungry, text(math.max(last, now) + AGAIN), ask.replica)
end

redis.call('HSET', book, 'size', size, 'window', window, 'born', text(born), 'closed', text(closed),
  'foreign', foreign, 'told', text(told), 'seq', seq, 'last', text(last))
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, KEEP) end

local slots = redis.call('ZCARD', long)
local answer = {
  math.floor(now * 1000), warming and 1 or 0, known, math.floor(slots + others), size, math.floor(window * 1000),
  math.floor(math.max(0, closed - now) * 1000), math.max(0, seq - slots),
  math.ceil(opens() * 1000)
}
-- How many slots leave the window in each tenth of it from now on.
for part = 1, TENTHS do
  local from = part == 1 and '-inf' or '(' .. text(now - window + window * (part - 1) / TENTHS)
  local to = part == TENTHS and '+inf' or text(now - window + window * part / TENTHS)
  answer[#answer + 1] = redis.call('ZCOUNT', long, from, to)
end
for _, at in ipairs(granted) do answer[#answer + 1] = at end
return answer
