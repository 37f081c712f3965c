"""What is done to held messages in the store: each change of state is one script.

Keys of a partition's outbox, all under its prefix o (`{k7}:o:`):

    o:m:ID        hash   a message: state, rev, user, name (message_id), message, payload, expires,
                         campaign, added, tries, again, cancel, decision, reserved, reason, ended
    o:u:USER      hash   message_id -> ID, a colon, expires; makes a message handed over twice one
    o:c:CAMPAIGN  set    IDs of the campaign that have not ended
    o:due         zset   ID -> when to look at it next: every message that has not ended
    o:ready       zset   ID -> when it may be handed out: now, or when a lease is over
    o:n           hash   how many were accepted, handed out, and came to each end

`rev` counts a message's changes: whoever took it writes only if nobody has changed it since. The
store's clock is the only one. Keys are made in the scripts from o, whose tag puts them all in one
slot. All scripts: KEYS o, and x (`{k7}:x:`, erasures asked for).
"""

from __future__ import annotations

from engine.times import DAY_MS

KEPT_MS = DAY_MS  # a message that has ended can be looked up for so long
FORGOTTEN_MS = 2 * DAY_MS  # after it expired, whatever became of those who look
MOST_A_PERSON = 1000  # messages, of which one may have been told since
UNUSABLE_MS = 5000  # before a decision that came too late is asked for anew
ID_LENGTH = 26

# Ends a message. It stays to be looked up, without what was to be sent.
FINISH = """
local function finish(o, id, state, reason, now)
  local m = o .. 'm:' .. id
  local campaign = redis.call('HGET', m, 'campaign')
  if campaign and campaign ~= '' then redis.call('SREM', o .. 'c:' .. campaign, id) end
  redis.call('ZREM', o .. 'due', id)
  redis.call('ZREM', o .. 'ready', id)
  redis.call('HDEL', m, 'payload', 'again', 'cancel')
  redis.call('HSET', m, 'state', state, 'reason', reason, 'ended', now)
  redis.call('HINCRBY', m, 'rev', 1)
  redis.call('PEXPIRE', m, $KEPT)
  redis.call('HINCRBY', o .. 'n', state, 1)
end
local function ended(state)
  return state ~= 'waiting' and state ~= 'ready' and state ~= 'delivering'
end
""".replace("$KEPT", str(KEPT_MS))

# For the fold's own commit. A person's waiting messages are due: their situation is another. A
# message that went out, as a `push` event tells, is delivered, whoever sent it; one that failed has
# lost its reservation, and waits.
HEARD = (
    FINISH
    + """
local function stirred(o, user, now)
  for _, value in ipairs(redis.call('HVALS', o .. 'u:' .. user)) do
    local id = string.sub(value, 1, $ID)
    if redis.call('HGET', o .. 'm:' .. id, 'state') == 'waiting' then
      redis.call('HSET', o .. 'm:' .. id, 'again', 1)
      redis.call('HINCRBY', o .. 'm:' .. id, 'rev', 1)
      redis.call('ZADD', o .. 'due', now, id)
    end
  end
end
local function told(o, user, name, status, now)
  local value = redis.call('HGET', o .. 'u:' .. user, name)
  if not value then return end
  local id = string.sub(value, 1, $ID)
  local state = redis.call('HGET', o .. 'm:' .. id, 'state')
  if not state or ended(state) then return end
  if status ~= 'failed' then finish(o, id, 'delivered', 'reported', now)
  elseif state ~= 'waiting' then
    redis.call('HSET', o .. 'm:' .. id, 'state', 'waiting', 'again', 1)
    redis.call('HINCRBY', o .. 'm:' .. id, 'rev', 1)
    redis.call('ZREM', o .. 'ready', id)
    redis.call('ZADD', o .. 'due', now, id)
  end
end
""".replace("$ID", str(ID_LENGTH))
)

_NOW = """
local o, x = KEYS[1], KEYS[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
_BEGIN = FINISH + _NOW

# ARGV: for each message its ID, user, message_id, message, payload, expiry, first look, campaign.
# Answers for each: 1 taken, 0 known, 2 too many wait for this person, 3 they are being erased.
ADD = (
    _NOW
    + """
local function keep(key, ms)
  if redis.call('PTTL', key) < ms - now then redis.call('PEXPIREAT', key, ms) end
end
local function room(u)
  if redis.call('HLEN', u) < $MOST then return true end
  local told = redis.call('HGETALL', u)
  for i = 1, #told, 2 do
    if tonumber(string.sub(told[i + 1], $ID + 2)) <= now then redis.call('HDEL', u, told[i]) end
  end
  return redis.call('HLEN', u) < $MOST
