-- Gives dead letters another life, as attempt 1.
-- KEYS  dead, stream, totals, then one key for the outcome of each job
-- ARGV  the entries
-- Answers how many there were; one that is gone is passed over, so a repeat does nothing.
local moved = 0
for i = 1, #ARGV do
    local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
    if found[1] then
        local fields = {}
        local old = found[1][2]
        for f = 1, #old, 2 do
            if old[f] ~= 'attempt' and old[f] ~= 'error' and old[f] ~= 'back' and string.sub(old[f], 1, 5) ~= 'dead.' then
                fields[#fields + 1] = old[f]
                fields[#fields + 1] = old[f + 1]
            end
        end
        fields[#fields + 1] = 'attempt'
        fields[#fields + 1] = '1'
        redis.call('XADD', KEYS[2], '*', unpack(fields))
        redis.call('XDEL', KEYS[1], ARGV[i])
        redis.call('DEL', KEYS[3 + i])
        moved = moved + 1
    end
end
if moved > 0 then redis.call('HINCRBY', KEYS[3], 'replayed', moved) end
return moved
