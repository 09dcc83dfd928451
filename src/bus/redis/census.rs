//! The counts of streams of all nodes, for Redis and Valkey.
//!
//! Made by [`census`](super::census), owned by the thread that shares presence. One script call for each method, so
//! that each is atomic in the engine.
//!
//! # Keys
//!
//! - `{NAME}:c`, a hash: the list of tables. Of each node `<producer, hex>`: the number of its table; `since`: when
//!   the list was made (ms); and `history`: the engine's replication id then.
//! - `{NAME}:c:<producer, hex>:<table>`, a hash: a table. Of each session with streams its fingerprint: their number;
//!   and `n`: the number of the last write.
//!
//! All of them expire without signs of life. A table counts once it is on the list. An engine that was restarted or
//! promoted may lack the last writes, so its list is made anew.

use std::time::{Duration, Instant};

use super::connection::Engine;
use super::fault::unexpected;
use super::reply::array;
use super::scripts::{HISTORY, Script};
use super::tls::BusTlsError;
use super::wire::Value;
use crate::bus::engine::{CensusStep, CensusTable, CensusWrite, Fault, Producer};
use crate::config::BusConfig;
use crate::limits::{PRESENCE_LIFE_MS, PRESENCE_SETTLE_MS, PRESENCE_WAIT_MS_MAX};
use crate::message::Fingerprint;

/// The census of one node.
pub(super) struct RedisCensus {
    engine: Engine,
    write: Script,
    read: Script,
    end: Script,
    timeout: Duration,
}

impl RedisCensus {
    pub(super) fn new(config: &BusConfig) -> Result<RedisCensus, BusTlsError> {
        let longest = Duration::from_millis(PRESENCE_WAIT_MS_MAX);
        Ok(RedisCensus {
            engine: Engine::new(config)?,
            write: script(WRITE, "$LIFE_MS", PRESENCE_LIFE_MS),
            read: script(READ, "$SETTLE_MS", PRESENCE_SETTLE_MS),
            end: Script::new(END.into()),
            timeout: config.timeout.min(longest),
        })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    fn table_key(&self, node: Producer, table: u64) -> String {
        format!("{}:{}:{table}", self.engine.keys.census, node_field(node))
    }
}

fn script(text: &str, bound: &str, ms: u64) -> Script {
    let text = text.replace(bound, &ms.to_string());
    Script::new(format!("{HISTORY}{text}"))
}

fn node_field(node: Producer) -> String {
    format!("{:016x}", node.0)
}

impl CensusTable for RedisCensus {
    fn write(&mut self, write: &CensusWrite<'_>) -> Result<bool, Fault> {
        let (list, table) = (
            self.engine.keys.census.clone(),
            self.table_key(write.node, write.table),
        );
        let deadline = self.deadline();
        let answer = self.engine.run(
            &self.write,
            &[&list, &table],
            |command| {
                command
                    .arg(match write.step {
                        CensusStep::Build => "build",
                        CensusStep::Publish => "publish",
                        CensusStep::Change => "change",
                    })
                    .arg(node_field(write.node))
                    .number(write.table)
                    .number(write.number - 1)
                    .number(write.number);
                for (mark, streams) in write.counts {
                    command.arg(mark).number(*streams);
                }
            },
            deadline,
        )?;
        match answer {
            Value::Integer(written @ 0..=1) => Ok(written == 1),
            _ => Err(unexpected("the result of a write of counts")),
        }
    }

    fn read(
        &mut self,
        node: Producer,
        sessions: &[Fingerprint],
    ) -> Result<Option<Vec<u64>>, Fault> {
        let list = self.engine.keys.census.clone();
        let deadline = self.deadline();
        let answer = self.engine.run(
            &self.read,
            &[&list],
            |command| {
                command.arg(node_field(node));
                for mark in sessions {
                    command.arg(mark);
                }
            },
            deadline,
        )?;
        let unknown = || unexpected("the counts of streams");
        let sums = array(&answer).ok_or_else(unknown)?;
        if sums.is_empty() {
            return Ok(None);
        }
        let sums: Option<Vec<u64>> = sums
            .iter()
            .map(|sum| match sum {
                Value::Integer(sum) => u64::try_from(*sum).ok(),
                _ => None,
            })
            .collect();
        let sums = sums.filter(|sums| sums.len() == sessions.len());
        sums.map(Some).ok_or_else(unknown)
    }