end
local done = {}
for i = 1, #ARGV, 8 do
  local id, user, name, expires, campaign = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5],
    ARGV[i + 7]
  local u, m = o .. 'u:' .. user, o .. 'm:' .. id
  local last = expires + $FORGOTTEN
  if redis.call('EXISTS', x .. user) == 1 then done[#done + 1] = 3
  elseif redis.call('HEXISTS', u, name) == 1 then done[#done + 1] = 0
  elseif not room(u) then done[#done + 1] = 2
  else
    redis.call('HSET', m, 'state', 'waiting', 'rev', 1, 'user', user, 'name', name,
      'message', ARGV[i + 3], 'payload', ARGV[i + 4], 'expires', expires, 'campaign', campaign,
      'added', now, 'tries', 0)
    redis.call('PEXPIREAT', m, last)
    redis.call('HSET', u, name, id .. ':' .. expires)
    keep(u, last)
    if campaign ~= '' then
      redis.call('SADD', o .. 'c:' .. campaign, id)
      keep(o .. 'c:' .. campaign, last)
    end
    redis.call('ZADD', o .. 'due', math.max(now, ARGV[i + 6]), id)
    redis.call('HINCRBY', o .. 'n', 'accepted', 1)
    done[#done + 1] = 1
  end
end
return done
""".replace("$MOST", str(MOST_A_PERSON))
    .replace("$ID", str(ID_LENGTH))
    .replace("$FORGOTTEN", str(FORGOTTEN_MS))
)

# Whether something is due, and whether something can be handed out.
PEEK = (
    _NOW
    + """
local function first(key)
  return #redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 1)
end
return {first(o .. 'due'), first(o .. 'ready')}
"""
)

# Take what is due, a person's messages together, for a while: who dies with them loses them then.
# What is due and was ready has lost its reservation. ARGV: how many persons' at least, lease ms.
# Answers: now, then for each ID, rev, user, message, whether it is asked again before its time.
TAKE = (
    _BEGIN
    + """
local taken = {now}
local function take(id)
  local m = o .. 'm:' .. id
  local f = redis.call('HMGET', m, 'state', 'expires', 'cancel', 'again', 'user', 'message')
  if not f[1] then
    redis.call('ZREM', o .. 'due', id)
    redis.call('ZREM', o .. 'ready', id)
    redis.call('HINCRBY', o .. 'n', 'expired', 1)
  elseif tonumber(f[2]) <= now then finish(o, id, 'expired', 'expired', now)
  elseif f[3] then finish(o, id, 'cancelled', 'cancelled', now)
  else
    redis.call('ZREM', o .. 'ready', id)
    redis.call('ZADD', o .. 'due', now + ARGV[2], id)
    redis.call('HSET', m, 'state', 'waiting')
    local again = (f[4] or f[1] ~= 'waiting') and 1 or 0
    for _, v in ipairs({id, redis.call('HINCRBY', m, 'rev', 1), f[5], f[6], again}) do
      taken[#taken + 1] = v
    end
  end
  return f[5]
end
local function is_due(id)
  local at = redis.call('ZSCORE', o .. 'due', id)
  return at and tonumber(at) <= now
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', o .. 'due', '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local user = is_due(id) and take(id)
  if user then
    for _, value in ipairs(redis.call('HVALS', o .. 'u:' .. user)) do
      local other = string.sub(value, 1, $ID)
      if is_due(other) then take(other) end
    end
  end
end
return taken
""".replace("$ID", str(ID_LENGTH))
)

# ARGV: for each message its ID, rev, action (or `sent`: it went out already), until when (reserved
# or held), decision, reason.
# Answers for each whether it was written: not where it was changed or ended in the meantime.
SETTLE = (
    _BEGIN
    + """
local done = {}
for i = 1, #ARGV, 6 do
  local id, action, till = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3])
  local m = o .. 'm:' .. id
  local f = redis.call('HMGET', m, 'rev', 'state', 'expires')
  if f[1] ~= ARGV[i + 1] or ended(f[2]) then done[#done + 1] = 0
  else
    local expires = tonumber(f[3])
    redis.call('HINCRBY', m, 'rev', 1)
    redis.call('HDEL', m, 'again')
    redis.call('HSET', m, 'decision', ARGV[i + 4])
    if action == 'drop' then finish(o, id, 'dropped', ARGV[i + 5], now)
    elseif action == 'sent' then finish(o, id, 'delivered', 'reported', now)
    elseif action == 'hold' then
      redis.call('ZADD', o .. 'due', math.min(math.max(till, now + 1000), expires), id)
    elseif till <= now then
      redis.call('HSET', m, 'again', 1)
      redis.call('ZADD', o .. 'due', math.min(now + $UNUSABLE, expires), id)
    else
      redis.call('HSET', m, 'state', 'ready', 'reserved', till)
      redis.call('ZADD', o .. 'due', math.min(till, expires), id)
      redis.call('ZADD', o .. 'ready', now, id)
    end
    done[#done + 1] = 1
  end
end
return done
""".replace("$UNUSABLE", str(UNUSABLE_MS))
)

# Hand out what is ready, or was handed out and not acknowledged in time, while its reservation
# lasts. ARGV: how many, lease ms. Answers for each: ID, rev, user, message_id, payload, decision,
# how often it was handed out, and until when it is theirs.
HAND_OUT = (
    _BEGIN
    + """
local given = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', o .. 'ready', '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local m = o .. 'm:' .. id
  local f = redis.call('HMGET', m, 'state', 'expires', 'reserved', 'cancel', 'user', 'name',
    'payload', 'decision')
  local till = f[1] and math.min(now + ARGV[2], f[3], f[2])
  if f[1] and f[4] then finish(o, id, 'cancelled', 'cancelled', now)
  elseif not f[1] or till <= now or redis.call('EXISTS', x .. f[5]) == 1 then
    redis.call('ZREM', o .. 'ready', id)
  else
    local rev, tries = redis.call('HINCRBY', m, 'rev', 1), redis.call('HINCRBY', m, 'tries', 1)
    redis.call('HSET', m, 'state', 'delivering')
    redis.call('ZADD', o .. 'ready', till, id)
    redis.call('HINCRBY', o .. 'n', 'handed_out', 1)
    for _, v in ipairs({id, rev, f[5], f[6], f[7], f[8], tries, till}) do
      given[#given + 1] = v
    end
  end
end
return given
"""
)

# A delivery failed: not before so many ms again. ARGV: ID, rev, ms.
LATER = (
    _BEGIN
    + """
local m = o .. 'm:' .. ARGV[1]
local f = redis.call('HMGET', m, 'rev', 'cancel')
if f[1] ~= ARGV[2] then return 0 end
if f[2] then finish(o, ARGV[1], 'cancelled', 'cancelled', now)
else
  redis.call('HINCRBY', m, 'rev', 1)
  redis.call('HSET', m, 'state', 'ready')
  redis.call('ZADD', o .. 'ready', now + ARGV[3], ARGV[1])
end
return 1
"""
)

# A message to an id that leads on to this person: theirs too, unless they have the same from
# elsewhere. ARGV: user, message_id, ID, expiry. Answers 1 if it is theirs.
JOIN = """
local u, value = KEYS[1] .. 'u:' .. ARGV[1], ARGV[3] .. ':' .. ARGV[4]
if redis.call('HSETNX', u, ARGV[2], value) == 1 then
  local t = redis.call('TIME')
  local last = ARGV[4] + $FORGOTTEN
  if redis.call('PTTL', u) < last - t[1] * 1000 then redis.call('PEXPIREAT', u, last) end
  return 1
end
return redis.call('HGET', u, ARGV[2]) == value and 1 or 0
""".replace("$FORGOTTEN", str(FORGOTTEN_MS))

# What went out went out, even where it ended otherwise in the meantime. ARGV: IDs.
ACK = (
    _BEGIN
    + """
local done = {}
for i, id in ipairs(ARGV) do
  local f = redis.call('HMGET', o .. 'm:' .. id, 'state', 'tries', 'user', 'name')
  done[i] = f[1] and tonumber(f[2]) > 0 and {f[3], f[4]} or 0
  if done[i] ~= 0 and f[1] ~= 'delivered' then finish(o, id, 'delivered', 'acknowledged', now) end
end
return done
"""
)

_CANCEL = """
local function cancel(id)
  local m = o .. 'm:' .. id
  local state = redis.call('HGET', m, 'state')
  if state == 'waiting' or state == 'ready' then
    finish(o, id, 'cancelled', 'cancelled', now)
    return 1
  end
  if state == 'delivering' then redis.call('HSET', m, 'cancel', 1) end
  return state == 'delivering' and 2 or 0
end
"""

# ARGV: user, message_id, 1 to cancel it. Answers with its fields and its ID, as it stands then.
FIND = (
    _BEGIN
    + _CANCEL
    + """
local value = redis.call('HGET', o .. 'u:' .. ARGV[1], ARGV[2])
if not value then return {} end
local id = string.sub(value, 1, $ID)
if ARGV[3] == '1' then cancel(id) end
local found = redis.call('HGETALL', o .. 'm:' .. id)
if #found > 0 then
  found[#found + 1] = 'id'
  found[#found + 1] = id
end
return found
""".replace("$ID", str(ID_LENGTH))
)

# ARGV: campaign, how many. Answers how many were looked at, cancelled, and are out already: these
# are not handed out again.
CANCEL_CAMPAIGN = (
    _BEGIN
    + _CANCEL
    + """
local ids = redis.call('SPOP', o .. 'c:' .. ARGV[1], ARGV[2])
local counts = {#ids, 0, 0}
for _, id in ipairs(ids) do
  local done = cancel(id)
  if done > 0 then counts[done + 1] = counts[done + 1] + 1 end
end
return counts
"""
)

# Forget a person's messages. ARGV: user. Answers how many there were.
FORGET = """
local o, count = KEYS[1], 0
for _, value in ipairs(redis.call('HVALS', o .. 'u:' .. ARGV[1])) do
  local id = string.sub(value, 1, $ID)
  local campaign = redis.call('HGET', o .. 'm:' .. id, 'campaign')
  if campaign and campaign ~= '' then redis.call('SREM', o .. 'c:' .. campaign, id) end
  redis.call('ZREM', o .. 'due', id)
  redis.call('ZREM', o .. 'ready', id)
  count = count + redis.call('DEL', o .. 'm:' .. id)
end
redis.call('DEL', o .. 'u:' .. ARGV[1])
return count
""".replace("$ID", str(ID_LENGTH))
