"""Every Redis key and script. The round trips are in engine/redis_store.py.

Keys (k is a partition, or `items`; one hash tag, so one cluster slot, per partition; g is the
generation of the states, which `kairos rebuild` counts up):

    log server
    {k7}:log            stream    entries; field r: records, one JSON object a line
    {k7}:tail           hash      appended (records), archived (position), archived_n (records)
    {items}:ids         hash      item_id -> dense number
    {items}:terms:S     hash      name -> dense number, in the space S (category, action)

    state server
    {k7}:gen            string    the generation that serves
    {k7}:erased         hash      user_id -> erased up to, unix ms (kept for ever)
    {k7}:x:USER         string    an erasure asked for and not yet folded, unix ms
    {k7}:p:USER         string    the person's ledger of pushes (engine.push_ledger); expires
    {k7}:o:*                      held messages: see engine.push_outbox_scripts
    {k7}:g:m            hash      owner, lease, epoch, offset, busy, tries, mark, days, totals
    {k7}:g:u:USER       string    packed UserState (idle users expire, if so set)
    {k7}:g:d:DAY:NNN    set       64-bit hashes of events that arrived that day
    {k7}:g:c:B          hash      item:term -> total, of the items B·64 … B·64 + 63
    {k7}:g:c:modules    hash      @week:situation:term:segment:module_id -> total
    {k7}:g:changes      stream    the changed values of g:c, numbered (#), capped
    {k7}:g:out          list      records to append to other partitions
    {k7}:g:dead         list      records that the fold could not take
    {items}:g:h         hash      item_id -> folded item
    {kairos}:settings   hash      what is fixed for the life of the log (partitions)
    {kairos}:keys       hash      SHA-256 of an API key -> role and name
    {kairos}:erasures   hash      receipt_id -> state of the erasure
    {kairos}:metrics    hash      counters of all processes, by name and labels
    {kairos}:lock:NAME  string    who imports just now (expires)

The folder is the only writer of g:*; it writes in one script, COMMIT, that does nothing unless
epoch and offset are those the folder started from. Sets of plain integers cost 8 bytes an event
as long as a shard stays under `set-max-intset-entries` (the embedded server has 4096), and a
block of item counters stays a listpack, a fifth of a hash table, under
`hash-max-listpack-entries` (512 by default).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from engine.ids import ITEMS
from engine.push_outbox_scripts import HEARD
from engine.store import FIRST_GENERATION

SETTINGS_KEY = "{kairos}:settings"
KEYS_KEY = "{kairos}:keys"
ERASURES_KEY = "{kairos}:erasures"
SHARDS = 1000  # of a day's dedupe bucket: the last three digits of the hash
BLOCK = 64  # items whose counters share a hash
MODULES_BLOCK = "modules"  # takes the place of a block's number
CHANGES_MS = 5000  # a replica that finds a gap in the changes' numbers loads anew
LINES = b"\n"

# ARGV: folder, lease ms, 1 to take the lease from whoever holds it.
CLAIM = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local m = redis.call('HMGET', KEYS[1], 'owner', 'lease', 'busy')
if m[1] ~= ARGV[1] then
  if ARGV[3] == '0' and m[1] and m[1] ~= '' and tonumber(m[2]) > now then return nil end
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
  if m[3] == '1' then redis.call('HINCRBY', KEYS[1], 'tries', 1) end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'busy', '0')
end
redis.call('HSET', KEYS[1], 'lease', now + ARGV[2])
return redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'tries', 'mark', 'days')
"""

RELEASE = """
if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'owner', '', 'busy', '0')
end
"""

# The hashes among ARGV[2…] that stand in a bucket of one of the days in ARGV[1].
KNOWN = """
local found = {}
for i = 2, #ARGV do
  local shard = ':' .. string.sub(ARGV[i], -3)
  for day in string.gmatch(ARGV[1], '%d+') do
    if redis.call('SISMEMBER', KEYS[1] .. day .. shard, ARGV[i]) == 1 then
      found[#found + 1] = ARGV[i]
      break
    end
  end
end
return found
"""

