-- Adds jobs, once however often it is sent.
-- KEYS  stream, later, totals, token, then two for each job that has an id of its user's choice: the id, its outcome
-- ARGV  life of the token and of such keys in ms, of these behind the delay, then for each job: id, name, args, delay in ms, "1" if the
--       id is its user's choice
-- Answers a string with one letter for each job: "1" added, "0" there already. A repeat gets the answer of the first.
local known = redis.call('GET', KEYS[4])
if known then return known end
-- Where somebody has put something else these fail, before anything is added: Redis takes nothing back.
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('HLEN', KEYS[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
local chosen = 3
local added = 0
for i = 2, #ARGV, 5 do
    local fresh = true
    local delay = tonumber(ARGV[i + 3])
    if ARGV[i + 4] == '1' then
        chosen = chosen + 2
        -- A job that is still to come has its id for itself.
        fresh = redis.call('SET', KEYS[chosen], '1', 'NX', 'PX', string.format('%d', ARGV[1] + delay))
        -- That of an earlier job.
        if fresh then redis.call('DEL', KEYS[chosen + 1]) end
    end
    if fresh then
        local fields = {'id', ARGV[i], 'name', ARGV[i + 1], 'args', ARGV[i + 2], 'attempt', '1', 'at', string.format('%d', now + delay)}
        if delay > 0 then
            redis.call('ZADD', KEYS[2], string.format('%d', now + delay), cmsgpack.pack(fields))
        else
            redis.call('XADD', KEYS[1], '*', unpack(fields))
        end
        added = added + 1
        answer[#answer + 1] = '1'
    else
        answer[#answer + 1] = '0'
    end
end
redis.call('HINCRBY', KEYS[3], 'submitted', added)
answer = table.concat(answer)
redis.call('SET', KEYS[4], answer, 'PX', ARGV[1])
return answer
