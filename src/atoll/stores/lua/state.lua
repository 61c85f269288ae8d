-- Tell how the log stands to a replica at a position.
-- KEYS: log, meta. ARGV: position. Returns {generation or '', head, first, name of the transaction at the position or ''}.
local head, first, name = 0, 0, ''
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last > 0 then
  head = tonumber(string.match(last[1][1], '%d+'))
  first = tonumber(string.match(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1], '%d+'))
end
local own = redis.call('XRANGE', KEYS[1], ARGV[1] .. '-0', ARGV[1] .. '-0')
if #own > 0 then name = own[1][2][2] end
return {redis.call('HGET', KEYS[2], 'generation') or '', head, first, name}