# ARGV: epoch, offset, new offset, lease ms, days, idle ms, folded, duplicates, forgotten, then the
# lengths of the lists that follow: states (user key, value, expiry), hashes (day, hash), counters
# (field, block, increase), outbox, dead, stirred (user), told (user, message_id, status), then
# to the end erased (user, ms).
COMMIT = (
    HEARD
    + """
local meta, prefix = KEYS[1], KEYS[2]
local m = redis.call('HMGET', meta, 'epoch', 'offset')
if m[1] ~= ARGV[1] or (m[2] or '0') ~= ARGV[2] then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local at = 17
for i = 1, ARGV[10] do
  if ARGV[at + 2] == '0' then redis.call('SET', ARGV[at], ARGV[at + 1])
  else redis.call('SET', ARGV[at], ARGV[at + 1], 'PXAT', ARGV[at + 2]) end
  at = at + 3
end
for i = 1, ARGV[11] do
  local shard = ':' .. string.sub(ARGV[at + 1], -3)
  redis.call('SADD', prefix .. 'd:' .. ARGV[at] .. shard, ARGV[at + 1])
  at = at + 2
end
local changed = {'#', ''}
for i = 1, ARGV[12] do
  changed[#changed + 1] = ARGV[at]
  changed[#changed + 1] = redis.call('HINCRBY', prefix .. 'c:' .. ARGV[at + 1],
    ARGV[at], ARGV[at + 2])
  at = at + 3
  if #changed >= 2000 or i == tonumber(ARGV[12]) then
    changed[2] = redis.call('HINCRBY', meta, 'changes', 1)
    redis.call('XADD', prefix .. 'changes', 'MINID', now - $KEPT, '*', unpack(changed))
    changed = {'#', ''}
  end
end
for i = 1, ARGV[13] do
  redis.call('RPUSH', prefix .. 'out', ARGV[at])
  at = at + 1
end
for i = 1, ARGV[14] do
  redis.call('RPUSH', prefix .. 'dead', ARGV[at])
  at = at + 1
end
for i = 1, ARGV[15] do
  stirred(KEYS[4], ARGV[at], now)
  at = at + 1
end
for i = 1, ARGV[16] do
  told(KEYS[4], ARGV[at], ARGV[at + 1], ARGV[at + 2], now)
  at = at + 3
end
while ARGV[at] do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
redis.call('HSET', meta, 'offset', ARGV[3], 'days', ARGV[5], 'busy', '0', 'tries', '0',
  'mark', '-1', 'lease', now + ARGV[4])
redis.call('HINCRBY', meta, 'folded', ARGV[7])
redis.call('HINCRBY', meta, 'duplicates', ARGV[8])
redis.call('HINCRBY', meta, 'forgotten', ARGV[9])
redis.call('HINCRBY', meta, 'dead', ARGV[14])
return 1
""".replace("$KEPT", str(CHANGES_MS))
)

SETTLE = """
if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then
  redis.call('LPOP', KEYS[2], ARGV[2])
end
"""

APPEND = """
redis.call('HINCRBY', KEYS[2], 'appended', ARGV[2])
return redis.call('XADD', KEYS[1], '*', 'r', ARGV[1])
"""

# Dense numbers for names; a new one is appended to the item stream in the same step.
# ARGV: space, arrived ms, names…
INTERN = """
local numbers = {}
for i = 3, #ARGV do
  local n = redis.call('HGET', KEYS[1], ARGV[i])
  if not n then
    n = redis.call('HLEN', KEYS[1])
    redis.call('HSET', KEYS[1], ARGV[i], n)
    local record
    if ARGV[1] == 'item' then
      record = {type = 'item', ts = 0, arrived = tonumber(ARGV[2]), item_id = ARGV[i], item = n}
    else
      record = {type = 'term', ts = 0, arrived = tonumber(ARGV[2]), space = ARGV[1],
        name = ARGV[i], term = n}
    end
    redis.call('HINCRBY', KEYS[3], 'appended', 1)
    redis.call('XADD', KEYS[2], '*', 'r', cjson.encode(record))
  end
  numbers[#numbers + 1] = tonumber(n)
end
return numbers
"""

LOCK = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

COMMIT_ITEMS = """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
if m[1] ~= ARGV[1] or (m[2] or '0') ~= ARGV[2] then return 0 end
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'offset', ARGV[3], 'busy', '0', 'tries', '0',
  'lease', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[4])
return 1
"""

# Ledgers swapped for new ones where nobody else has written since. ARGV: for each key the version
# that was read (eight bytes, empty for none), the new ledger, unix ms of its expiry.
SWAP_LEDGERS = """
local done = {}
for i = 1, #KEYS do
  local at = 3 * i - 2
  if redis.call('GETRANGE', KEYS[i], 0, 7) == ARGV[at] then
    redis.call('SET', KEYS[i], ARGV[at + 1], 'PXAT', ARGV[at + 2])
    done[i] = 1
  else
    done[i] = 0
  end
end
return done
"""

# Swap the generation that serves, and fence whoever still folds the old one.
SWAP = """
if (redis.call('GET', KEYS[1]) or ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('HINCRBY', KEYS[2], 'epoch', 1)
redis.call('HSET', KEYS[2], 'owner', '')
return 1
"""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of one partition's keys in one generation; see the legend above."""

    log: str
    tail: str
    serving: str
    erased: str
    meta: str
    days: str
    counters: str
    changes: str
    out: str
    dead: str
    items: str
    users: str
    forgotten: str
    ledgers: str
    outbox: str
    prefix: str


@functools.lru_cache(maxsize=4096)
def keys_of(partition: int, generation: int = FIRST_GENERATION) -> Keys:
    """The keys of a partition, or of the item stream (engine.ids.ITEMS)."""
    tag = "{items}" if partition == ITEMS else f"{{k{partition}}}"
    prefix = f"{tag}:{generation}:"
    return Keys(
        log=f"{tag}:log",
        tail=f"{tag}:tail",
        serving=f"{tag}:gen",
        erased=f"{tag}:erased",
        meta=prefix + "m",
        days=prefix + "d:",
        counters=prefix + "c:",
        changes=prefix + "changes",
        out=prefix + "out",
        dead=prefix + "dead",
        items=prefix + "h",
        users=prefix + "u:",
        forgotten=f"{tag}:x:",
        ledgers=f"{tag}:p:",
        outbox=f"{tag}:o:",
        prefix=prefix,
    )


def names_key(space: str) -> str:
    """The hash that gives the names of a space (item, category, action) their numbers."""
    return "{items}:ids" if space == "item" else f"{{items}}:terms:{space}"
