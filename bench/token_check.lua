-- wrk: asks for the user behind a random token.
local token = dofile(os.getenv("BENCH") .. "/tokens.lua")
request = function()
  return wrk.format("GET", "/api/user", { ["Authorization"] = "Token " .. token() })
end
