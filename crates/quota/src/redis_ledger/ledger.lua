-- One exchange of a replica with the ledger of one limit: reports on its permits, limits that HubSpot
-- announced, and permits for its next calls. All times are milliseconds by this server's clock; the
-- response has microseconds. The score of a slot is the latest time at which HubSpot counts its call.
--
-- KEYS: meta (facts about the limit), slots in the window, slots in the second, replicas by last
-- exchange, detached replicas by last exchange, waiting replicas by latest time of their next request.
local meta, long, short, replicas, detached, waiting = unpack(KEYS)
local request = cjson.decode(ARGV[1])

local SECOND = 1000
local PART_A_SECOND = 10
-- Learned limits below this one have less than ten calls in a tenth of them.
local SMALL = 100
-- Time for which a new ledger grants nothing: replicas report to it within half of that time.
local WARM_UP = 2500
-- Time without an exchange after which a replica counts as lost. Most lost replicas have died, and their
-- permits are counted until they have left the window. If one is alive without the ledger, HubSpot's
-- responses show its calls.
local SILENT = 900
-- Calls of a lost replica that are not known yet. At most this part of the limit is reserved for them at
-- first, and nothing after one window.
local PART_OF_LOST = 28
-- While HubSpot counts calls that no replica has reported, a lost replica may be the cause. This part of the
-- limit stays free beside them, so that more of them are seen.
local PART_OF_SEEN = 20
-- Time without an exchange after which a replica is forgotten.
local DEAD = 60000
-- Maximum time between grant and validity of a permit: too much can change until then.
local MAX_AHEAD = 2000
-- Lateness that later permits make up for while they are spaced, or half a gap if that is more.
local CATCH_UP = 25
-- Maximum interval between the requests of a waiting replica.
local RETRY = 300
local TENTHS = 10
-- Time after which unused keys expire.
local EXPIRY = 3600000

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000

local function text(number) return string.format('%.3f', number) end

local stored = redis.call('HMGET', meta, 'size', 'window', 'born', 'closed', 'external', 'observed', 'seq', 'last', 'cap_window', 'cap_second')
local size = tonumber(stored[1]) or request.size
local window = tonumber(stored[2]) or request.window
local born = tonumber(stored[3]) or now
local closed = tonumber(stored[4]) or 0
local external = tonumber(stored[5]) or 0
local observed_at = tonumber(stored[6]) or 0
local seq = tonumber(stored[7]) or 0
local last = tonumber(stored[8]) or 0
-- Limits learned from 429s; 0 if there are none.
local cap_window = tonumber(stored[9]) or 0
local cap_second = tonumber(stored[10]) or 0

-- Membership.
if request.leave then
  redis.call('ZREM', replicas, request.replica)
else
  redis.call('ZADD', replicas, text(now), request.replica)
end
redis.call('ZREMRANGEBYSCORE', replicas, '-inf', text(now - DEAD))
local known = redis.call('ZCARD', replicas)
if request.detached and not request.leave then
  redis.call('ZADD', detached, text(now), request.replica)
else
  redis.call('ZREM', detached, request.replica)
end
redis.call('ZREMRANGEBYSCORE', detached, '-inf', text(now - SILENT))
local without_ledger = redis.call('ZCARD', detached)
-- Other replicas that take permits from the ledger.
local connected = redis.call('ZCOUNT', replicas, '(' .. text(now - SILENT), '+inf')
if not request.leave then connected = connected - 1 end
local others_detached = without_ledger
if request.detached and not request.leave then others_detached = others_detached - 1 end
local live_others = math.max(0, connected - others_detached)

-- Reports on permits.
for _, slot in ipairs(request.slots) do
  local name = request.replica .. ':' .. slot.number
  if slot.window then
    seq = seq + redis.call('ZADD', long, text(slot.window), name)
    if request.paced then redis.call('ZADD', short, text(slot.second), name) end
  else
    redis.call('ZREM', long, name)
    redis.call('ZREM', short, name)
  end
end

-- Limits that HubSpot announced: calls that no replica has reported are those of other clients.
if request.observed then
  size = request.observed.size
  window = request.observed.window
  external = math.max(0, request.observed.used - math.max(0, seq - request.observed.oldest))
  observed_at = now
end
if request.learned then
  cap_window = request.learned.window
  cap_second = request.learned.second
end
if request.close then closed = math.max(closed, now + request.close) end

redis.call('ZREMRANGEBYSCORE', long, '-inf', text(now - window))
redis.call('ZREMRANGEBYSCORE', short, '-inf', text(now - SECOND))

