-- wrk: adds a random item to the cellar of a random user.
local token = dofile(os.getenv("BENCH") .. "/tokens.lua")
request = function()
  local path = "/api/user/cellar/" .. math.random(1000000)
  return wrk.format("PUT", path, { ["Authorization"] = "Token " .. token() })
end
