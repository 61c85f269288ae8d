-- Return the entries after a replica's position, if the log contains the replica.
-- KEYS: log, meta. ARGV: generation, position, name of its transaction, most entries, 1 if WAIT follows the call.
-- Returns {status, head, entries}; statuses as in append.lua.
local n, head = tonumber(ARGV[2]), 0
local generation = redis.call('HGET', KEYS[2], 'generation')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last > 0 then head = tonumber(string.match(last[1][1], '%d+')) end
if not generation or head < n then return {'LOST', head, {}} end
if generation ~= ARGV[1] then return {'GENERATION', head, {}} end
if n > 0 then
  local own = redis.call('XRANGE', KEYS[1], n .. '-0', n .. '-0')
  if #own == 0 then return {'TRIMMED', head, {}} end
  if own[1][2][2] ~= ARGV[3] then return {'FORKED', head, {}} end
elseif head > 0 and redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1] ~= '1-0' then
  return {'TRIMMED', head, {}}
end
local news = {}
for i, entry in ipairs(redis.call('XRANGE', KEYS[1], (n + 1) .. '-0', '+', 'COUNT', ARGV[4])) do
  news[i] = {tonumber(string.match(entry[1], '%d+')), entry[2][2], entry[2][4], entry[2][6]}
end
if #news > 0 and ARGV[5] == '1' then
  -- A write that changes nothing: WAIT waits for the last write of its own connection, and so for all entries before it.
  redis.call('HSET', KEYS[2], 'generation', generation)
end
return {'OK', head, news}