-- Calls that the replicas may have in the window and in the second. Calls of other clients can be those
-- of replicas without the ledger, hence the larger of both.
local allowed = cap_window > 0 and math.min(size, cap_window) or size
local others = external * math.max(0, 1 - (now - observed_at) / window)
local lost_since = text(now - SILENT - window)
local sharing = math.max(1, redis.call('ZCOUNT', replicas, '(' .. lost_since, '+inf'))
local lost = redis.call('ZREVRANGEBYSCORE', replicas, text(now - SILENT), '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
local unknown = 0
if lost[2] then
  local lost_now = redis.call('ZCOUNT', replicas, '(' .. lost_since, text(now - SILENT))
  -- The replica that was lost last.
  local age = (now - SILENT - tonumber(lost[2])) / window
  unknown = allowed * math.min(lost_now / sharing, 1 / PART_OF_LOST) * math.max(0, 1 - age)
  if others >= 1 then unknown = allowed / PART_OF_SEEN end
end
local reserved = allowed * without_ledger / sharing
local in_window = math.max(1, math.floor(allowed - math.max(others + unknown, reserved)))
-- The limit of a second does not count calls that lost replicas may make.
local known_rest = math.max(1, math.floor(allowed - math.max(others, reserved)))
-- That of a small learned limit is rounded up: rounding down would leave much of it unused.
local is_small = cap_window > 0 and known_rest < SMALL
local round = is_small and math.ceil or math.floor
local in_second = math.max(1, round(known_rest / PART_A_SECOND))
-- Permits of a small limit are spaced over the window, so that it needs no limit of a second: that would
-- count a permit until its replica reports the call, which is long beside so few calls.
local has_own_second = cap_second > 0 and cap_second < in_second
local is_paced = request.paced and (not is_small or has_own_second)
if has_own_second then in_second = cap_second end
-- Time between two permits that are spaced evenly, in whole microseconds, as all stored times.
local gap = is_paced and SECOND / in_second or window / in_window
gap = math.floor(gap * 1000) / 1000

local function fits(slots, limit, length)
  local nth = redis.call('ZREVRANGE', slots, limit - 1, limit - 1, 'WITHSCORES')
  return nth[2] and tonumber(nth[2]) + length or 0
end

-- While other replicas wait, permits are spaced evenly, so that each replica gets some. A replica asks for
-- that while requests of several callers wait. After the loss of a replica it makes room for its calls.
-- An exchange that requests no permit is a report only: its replica may still wait.
redis.call('ZREMRANGEBYSCORE', waiting, '-inf', text(now))
if request.want > 0 or request.leave then redis.call('ZREM', waiting, request.replica) end
local others_wait = redis.call('ZCARD', waiting) > (redis.call('ZSCORE', waiting, request.replica) and 1 or 0)

-- Time at which one more call fits into its windows.
local function opens()
  local at = math.max(now, closed, fits(long, in_window, window))
  if is_paced then at = math.max(at, fits(short, in_second, SECOND)) end
  if request.spread or others_wait or lost[2] then at = math.max(at, last + gap) end
  return at
end

local function is_quiet()
  local busy = redis.call('ZCARD', long) * 2 >= in_window
  return not busy and not (is_paced and redis.call('ZCARD', short) * 2 >= in_second)
end

local granted = {}
local warming = now - born < WARM_UP
local wanted = warming and 0 or request.want + request.spare
for index = 1, wanted do
  local at = opens()
  local is_spare = index > request.want
  if is_spare and (at > now or not is_quiet()) then break end
  if at > now and (not request.ahead or #granted > 0 or at > now + MAX_AHEAD) then break end
  local name = request.replica .. ':' .. string.format('%d', request.first + index - 1)
  local used_by = at + (is_spare and request.spare_hold or request.hold)
  redis.call('ZADD', long, text(used_by + request.transit_window), name)
  if request.paced then redis.call('ZADD', short, text(used_by + request.transit_second), name) end
  seq = seq + 1
  local planned = last + gap
  last = planned > at - math.max(CATCH_UP, gap / 2) and math.min(planned, at) or at
  granted[#granted + 1] = math.ceil(at * 1000)
  if at > now then break end
end

-- A replica that got a permit for later waits as well.
local last_granted = granted[#granted] and granted[#granted] / 1000 or now
local next = opens()
if not warming and (#granted < request.want or last_granted > now) then
  redis.call('ZADD', waiting, text(math.max(next, last_granted) + RETRY), request.replica)
end

redis.call('HSET', meta, 'size', size, 'window', window, 'born', text(born), 'closed', text(closed),
  'external', external, 'observed', text(observed_at), 'seq', seq, 'last', text(last),
  'cap_window', cap_window, 'cap_second', cap_second)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, EXPIRY) end

local slots = redis.call('ZCARD', long)
local response = {
  math.floor(now * 1000), warming and 1 or 0, known, math.floor(slots + others), size, math.floor(window * 1000),
  math.floor(math.max(0, closed - now) * 1000), math.max(0, seq - slots),
  math.ceil(next * 1000), live_others, cap_window, cap_second, redis.call('ZCARD', short)
}
-- Slots that leave the window in each tenth of it from now on.
for part = 1, TENTHS do
  local from = part == 1 and '-inf' or '(' .. text(now - window + window * (part - 1) / TENTHS)
  local to = part == TENTHS and '+inf' or text(now - window + window * part / TENTHS)
  response[#response + 1] = redis.call('ZCOUNT', long, from, to)
end
for _, at in ipairs(granted) do response[#response + 1] = at end
return response
