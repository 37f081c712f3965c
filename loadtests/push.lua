-- wrk script: one call for BATCH people out of the file PEOPLE (an id a line), each time about a new
-- message, and the latency percentiles in microseconds as one JSON line at the end.
local batch = tonumber(os.getenv("BATCH") or "1000")
local run = os.getenv("RUN") or "run"
local people = {}
for line in io.lines(os.getenv("PEOPLE")) do
  people[#people + 1] = '{"user_id":"' .. line .. '"}'
end

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

-- One call's people follow each other in the file, the next call's come behind them.
local number, at = 0, 0
request = function()
  local asked = {}
  for n = 1, batch do
    asked[n] = people[(at + n - 1) % #people + 1]
  end
  at, number = at + batch, number + 1
  local message = string.format(
    '{"message_id":"%s-%d","category":"recipes","expires_at":%d}', run, number, os.time() + 86400)
  local body = '{"requests":[' .. table.concat(asked, ",") .. '],"message":' .. message .. "}"
  return wrk.format(nil, "/v1/push/score", nil, body)
end

done = function(summary, latency, requests)
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %.3f, "p50_us": %d, "p90_us": %d, "p99_us": %d, "max_us": %d, "bytes": %d, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max, summary.bytes,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
