-- The dead letters up to one of them, oldest first, without what is in them: that may be more than a connection brings at once.
-- KEYS  dead
-- ARGV  the last one, how many at most
-- Answers a list of {entry, fields} with the id of the job alone.
local letters = {}
local from = '-'
for i = 1, tonumber(ARGV[2]) do
    local found = redis.call('XRANGE', KEYS[1], from, ARGV[1], 'COUNT', 1)[1]
    if not found then break end
    local fields = {}
    for f = 1, #found[2], 2 do
        if #fields == 0 and found[2][f] == 'id' then fields = {'id', found[2][f + 1]} end
    end
    letters[i] = {found[1], fields}
    from = '(' .. found[1]
end
return letters
