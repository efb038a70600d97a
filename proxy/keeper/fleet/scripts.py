"""What runs on the server, in one atomic step each. PURE: texts.

KEYS are always the certificate's value and its lock; both names have the same part in braces, so that they are on one
node of a cluster. What is there and no string counts as nothing. Errors are the server's own: a write that it refuses
(read-only, out of memory) ends the script. What a script says is read here too: ValueError, when that is none of it.
"""

from __future__ import annotations

from hashlib import sha1

from proxy.keeper.fleet.value import MAX_ANNOUNCED_BYTES

_TEXT = """
local function text_of(key)
  local text = redis.pcall('GETRANGE', key, 0, 63)
  return type(text) == 'string' and text ~= '' and text or nil
end
"""
_FUNCTIONS = (
    _TEXT
    + """
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function head(value)
  local format, this, asked = string.match(value, '^(%d+) (%-?%d+) (%d+) ')
  asked = tonumber(asked or '')
  if asked and asked > now_ms() then asked = 0 end -- a clock was wrong, or somebody lies: else nobody's word counted
  return format or string.match(value, '^(%d+) '), tonumber(this or ''), asked
end
local function length_of(key)
  local length = redis.pcall('STRLEN', key)
  return type(length) == 'number' and length or 0
end
"""
)

TURN = (
    _FUNCTIONS
    + """
local limit, this, asked = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local refused, token, life_ms, insists = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local length = length_of(KEYS[1])
if length > limit then
  if refused ~= 'length ' .. length then return {'long', length} end
elseif length > 0 then
  local value = redis.call('GET', KEYS[1])
  local format, its, its_asked = head(value)
  local is_newer = not its or not its_asked or its > this or (its == this and its_asked > asked and not insists)
  if (not format or (format == '1' and is_newer)) and redis.sha1hex(value) ~= refused then
    return {'found', now_ms(), value}
  end
end
local holder = text_of(KEYS[2])
if holder == 'in-vain' and not insists then return {'in-vain', redis.call('PTTL', KEYS[2])} end
if holder and holder ~= 'in-vain' then return {'theirs', redis.call('PTTL', KEYS[2])} end
if life_ms == 0 then return {'free', 0} end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[2], token, 'NX', 'PX', life_ms)
return {'ours', 0}
"""
)
"""Look, and take the lock if it is free and `life_ms` is not 0. ARGV: longest value in bytes; thisUpdate and asked of
what is held; SHA-1 of a value that was refused before; token; life_ms; 1: ask, though another one has asked in vain,
or has got the same again."""

PUT = (
    _FUNCTIONS
    + """
local this, asked, max_age, until_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local refused, token, channel, key, der = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
if asked == 0 then asked = now_ms() end
local length, said = length_of(KEYS[1]), 'stored'
if length > 0 and refused ~= 'length ' .. length then
  local value = redis.call('GET', KEYS[1])
  local format, its, its_asked = head(value)
  if format and format ~= '1' then
    said = 'unknown-format'
  elseif its and its_asked and redis.sha1hex(value) ~= refused then
    if its > tonumber(this) or (its == tonumber(this) and its_asked >= asked) then said = 'older' end
  end
end
if said == 'stored' then
  local value = string.format('1 %s %.0f %s\\n', this, asked, max_age) .. der
  redis.call('SET', KEYS[1], value)
  redis.call('PEXPIREAT', KEYS[1], until_ms)
  if channel ~= '' then
    redis.call('PUBLISH', channel, #value <= MAX_ANNOUNCED_BYTES and key .. ' ' .. value or key)
  end
end
if token ~= '' and text_of(KEYS[2]) == token then redis.call('DEL', KEYS[2]) end
return {said, asked}
"""
).replace("MAX_ANNOUNCED_BYTES", str(MAX_ANNOUNCED_BYTES))
"""Store unless what is there is newer or of an unknown format, announce, release the lock. ARGV: thisUpdate; asked, 0:
now; max-age or -; until when it is of use; SHA-1 of a value that was refused; token or nothing; channel or nothing; the
certificate's key in hexadecimal; DER."""

EXTEND = (
    _TEXT
    + """
if text_of(KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])
"""
)
"""ARGV: token; for how many milliseconds from now on."""

RELEASE = (
    _TEXT
    + """
if text_of(KEYS[2]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[2]) end
redis.call('SET', KEYS[2], 'in-vain', 'PX', ARGV[2])
return 1
"""
)
"""Give up a lock; ARGV: token, and for how long its place is to say that nothing came, 0: not at all."""


_TURNS = (b"free", b"ours", b"theirs", b"in-vain", b"long")
_PUTS = (b"stored", b"older", b"unknown-format")


def read_turn(reply: object) -> tuple[bytes, int, bytes]:
    """Read what `TURN` says: a word, a number, and the value that was found."""
    match reply:
        case [bytes(word), int(number)] if word in _TURNS:
            return word, number, b""
        case [b"found", int(number), bytes(value)]:
            return b"found", number, value
    raise ValueError("TURN says nothing like this")


def read_put(reply: object) -> tuple[str, int]:
    """Read what `PUT` says: a word, and when a responder was asked."""
    match reply:
        case [bytes(word), int(asked_ms)] if word in _PUTS:
            return word.decode(), asked_ms
    raise ValueError("PUT says nothing like this")


def read_done(reply: object) -> bool:
    """Read what `EXTEND` and `RELEASE` say: whether the lock was there."""
    if isinstance(reply, int):
        return bool(reply)
    raise ValueError("EXTEND and RELEASE say nothing like this")


def digest(script: str) -> str:
    """The name by which a server knows a script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
