//! The scripts that run in the engine, each atomic, and the encoding of their arguments.
//!
//! Called by `writer` and `reader`. Pure. Epochs, seqs and numbers of messages are text in a script, because its
//! numbers are doubles: a message's number has 20 digits, so that the order of text is its order.
//!
//! # Keys
//!
//! - `{NAME}:s`, a stream: the log. The id of an entry is the event id, in decimal.
//! - `{NAME}:m`, a hash: the record. `lineage`, `epoch` (decimal), `history` (the engine's replication id), `body`
//!   (bytes), `time` (ms, of the last message), `ids` (which hash of identities is written), and of each producer `p:<hex>`: the number of its last message, the
//!   number up to which messages are refused, and when it last called.
//! - `{NAME}:p`, a stream: the probes, trimmed to a few.
//! - `{NAME}:l`, a string: the holder of the lease.
//! - `{NAME}:c`, and keys that begin with `{NAME}:c:`, hashes: counts of streams (`census`).
//! - `{NAME}:i0` and `{NAME}:i1`, hashes: the identities of messages (`extras`).

use std::fmt::Write;

use ::ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::extras::{self, IDENTITIES};
use super::wire::Command;
use crate::bus::engine::Producer;
use crate::limits::{
    BUS_FINGERPRINTS_MAX, BUS_PROBES_MAX, BUS_PRODUCER_IDLE_MS, BUS_PRODUCERS_MAX, KV_AHEAD_MS_MAX,
};
use crate::message::Message;
use crate::sse::event_id::EventId;

/// The keys of a bus. The name in braces puts them into one slot of a cluster.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) log: String,
    pub(super) record: String,
    pub(super) probes: String,
    pub(super) lease: String,
    /// The list of tables of counts (`census`). The keys of the tables begin with it.
    pub(super) census: String,
    /// The two hashes of identities.
    pub(super) identities: [String; 2],
    /// The key of `bus-check`.
    pub(super) check: String,
}

impl Keys {
    pub(super) fn new(name: &str) -> Keys {
        let key = |suffix: &str| format!("{{{name}}}:{suffix}");
        Keys {
            log: key("s"),
            record: key("m"),
            probes: key("p"),
            lease: key("l"),
            census: key("c"),
            identities: [key("i0"), key("i1")],
            check: key("check"),
        }
    }

    /// The keys of the scripts that append.
    pub(super) fn of_append(&self) -> [&str; 5] {
        let [first, second] = &self.identities;
        [&self.log, &self.record, &self.probes, first, second]
    }
}

/// A script with its name in the engine.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    sha: String,
}

impl Script {
    pub(super) fn new(text: String) -> Script {
        let mut sha = String::new();
        for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref() {
            // A write to a string cannot fail.
            let _ = write!(sha, "{byte:02x}");
        }
        Script { text, sha }
    }

    /// The command that runs the script, up to its arguments: with the text, or only by its name.
    pub(super) fn command(&self, keys: &[&str], with_text: bool) -> Command {
        let mut command = if with_text {
            let mut command = Command::new("EVAL");
            command.arg(&self.text);
            command
        } else {
            let mut command = Command::new("EVALSHA");
            command.arg(&self.sha);
            command
        };
        command.number(keys.len() as u64).args(keys);
        command
    }
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) append: Script,
    pub(super) fence: Script,
    pub(super) begin: Script,
    pub(super) snapshot: Script,
    pub(super) raise_body: Script,
    pub(super) lease: Script,
    pub(super) end_lease: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let register = REGISTER
            .replace("$PRODUCERS", &BUS_PRODUCERS_MAX.to_string())
            .replace("$IDLE_MS", &BUS_PRODUCER_IDLE_MS.to_string());
        let identities = IDENTITIES.replace("$IDENTITIES", &BUS_FINGERPRINTS_MAX.to_string());
        let begin = BEGIN.replace("$AHEAD_MS", &KV_AHEAD_MS_MAX.to_string());
        let append = APPEND.replace("$PROBES", &BUS_PROBES_MAX.to_string());
        Scripts {
            append: Script::new(format!("{HISTORY}{CHECKED}{register}{identities}{append}")),
            fence: Script::new(format!("{HISTORY}{CHECKED}{register}{FENCE}")),
            begin: Script::new(format!("{HISTORY}{CLOCK}{identities}{begin}")),
            snapshot: Script::new(SNAPSHOT.into()),
            raise_body: Script::new(RAISE_BODY.into()),
            lease: Script::new(LEASE.into()),
            end_lease: Script::new(END_LEASE.into()),
        }
    }
}

