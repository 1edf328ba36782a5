-- Takes items from the right end of a list, without waiting.
-- KEYS  list, processing, the set of workers
-- ARGV  how many at most, the name of this worker
-- Where nobody knows its name nobody puts back what it had, and a flush takes the names as well.
redis.call('SADD', KEYS[3], ARGV[2])
local items = {}
for _ = 1, tonumber(ARGV[1]) do
    local item = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
    if not item then break end
    items[#items + 1] = item
end
return items
