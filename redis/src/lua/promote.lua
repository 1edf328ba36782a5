-- Moves what has become due from the waiting jobs to the stream.
-- KEYS  later, stream
-- ARGV  how many at most
-- Answers after how many ms the next one is due: 0 if more are due now, -1 if none waits.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A first write that needs no memory, as in settle.lua: what is here already moves even when the memory is at its limit.
redis.call('ZREM', KEYS[1], '')
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now), 'LIMIT', 0, ARGV[1])) do
    redis.call('XADD', KEYS[2], '*', unpack(cmsgpack.unpack(member)))
    redis.call('ZREM', KEYS[1], member)
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #first == 0 then return -1 end
return math.max(tonumber(first[2]) - now, 0)
