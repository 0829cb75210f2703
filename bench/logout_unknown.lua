-- wrk: logs out of sessions that do not exist, each time with another token.
math.randomseed(os.time())
local path, hex = "/api/logout", {}
request = function()
  for i = 1, 40 do hex[i] = string.format("%x", math.random(0, 15)) end
  return wrk.format("POST", path, { ["Authorization"] = "Token " .. table.concat(hex) })
end
