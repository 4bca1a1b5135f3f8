-- For wrk: sends the signed requests of a file one after the other, and prints
-- the counts as one line of JSON. At the end of the file it repeats the last
-- request, which then is a duplicate.
--
-- wrk ... -s requests.lua URL -- FILE PATH [again]
--	again: start over at the end instead

local file, path, again, last

function init(args)
	file = assert(io.open(args[1], "rb"))
	path = args[2]
	again = args[3] == "again"
end

local function next_record()
	local length = file:read(4)
	if length == nil and again then
		file:seek("set")
		length = file:read(4)
	end
	if length == nil then
		return nil
	end
	return tonumber(length), file:read(64), file:read(tonumber(length))
end

function request()
	local length, signature, body = next_record()
	if length then
		last = "POST " .. path .. " HTTP/1.1\r\nHost: localhost\r\n" ..
			"Content-Type: application/json\r\nContent-Length: " .. length ..
			"\r\nX-Signature: " .. signature .. "\r\n\r\n" .. body
	end
	return last
end

function done(summary, latency)
	local e = summary.errors
	io.write(string.format(
		'{"requests":%d,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,' ..
		'"micros":%d,"p50":%d,"p99":%d,"max":%d}\n',
		summary.requests, e.status, e.connect, e.read, e.write, e.timeout,
		summary.duration, latency:percentile(50), latency:percentile(99), latency.max))
end
