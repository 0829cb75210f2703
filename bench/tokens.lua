-- The tokens that bench/fill.rs printed, from the file that the environment names.
local tokens = {}
for line in io.lines(os.getenv("TOKENS")) do tokens[#tokens + 1] = line end
math.randomseed(os.time())
return function() return tokens[math.random(#tokens)] end
