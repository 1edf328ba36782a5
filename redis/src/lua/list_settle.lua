-- Ends deliveries of a list, once however often it is sent.
-- KEYS  list, processing, dead, token
-- ARGV  life of the token in ms, then for each delivery: item, verdict (done, dead or back), letter
if not redis.call('SET', KEYS[4], '1', 'NX', 'PX', ARGV[1]) then return 0 end
local ended = 0
for i = 2, #ARGV, 3 do
    local item, verdict, letter = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if redis.call('LPOS', KEYS[2], item) then
        -- It goes from here last: if one of the commands fails, as with a key of another type, the worker still has the item.
        if verdict == 'dead' then redis.call('RPUSH', KEYS[3], letter) end
        if verdict == 'back' then redis.call('RPUSH', KEYS[1], item) end
        redis.call('LREM', KEYS[2], 1, item)
        ended = ended + 1
    end
end
return ended