    fn end(&mut self, node: Producer, table: u64) -> Result<(), Fault> {
        let (list, table) = (self.engine.keys.census.clone(), self.table_key(node, table));
        let field = node_field(node);
        let deadline = self.deadline();
        let fill = |command: &mut super::wire::Command| _ = command.arg(&field);
        self.engine
            .run(&self.end, &[&list, &table], fill, deadline)
            .map(drop)
    }
}

/// Writes counts. Arguments: step, node, table, number of the write before, number of this one, then fingerprint and
/// count of each session. Returns 0, and writes nothing, if the engine lacks an earlier write, may do so, or has
/// another table of the node on the list.
///
/// KEYS: list, table. The keys of other tables are made of the first, whose slot they share.
const WRITE: &str = r"
local step, node, number = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HGET', KEYS[1], 'history')
if known and known ~= history then
  redis.call('DEL', KEYS[1])
end
local listed = redis.call('HGET', KEYS[1], node)
if ARGV[4] == '0' then
  redis.call('DEL', KEYS[2])
elseif redis.call('HGET', KEYS[2], 'n') ~= ARGV[4] then
  return 0
end
if (step == 'change' and listed ~= number) or (listed and tonumber(listed) > tonumber(number)) then
  return 0
end
local counts, gone = {'n', ARGV[5]}, {}
for i = 6, #ARGV, 2 do
  if ARGV[i + 1] == '0' then
    gone[#gone + 1] = ARGV[i]
  else
    counts[#counts + 1] = ARGV[i]
    counts[#counts + 1] = ARGV[i + 1]
  end
end
redis.call('HSET', KEYS[2], unpack(counts))
if #gone > 0 then
  redis.call('HDEL', KEYS[2], unpack(gone))
end
redis.call('PEXPIRE', KEYS[2], $LIFE_MS)
if step == 'build' then
  return 1
end
if step == 'publish' then
  local list = redis.call('HGETALL', KEYS[1])
  if #list == 0 then
    local clock = redis.call('TIME')
    local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
    redis.call('HSET', KEYS[1], 'since', now, 'history', history)
  end
  for i = 1, #list, 2 do
    local other = list[i]
    local key = KEYS[1] .. ':' .. other .. ':' .. list[i + 1]
    if other ~= 'since' and other ~= 'history' and other ~= node and redis.call('EXISTS', key) == 0 then
      redis.call('HDEL', KEYS[1], other)
    end
  end
  if listed and listed ~= number then
    redis.call('DEL', KEYS[1] .. ':' .. node .. ':' .. listed)
  end
  redis.call('HSET', KEYS[1], node, number)
end
redis.call('PEXPIRE', KEYS[1], $LIFE_MS)
return 1
";

/// The sums of all nodes but one. Arguments: that node, then the fingerprints. Returns nothing if that node is not on
/// the list, or the list is of an earlier history, or so new that other nodes may be missing.
///
/// KEYS: list.
const READ: &str = r"
local list = redis.call('HGETALL', KEYS[1])
local since, known, is_listed
local keys = {}
for i = 1, #list, 2 do
  if list[i] == 'since' then
    since = tonumber(list[i + 1])
  elseif list[i] == 'history' then
    known = list[i + 1]
  elseif list[i] == ARGV[1] then
    is_listed = true
  else
    keys[#keys + 1] = KEYS[1] .. ':' .. list[i] .. ':' .. list[i + 1]
  end
end
local clock = redis.call('TIME')
local age = clock[1] * 1000 + math.floor(clock[2] / 1000) - (since or 0)
if not is_listed or known ~= history or (age >= 0 and age < $SETTLE_MS) then
  return {}
end
local sums = {}
for i = 2, #ARGV do
  sums[i - 1] = 0
end
for _, key in ipairs(keys) do
  local counts = redis.call('HMGET', key, unpack(ARGV, 2))
  for i = 1, #sums do
    if counts[i] then
      sums[i] = sums[i] + tonumber(counts[i])
    end
  end
end
return sums
";

/// Removes a node's table, and the node from the list. Arguments: node.
///
/// KEYS: list, table.
const END: &str = r"
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
";
