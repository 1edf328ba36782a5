-- Says that a worker still has its deliveries, so that nobody takes them over.
-- KEYS  stream
-- ARGV  group, worker, then the entries
-- Answers how many of them are somebody else's by now, or settled. Those are left alone.
local gone = 0
for i = 3, #ARGV do
    local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
    if #mine == 1 then
        -- JUSTID: resets how long it has been idle, and does not count as a delivery.
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], '0', ARGV[i], 'JUSTID')
    else
        gone = gone + 1
    end
end
return gone
