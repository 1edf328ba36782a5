-- Takes over deliveries whose worker has not been heard of, and forgets workers that have none.
-- KEYS  stream, totals
-- ARGV  group, worker, idle limit in ms, how many, where to go on, after how many idle ms a worker without deliveries is forgotten
-- Answers where to go on next, and a list of {entry, fields, deliveries}.
local taken = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[5], 'COUNT', ARGV[4])
local entries = {}
for i = 1, #taken[2] do
    local entry = taken[2][i]
    -- Before Redis 7 an entry that somebody has deleted comes as nothing.
    if entry then
        local pending = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
        entries[#entries + 1] = {entry[1], entry[2], pending[1] and pending[1][4] or 1}
    end
end
if #entries > 0 then redis.call('HINCRBY', KEYS[2], 'claimed', #entries) end
if ARGV[6] ~= '0' then
    local workers = redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
    for _, worker in ipairs(workers) do
        local fields = {}
        for i = 1, #worker, 2 do fields[worker[i]] = worker[i + 1] end
        if fields.pending == 0 and fields.idle > tonumber(ARGV[6]) and fields.name ~= ARGV[2] then
            redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields.name)
        end
    end
end
return {taken[1], entries}