/// The field of a producer in the record.
pub(super) fn producer_field(producer: Producer) -> String {
    format!("p:{:016x}", producer.0)
}

/// A message's number as text whose order is that of the numbers.
pub(super) fn number_text(number: u64) -> [u8; 20] {
    let mut text = [b'0'; 20];
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    text[20 - digits.len()..].copy_from_slice(digits);
    text
}

/// An event id as the engine has it.
pub(super) fn entry_id(id: EventId) -> String {
    format!("{}-{}", id.epoch.0, id.seq)
}

/// The five arguments of a message: id, time or nothing, session or nothing, extras or nothing, content.
pub(super) fn add_message(command: &mut Command, message: &Message, keeps_time: bool) {
    let session = message.session.as_ref();
    command.arg(message.id.as_bytes().as_slice());
    if keeps_time {
        command.number(message.timestamp_ms);
    } else {
        command.arg("");
    }
    command
        .arg(session.map_or("", |session| session.as_str()))
        .arg(extras::encode(message))
        .arg(&message.content);
}

/// The identity of the engine's history, as the primary has it.
pub(super) const HISTORY: &str = r"
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY the engine is a replica')
end
local history = string.match(info, 'master_replid:(%x+)')
";

/// The clock in ms.
const CLOCK: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
";

/// The checks before an append or a fence. Arguments: epoch, producer's field.
///
/// KEYS: log, record, probes.
const CHECKED: &str = r"
local record = redis.call('HMGET', KEYS[2], 'epoch', 'history', 'time', ARGV[2])
if not record[1] or record[2] ~= history or redis.call('EXISTS', KEYS[1]) == 0 then
  return {'broken'}
end
if record[1] ~= ARGV[1] then
  return {'other', record[1]}
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local stored = string.rep('0', 20)
local refused = stored
if record[4] then
  stored = string.sub(record[4], 1, 20)
  refused = string.sub(record[4], 22, 41)
end
";

/// `register(time)`: writes the numbers of the producer, and returns the error if it cannot. `prune()`: removes idle producers if there are too many.
const REGISTER: &str = r"
local function register(time)
  local value = stored .. ' ' .. refused .. ' ' .. string.format('%.0f', now)
  local written = redis.pcall('HSET', KEYS[2], ARGV[2], value, 'time', time)
  return type(written) == 'table' and written.err
end
local function prune()
  if redis.call('HLEN', KEYS[2]) <= $PRODUCERS then
    return
  end
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'p:' then
      local seen = tonumber(string.sub(all[i + 1], 43)) or 0
      if seen < now - $IDLE_MS then
        redis.call('HDEL', KEYS[2], all[i])
      end
    end
  end
end
if not record[4] then
  prune()
end
";

/// Appends. Further arguments: the probe's text or nothing; the id before which entries may be dropped, or how many
/// are kept, or nothing; and of each message number, id, time or nothing, session or nothing, extras or nothing,
/// content.
///
/// Returns `stored`, how many messages, the error of the next one or nothing, and four texts of each message that
/// repeats another one and was not appended: its number, and the other's id, body and time. Numbers up to
/// `refused` are skipped: appended before, or fenced and sent again under new numbers. A new producer is registered first: if its number cannot be written,
/// no message may be. Returns `unrecorded` if that could be written then, and not after the messages.
const APPEND: &str = r"
if not record[4] then
  local failed = register(record[3] or '0')
  if failed then
    return {'stored', 0, failed, {}}
  end
