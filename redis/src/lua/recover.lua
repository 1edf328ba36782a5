-- What Redis has delivered to this worker and the worker does not know of: a reply that a broken connection has swallowed.
-- KEYS  stream
-- ARGV  group, worker, how many at most, after how many bytes it is enough, "1" if they count as delivered once more, then the entries
--       that the worker knows of
-- Answers a list of {entry, fields, deliveries}. Empty if there is nothing more.
local known = {}
for i = 6, #ARGV do known[ARGV[i]] = true end
local most = tonumber(ARGV[3])
local enough = tonumber(ARGV[4])
local bytes = 0
local entries = {}
local from = '-'
repeat
    local page = redis.call('XPENDING', KEYS[1], ARGV[1], from, '+', 1000, ARGV[2])
    for _, pending in ipairs(page) do
        local entry, deliveries = pending[1], pending[4]
        from = '(' .. entry
        if not known[entry] then
            if ARGV[5] == '1' then
                redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], '0', entry)
                deliveries = deliveries + 1
            end
            local found = redis.call('XRANGE', KEYS[1], entry, entry)
            if found[1] then
                entries[#entries + 1] = {entry, found[1][2], deliveries}
                for _, text in ipairs(found[1][2]) do bytes = bytes + #text end
                if #entries == most or bytes >= enough then return entries end
            else
                redis.call('XACK', KEYS[1], ARGV[1], entry)
            end
        end
    end
until #page < 1000
return entries
