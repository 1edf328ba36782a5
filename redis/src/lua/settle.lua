-- Ends deliveries: whatever becomes of a job happens together with its acknowledgement, or not at all.
-- KEYS  stream, later, dead, totals, then one key for the outcome of each job
-- ARGV  group, channel, worker, then for each job: entry, verdict, id, text, milliseconds, number
--         done   text is the outcome to keep for the milliseconds
--         retry  text is why; once more after the milliseconds, as attempt `number`
--         dead   text is why, number the kind; the outcome with the error is kept for the milliseconds
--         back   once more at once, the attempt does not count
-- Answers a list: 1 where this call ended the delivery, 0 where it had ended before, by a repeat of this call or by another worker.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function set(fields, name, value)
    for i = 1, #fields, 2 do
        if fields[i] == name then
            fields[i + 1] = value
            return
        end
    end
    fields[#fields + 1] = name
    fields[#fields + 1] = value
end

local function get(fields, name)
    for i = 1, #fields, 2 do
        if fields[i] == name then return fields[i + 1] end
    end
end

local answer = {}
local arg = 4
for key = 5, #KEYS do
    local entry, verdict, id, text, ms, number = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4], ARGV[arg + 5]
    arg = arg + 6
    -- The acknowledgement goes first: it decides who ends the delivery, and after a first write Redis lets a script finish even
    -- when its memory is at the limit.
    if redis.call('XACK', KEYS[1], ARGV[1], entry) == 1 then
        local found = redis.call('XRANGE', KEYS[1], entry, entry)
        local fields = found[1] and found[1][2] or {}
        local at = tonumber(get(fields, 'at')) or now
        if verdict == 'done' then
            if ms ~= '0' then redis.call('SET', KEYS[key], text, 'PX', ms) end
        elseif #fields > 0 then
            if verdict == 'retry' then
                set(fields, 'id', id)
                set(fields, 'attempt', number)
                set(fields, 'error', text)
                redis.call('ZADD', KEYS[2], string.format('%d', now + tonumber(ms)), cmsgpack.pack(fields))
            elseif verdict == 'back' then
                set(fields, 'back', string.format('%d', (tonumber(get(fields, 'back')) or 0) + 1))
                redis.call('XADD', KEYS[1], '*', unpack(fields))
            elseif verdict == 'dead' then
                set(fields, 'dead.kind', number)
                set(fields, 'dead.error', text)
                set(fields, 'dead.worker', ARGV[3])
                set(fields, 'dead.at', string.format('%d', now))
                redis.call('XADD', KEYS[3], '*', unpack(fields))
                if ms ~= '0' then
                    redis.call('SET', KEYS[key], cjson.encode({kind = number, error = text}), 'PX', ms)
                end
            end
        end
        redis.call('XDEL', KEYS[1], entry)
        redis.call('HINCRBY', KEYS[4], verdict, 1)
        redis.call('PUBLISH', ARGV[2], string.format('%s %d %s', verdict, math.max(now - at, 0), id))
        answer[#answer + 1] = 1
    else
        answer[#answer + 1] = 0
    end
end
return answer
