-- Puts back what workers had that have not been heard of, to where the next is taken.
-- KEYS  list, the set of workers, then two for each worker: its processing list, its sign of life
-- ARGV  the name of each worker
-- Answers how many items went back.
local back = 0
for i = 1, #ARGV do
    local processing, alive = KEYS[1 + 2 * i], KEYS[2 + 2 * i]
    if redis.call('EXISTS', alive) == 0 then
        while redis.call('LMOVE', processing, KEYS[1], 'LEFT', 'RIGHT') do back = back + 1 end
        redis.call('SREM', KEYS[2], ARGV[i])
    end
end
return back
