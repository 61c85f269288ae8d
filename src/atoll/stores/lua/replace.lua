-- Make the log anew: description, snapshot and newest entries come from one replica.
-- KEYS: log, meta, snapshot, turn. ARGV: cloud, format, new generation, stride, head that the log must have ('' for no log at all),
-- snapshot, position of the first entry, then three for each entry: name, keys, payload.
-- Returns 1, or 0 if the log is not as expected.
local head = ''
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last > 0 then head = string.match(last[1][1], '%d+') end
if head ~= ARGV[5] then return 0 end
redis.call('DEL', KEYS[1], KEYS[4])
redis.call('HSET', KEYS[2], 'cloud', ARGV[1], 'format', ARGV[2], 'generation', ARGV[3], 'stride', ARGV[4])
redis.call('SET', KEYS[3], ARGV[6])
local n = tonumber(ARGV[7])
for i = 8, #ARGV, 3 do
  redis.call('XADD', KEYS[1], n .. '-0', 't', ARGV[i], 'k', ARGV[i + 1], 'c', ARGV[i + 2])
  n = n + 1
end
return 1
