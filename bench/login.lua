-- wrk: logs in as one of the users that bench/fill.rs made, each time another.
math.randomseed(os.time())
request = function()
  local body = string.format('{"username": "user%d", "password": "hunter2"}', math.random(0, 999))
  return wrk.format("POST", "/api/login", { ["Content-Type"] = "application/json" }, body)
end
