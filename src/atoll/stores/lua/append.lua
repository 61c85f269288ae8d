-- Certify a group of transactions and append them, in order, up to the first that conflicts. Each entry is all or nothing; the call
-- may be sent again, because a transaction that the log already contains is recognised by its name.
--
-- KEYS: log, meta, turn.
-- ARGV: 1 generation, 2 base (the replica's position), 3 name of the base's transaction, 4 who asks, 5 ms of the turn after a conflict,
--       6 is 1 for snapshots: who has seen the group must have seen the news, 7 most entries to look through, then six for each transaction: name, keys that it writes,
--       keys that it relies on, payload, the position since which these must be unwritten, and how many of the group it has seen.
-- Returns {status, head before, accepted, entries after the base}. Statuses: OK, CONFLICT (the next one after the accepted), DONE (this
-- call was made before), BEHIND, TURN (another has it), and for a log that is not the replica's: GENERATION, LOST, FORKED, TRIMMED.
local base, width, first = tonumber(ARGV[2]), 8, 8
local generation = redis.call('HGET', KEYS[2], 'generation')
local head = 0
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last > 0 then head = tonumber(string.match(last[1][1], '%d+')) end
if head < base or not generation then return {'LOST', head, 0, {}} end
if generation ~= ARGV[1] then return {'GENERATION', head, 0, {}} end
if base > 0 then
  local own = redis.call('XRANGE', KEYS[1], base .. '-0', base .. '-0')
  if #own == 0 then return {'TRIMMED', head, 0, {}} end
  if own[1][2][2] ~= ARGV[3] then return {'FORKED', head, 0, {}} end
end

local count = (#ARGV - first + 1) / 6
local function of(i, field) return ARGV[first + (i - 1) * 6 + field - 1] end

-- The last entry that wrote each key, among the entries that anyone's reliance reaches back to.
local since = base
for i = 1, count do since = math.min(since, tonumber(of(i, 5))) end
local any = string.rep(string.char(255), width)
local news, written, names = {}, {}, {}
if head > since then
  if head - since > tonumber(ARGV[7]) then return {'BEHIND', head, 0, {}} end
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], (since + 1) .. '-0', '+')) do
    local n, keys = tonumber(string.match(entry[1], '%d+')), entry[2][4]
    if n > base then
      news[#news + 1] = {n, entry[2][2], keys, entry[2][6]}
      names[entry[2][2]] = true
    end
    written[any] = n
    for at = 1, #keys, width do written[string.sub(keys, at, at + width - 1)] = n end
  end
  for i = 1, count do
    if names[of(i, 1)] then
      -- A write that changes nothing: the WAIT after a call waits for the last write of its own connection, which may be a new one.
      redis.call('HSET', KEYS[2], 'generation', generation)
      return {'DONE', head, 0, news}
    end
  end
end

local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[4] then return {'TURN', head, 0, news} end

local n, accepted, group = head, 0, {}
for i = 1, count do
  local relies, from, seen = of(i, 3), tonumber(of(i, 5)), tonumber(of(i, 6))
  local hit = ARGV[6] == '1' and seen > 0 and #news > 0
  for at = 1, #relies, width do
    local k = string.sub(relies, at, at + width - 1)
    if (written[k] or 0) > from or (group[k] or 0) > seen then hit = true break end
  end
  if hit then
    if ARGV[5] ~= '0' then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5]) end
    return {'CONFLICT', head, accepted, news}
  end
  if of(i, 4) ~= '' then
    n = n + 1
    redis.call('XADD', KEYS[1], n .. '-0', 't', of(i, 1), 'k', of(i, 2), 'c', of(i, 4))
    local keys = of(i, 2)
    group[any] = i
    for at = 1, #keys, width do group[string.sub(keys, at, at + width - 1)] = i end
  end
  accepted = i
end
if holder then redis.call('DEL', KEYS[3]) end
return {'OK', head, accepted, news}
