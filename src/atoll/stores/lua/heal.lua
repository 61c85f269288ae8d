-- Append entries that the log has lost, if nobody has written since.
-- KEYS: log, meta. ARGV: generation, head, name of the head's transaction, then three for each entry: name, keys, payload.
-- Returns 1, or 0 if the log is not as expected.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if redis.call('HGET', KEYS[2], 'generation') ~= ARGV[1] or #last == 0 then return 0 end
if last[1][1] ~= ARGV[2] .. '-0' or last[1][2][2] ~= ARGV[3] then return 0 end
local n = tonumber(ARGV[2])
for i = 4, #ARGV, 3 do
  n = n + 1
  redis.call('XADD', KEYS[1], n .. '-0', 't', ARGV[i], 'k', ARGV[i + 1], 'c', ARGV[i + 2])
end
return 1
