-- Takes items from the right end of a list, without waiting.
-- KEYS  list, processing
-- ARGV  how many at most
local items = {}
for _ = 1, tonumber(ARGV[1]) do
    local item = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
    if not item then break end
    items[#items + 1] = item
end
return items
