-- Ends deliveries: whatever becomes of a job happens together with its acknowledgement, or not at all.
-- KEYS  stream, later, dead, totals, then one key for the outcome of each job
-- ARGV  group, channel, worker, then for each job: entry, verdict, id, text, milliseconds, number
--         done   text is the outcome to keep for the milliseconds, number when the job was submitted or due, in ms, or 0
--         retry  text is why; once more after the milliseconds, as attempt `number`
--         dead   text is why, number the kind; the outcome with the error is kept for the milliseconds
--         back   once more at once, the attempt does not count
-- Answers a list: 1 where this call ended the delivery, 0 where it had ended before, by a repeat of this call or by another worker.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function get(fields, name)
    for i = 1, #fields, 2 do
        if fields[i] == name then return fields[i + 1] end
    end
    return nil
end

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

local counts = {done = 0, retry = 0, back = 0, dead = 0}
local events = {}

-- A line for each, so an id must not end one. It is read back by the watch.
local function escape(char)
    return string.format('%%%02x', string.byte(char))
end

local function tell(verdict, at, id)
    id = string.gsub(id, '[%c%%]', escape)
    counts[verdict] = counts[verdict] + 1
    events[#events + 1] = string.format('%s %d %s', verdict, math.max(now - at, 0), id)
    return 1
end

-- The acknowledgement goes first: nothing behind it can fail. After a first write Redis lets a script finish even when its memory
-- is at the limit.
local function done(outcome, entry, id, text, ms, at)
    if redis.call('XACK', KEYS[1], ARGV[1], entry) == 0 then return 0 end
    if ms ~= '0' then redis.call('SET', outcome, text, 'PX', ms) end
    redis.call('XDEL', KEYS[1], entry)
    at = tonumber(at)
    return tell('done', at > 0 and at or now, id)
end

local function other(outcome, entry, verdict, id, text, ms, number)
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1)
    if #pending == 0 then return 0 end
    -- A first write that needs no memory.
    redis.call('DEL', outcome)
    local found = redis.call('XRANGE', KEYS[1], entry, entry)
    local fields = found[1] and found[1][2] or {}
    local at = tonumber(get(fields, 'at')) or now
    if #fields > 0 then
        -- More than Lua can pass to a command. No job of ours looks like that; a dead letter may.
        if #fields > 6000 then fields = {'fields', cjson.encode(fields)} end
        -- A job that came without one keeps that of its first entry.
        set(fields, 'id', id)
        if verdict == 'retry' then
            set(fields, 'attempt', number)
            set(fields, 'error', text)
            -- Those were deliveries of the attempt before.
            if get(fields, 'back') then set(fields, 'back', '0') end
            redis.call('ZADD', KEYS[2], string.format('%d', now + tonumber(ms)), cmsgpack.pack(fields))
        elseif verdict == 'back' then
            set(fields, 'back', string.format('%d', (tonumber(get(fields, 'back')) or 0) + pending[1][4]))
            redis.call('XADD', KEYS[1], '*', unpack(fields))
        elseif verdict == 'dead' then
            set(fields, 'dead.kind', number)
            set(fields, 'dead.error', text)
            set(fields, 'dead.worker', ARGV[3])
            set(fields, 'dead.at', string.format('%d', now))
            redis.call('XADD', KEYS[3], '*', unpack(fields))
            if ms ~= '0' then
                redis.call('SET', outcome, cjson.encode({kind = number, error = text}), 'PX', ms)
            end
        end
    end
    -- Not before the rest: if one of the commands above fails, as with a key of another type, the delivery stays pending.
    redis.call('XACK', KEYS[1], ARGV[1], entry)
    redis.call('XDEL', KEYS[1], entry)
    return tell(verdict, at, id)
end

local answer = {}
for i = 5, #KEYS do
    local entry, verdict, id, text, ms, number = unpack(ARGV, 4 + (i - 5) * 6, 9 + (i - 5) * 6)
    if verdict == 'done' then
        answer[#answer + 1] = done(KEYS[i], entry, id, text, ms, number)
    else
        answer[#answer + 1] = other(KEYS[i], entry, verdict, id, text, ms, number)
    end
end
for verdict, count in pairs(counts) do
    if count > 0 then redis.call('HINCRBY', KEYS[4], verdict, count) end
end
if #events > 0 then redis.call('PUBLISH', ARGV[2], table.concat(events, '\n')) end
return answer
