-- Takes items from the right end of a list, without waiting.
-- KEYS  list, processing, the set of workers
-- ARGV  how many at most, the name of this worker, after how many bytes it is enough
-- Where nobody knows its name nobody puts back what it had, and a flush takes the names as well.
redis.call('SADD', KEYS[3], ARGV[2])
local items = {}
local bytes = 0
for _ = 1, tonumber(ARGV[1]) do
    local item = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
    if not item then break end
    items[#items + 1] = item
    bytes = bytes + #item
    if bytes >= tonumber(ARGV[3]) then break end
end
return items
