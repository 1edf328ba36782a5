-- KEYS  stream, later, dead, totals
-- ARGV  group
-- Answers how many are in the stream, delivered, waiting for their time, dead; then the totals as a flat list.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
return {
    redis.call('XLEN', KEYS[1]),
    not pending.err and pending[1] or 0,
    redis.call('ZCARD', KEYS[2]),
    redis.call('XLEN', KEYS[3]),
    redis.call('HGETALL', KEYS[4]),
}
