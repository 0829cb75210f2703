-- wrk: sends one request over and over, each time filled in anew, and prints what came back as one line of JSON.
--
-- The environment says what to send: HEAD and BODY are texts with placeholders:
--   {line}, {line:A:B}   a line of the file, or its characters A to B
--   {number}             a random number, 1 to 1,000,000
--   {user}               a random number below USERS
--   {serial}             a number that no other request of this run has
-- LINES_FILE has lines of WIDTH characters each. Without START each request takes a random one; with it, the next.
local ffi = require("ffi")
ffi.cdef [[
  int open(const char *path, int flags);
  long lseek(int file, long offset, int whence);
  void *mmap(void *address, size_t length, int protection, int flags, int file, long offset);
]]

math.randomseed(tonumber(os.getenv("SEED")))

-- The file is mapped and not read: a million tokens would not fit what LuaJIT can hold.
local line = function() return "" end
if os.getenv("LINES_FILE") then
  local file = ffi.C.open(os.getenv("LINES_FILE"), 0)
  assert(file >= 0, "cannot open the file of lines")
  local size, width = tonumber(ffi.C.lseek(file, 0, 2)), tonumber(os.getenv("WIDTH"))
  local lines, count = ffi.cast("const char *", ffi.C.mmap(nil, size, 1, 1, file, 0)), size / (width + 1)
  local following = tonumber(os.getenv("START"))
  line = function()
    local index = following and following % count or math.random(count) - 1
    following = following and following + 1
    return ffi.string(lines + index * (width + 1), width)
  end
end

local current, serial, users = "", 0, tonumber(os.getenv("USERS"))
local placeholders = {
  line = function(from, to) return from and current:sub(from, to) or current end,
  number = function() return tostring(math.random(1000000)) end,
  user = function() return tostring(math.random(users) - 1) end,
  serial = function() return tostring(serial) end,
}

-- A template as a function: one concatenation, which LuaJIT compiles, and nothing is looked for at each request. wrk itself
-- takes most of the time that is left.
local function compile(template)
  local parts, from = {}, 1
  while true do
    local start, stop, name, first, last = template:find("{(%a+):?(%d*):?(%d*)}", from)
    parts[#parts + 1] = ("%q"):format(template:sub(from, (start or 0) - 1))
    if not start then break end
    assert(placeholders[name], "no such placeholder: " .. name)
    parts[#parts + 1] = ("placeholders.%s(%s)"):format(name, first ~= "" and first .. ", " .. last or "")
    from = stop + 1
  end
  return loadstring("local placeholders = ...; return function() return " .. table.concat(parts, " .. ") .. " end")(placeholders)
end

local body = os.getenv("BODY") and compile(os.getenv("BODY"))
local head = compile(os.getenv("HEAD") .. (body and "" or "\r\n"))

request = function()
  current, serial = line(), serial + 1
  if not body then return head() end
  local text = body()
  return head() .. "Content-Length: " .. #text .. "\r\n\r\n" .. text
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "bytes": %d, "refused": %d, "connect_errors": %d, "read_errors": %d, '
      .. '"write_errors": %d, "timeouts": %d, "p50": %.3f, "p90": %.3f, "p99": %.3f, "p999": %.3f, "max": %.3f}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, errors.status, errors.connect, errors.read, errors.write,
    errors.timeout, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, latency.max / 1e3))
end
