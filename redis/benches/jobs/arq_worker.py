"""arq's side of the benchmark: URL fill N | URL pace RATE SECONDS | URL work N POLL_DELAY."""

import asyncio
import json
import logging
import sys
import time

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

settings = RedisSettings.from_dsn(sys.argv[1].rstrip("/"))
latencies = []


async def note(ctx, sent):
    latencies.append(max(int(time.time() * 1e6) - sent, 0))


async def fill(jobs):
    pool = await create_pool(settings)
    for start in range(0, jobs, 100):
        await asyncio.gather(*(pool.enqueue_job("note", int(time.time() * 1e6)) for _ in range(start, min(start + 100, jobs))))


async def pace(rate, seconds):
    pool = await create_pool(settings)
    start = time.monotonic()
    for n in range(rate * seconds):
        await asyncio.sleep(max(start + n / rate - time.monotonic(), 0))
        await pool.enqueue_job("note", int(time.time() * 1e6))


async def work(jobs, poll_delay):
    start = time.monotonic()
    worker = Worker([note], redis_settings=settings, max_jobs=64, poll_delay=poll_delay, handle_signals=False)
    running = asyncio.ensure_future(worker.async_run())
    while worker.jobs_complete < jobs:
        await asyncio.sleep(0.001)
        if running.done():
            running.result()
    seconds = time.monotonic() - start
    running.cancel()
    print(json.dumps({"seconds": seconds, "latencies": latencies}))


logging.disable(logging.CRITICAL)
verb, numbers = sys.argv[2], sys.argv[3:]
if verb == "fill":
    asyncio.run(fill(int(numbers[0])))
elif verb == "pace":
    asyncio.run(pace(int(numbers[0]), int(numbers[1])))
else:
    asyncio.run(work(int(numbers[0]), float(numbers[1])))
