-- Put a newer snapshot and cut the entries before a position.
-- KEYS: log, meta, snapshot. ARGV: generation, position of the snapshot, name of its last transaction, first entry to keep, the snapshot.
-- Returns the number of entries that were cut, or -1 if the snapshot is none of this log.
local own = redis.call('XRANGE', KEYS[1], ARGV[2] .. '-0', ARGV[2] .. '-0')
if redis.call('HGET', KEYS[2], 'generation') ~= ARGV[1] or #own == 0 or own[1][2][2] ~= ARGV[3] then return -1 end
redis.call('SET', KEYS[3], ARGV[5])
return redis.call('XTRIM', KEYS[1], 'MINID', ARGV[4] .. '-0')
