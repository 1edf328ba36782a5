-- Takes a worker out of the group. One that has deliveries stays: they would be forgotten with it.
-- KEYS  stream
-- ARGV  group, worker
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
