-- Create a log if there is none and this may be done; give the site its slot; tell the log's description.
-- KEYS: log, meta, slots. ARGV: cloud, format, generation for a new log, stride for a new log, site, 1 if a log may be created.
-- Returns {status, slot, head, field, value, ...} with status OK, ABSENT, ALIEN, CLOUD, FORMAT or FULL.
local meta = redis.call('HMGET', KEYS[2], 'cloud', 'format', 'generation', 'stride')
if not meta[1] then
  if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return {'ALIEN'} end
  if ARGV[6] ~= '1' then return {'ABSENT'} end
  redis.call('HSET', KEYS[2], 'cloud', ARGV[1], 'format', ARGV[2], 'generation', ARGV[3], 'stride', ARGV[4])
  meta = {ARGV[1], ARGV[2], ARGV[3], ARGV[4]}
end
if meta[1] ~= ARGV[1] then return {'CLOUD', meta[1]} end
if meta[2] ~= ARGV[2] then return {'FORMAT', meta[2]} end
local slot = redis.call('HGET', KEYS[3], ARGV[5])
if not slot then
  slot = redis.call('HLEN', KEYS[3])
  if slot >= tonumber(meta[4]) then return {'FULL', meta[4]} end
  redis.call('HSET', KEYS[3], ARGV[5], slot)
end
return {'OK', tonumber(slot), meta[3], tonumber(meta[4])}
