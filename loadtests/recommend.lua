-- wrk script: one decision for a random one of `USERS` users ("u0", "u1" …) by TARGET, and the
-- latency percentiles in microseconds as one JSON line at the end.
local users = tonumber(os.getenv("USERS") or "1000")
local extra = os.getenv("EXTRA") or ""

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

local path = os.getenv("TARGET") or "/v1/recommend"
local seed = tonumber(os.getenv("SEED") or "1")
math.randomseed(seed)

request = function()
  local body = string.format('{"user_id":"u%d","surface":"home"%s}', math.random(0, users - 1), extra)
  return wrk.format(nil, path, nil, body)
end

done = function(summary, latency, requests)
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %.3f, "p50_us": %d, "p90_us": %d, "p99_us": %d, "max_us": %d, "bytes": %d, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max, summary.bytes,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