end
local last = tonumber(record[3]) or 0
local time = math.max(now, last)
local engine_time = string.format('%.0f', time)
local count, failed = 0, ''
local before = stored
local repeats = {}
local own_id = ARGV[1] .. '-*'
for i = 5, #ARGV, 6 do
  local number = ARGV[i]
  if number > refused then
    local sent = ARGV[i + 2]
    if sent == '' then
      sent = engine_time
    end
    local extras = ARGV[i + 4]
    local added
    local first
    if extras == '' and ARGV[i + 3] == '' then
      added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', own_id, 'i', ARGV[i + 1], 't', sent, 'c', ARGV[i + 5])
    elseif extras == '' then
      added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', own_id, 'i', ARGV[i + 1], 't', sent, 's', ARGV[i + 3],
        'c', ARGV[i + 5])
    else
      first = first_of(extras, ARGV[i + 1])
      if first then
        for _, text in ipairs({number, first[1], first[2], first[3]}) do
          repeats[#repeats + 1] = text
        end
      else
        local unnoted = note(extras, ARGV[i + 1], sent)
        if unnoted then
          failed = unnoted
          break
        end
        local fields = {'i', ARGV[i + 1], 't', sent}
        if ARGV[i + 3] ~= '' then
          fields[5], fields[6] = 's', ARGV[i + 3]
        end
        local at = #fields
        fields[at + 1], fields[at + 2], fields[at + 3], fields[at + 4] = 'x', extras, 'c', ARGV[i + 5]
        added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', own_id, unpack(fields))
      end
    end
    if type(added) == 'table' and added.err then
      forget(extras)
      failed = added.err
      break
    end
    stored = number
    refused = number
  end
  count = count + 1
end
if stored ~= before then
  local unrecorded = register(engine_time)
  if unrecorded then
    return {'unrecorded', unrecorded}
  end
end
if ARGV[3] ~= '' and failed == '' then
  local at = string.format('%.0f', clock[1] * 1000000 + clock[2])
  local probed = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', $PROBES, ARGV[1] .. '-' .. at, 'p', ARGV[3])
  if type(probed) == 'table' and probed.err then
    probed = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', $PROBES, own_id, 'p', ARGV[3])
  end
  if type(probed) == 'table' and probed.err then
    if string.sub(probed.err, 1, 9) == 'WRONGTYPE' then
      failed = 'PROBES'
    else
      failed = probed.err
    end
  end
end
if ARGV[4] ~= '' and stored ~= before then
  local by = 'MAXLEN'
  if string.find(ARGV[4], '-', 1, true) then
    by = 'MINID'
  end
  redis.pcall('XTRIM', KEYS[1], by, '~', ARGV[4])
end
return {'stored', count, failed, repeats}
";

/// Fences. Further arguments: the number. Returns that of the last message in the log, however often it is
/// called.
const FENCE: &str = r"
if ARGV[3] > refused then
  refused = ARGV[3]
end
local failed = register(record[3] or '0')
if failed then
  return redis.error_reply(failed)
end
return {'at', stored}
";

/// Begins an epoch. Arguments: the lineage, history and last id that were seen, or nothing for each; the new epoch,
/// its lineage, the last seq carried over, the largest body, the newest time that nodes have shown; then of each message
/// its seq, id, time, session or nothing, extras or nothing, content.
///
/// Writes the marker first: the engine refuses it if the epoch is not greater, and then nothing is changed.
const BEGIN: &str = r"
local record = redis.call('HMGET', KEYS[2], 'lineage', 'history', 'time')
local last = ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local facts = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then
      last = facts[i + 1]
    end
  end
end
if (record[1] or '') ~= ARGV[1] or (record[2] or '') ~= ARGV[2] or last ~= ARGV[3] then
  return 0
end
if record[1] and record[2] == history and last ~= '' then
  return 0
end
local epoch = ARGV[4]
redis.call('XADD', KEYS[1], epoch .. '-0', 'b', ARGV[5])
local top = '0'
for i = 9, #ARGV, 6 do
  local fields = {'i', ARGV[i + 1], 't', ARGV[i + 2]}
  for place, name in ipairs({'s', 'x', 'c'}) do
    if ARGV[i + 2 + place] ~= '' then
      fields[#fields + 1] = name
      fields[#fields + 1] = ARGV[i + 2 + place]
    end
  end
  redis.call('XADD', KEYS[1], epoch .. '-' .. ARGV[i], unpack(fields))
  note(ARGV[i + 4], ARGV[i + 1], ARGV[i + 2])
  top = ARGV[i]
end
if top ~= ARGV[6] then
  redis.call('XSETID', KEYS[1], epoch .. '-' .. ARGV[6])
end
local latest = now + $AHEAD_MS
local time = math.max(tonumber(record[3]) or 0, math.min(tonumber(ARGV[8]), latest))
local ids = redis.call('HGET', KEYS[2], 'ids')
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'lineage', ARGV[5], 'epoch', epoch, 'history', history, 'body', ARGV[7],
  'time', string.format('%.0f', time))
if ids then
  redis.call('HSET', KEYS[2], 'ids', ids)
end
return 1
";

/// What the engine holds. Returns the clock in ms, the facts about server with memory and replication, lineage, history and
/// body of the record, and the first and last id of the log. An error stands in the place of the record or the
/// log.
const SNAPSHOT: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local record = redis.pcall('HMGET', KEYS[2], 'lineage', 'history', 'body')
if record.err then
  record = {record.err}
  record[4] = 'failed'
else
  for i = 1, 3 do
    record[i] = record[i] or ''
  end
  record[4] = ''
end
local log = {'', '', ''}
local kind = redis.call('TYPE', KEYS[1])
if kind.ok == 'stream' then
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
  if first[1] then
    log[1] = first[1][1]
  end
  local facts = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then
      log[2] = facts[i + 1]
    end
  end
elseif kind.ok ~= 'none' then
  log[3] = 'WRONGTYPE'
end
local facts = redis.call('INFO', 'server') .. redis.call('INFO', 'memory')
return {string.format('%.0f', now), facts, redis.call('INFO', 'replication'),
  record[4], record[1] or '', record[2] or '', record[3] or '', log[3], log[1], log[2]}
";

/// Raises the largest body of the record. KEYS: record. Argument: bytes.
const RAISE_BODY: &str = r"
local body = tonumber(redis.call('HGET', KEYS[1], 'body') or '')
if body and body < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'body', ARGV[1])
end
return 1
";

/// Takes or keeps the lease. KEYS: lease. Arguments: holder, time in ms.
const LEASE: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

/// Returns the lease. KEYS: lease. Argument: holder.
const END_LEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Epoch;

    #[test]
    fn keys_of_a_bus_are_in_one_slot() {
        let keys = Keys::new("hooks.a");
        let others = [&*keys.lease, &keys.check];
        for key in keys.of_append().into_iter().chain(others) {
            assert!(key.starts_with("{hooks.a}:"), "{key}");
        }
        assert_eq!(keys.log, "{hooks.a}:s");
    }

    #[test]
    fn the_order_of_numbers_as_text_is_their_order() {
        let numbers = [0, 1, 9, 10, 1 << 53, (1 << 53) + 1, u64::MAX];
        let texts = numbers.map(number_text);
        assert!(texts.is_sorted());
        assert_eq!(&texts[0], b"00000000000000000000");
        assert_eq!(&texts[3], b"00000000000000000010");
        assert_eq!(&texts[6], b"18446744073709551615");
    }

    #[test]
    fn ids_are_decimal() {
        let id = EventId {
            epoch: Epoch(u64::MAX),
            seq: u64::MAX,
        };
        assert_eq!(entry_id(id), "18446744073709551615-18446744073709551615");
        assert_eq!(producer_field(Producer(255)), "p:00000000000000ff");
    }

    #[test]
    fn every_place_in_a_script_is_filled() {
        let scripts = Scripts::new();
        for script in [&scripts.append, &scripts.fence, &scripts.begin] {
            assert!(!script.text.contains('$'), "{}", script.text);
            assert_eq!(script.sha.len(), 40);
        }
    }
}
