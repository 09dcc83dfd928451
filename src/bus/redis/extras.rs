//! What an entry has beside a plain message: the identity and the label, as one field.
//!
//! Called by `scripts` and `entries`. Pure. The append script reads the identity in these bytes, so their places are
//! fixed:
//!
//! | bytes | of | |
//! |---:|---|---|
//! | 1 | flags | 1: there is an identity. 2: there is a label |
//! | 16, 16, 16 | identity | fingerprints of id, tag and body; zeros: none |
//! | 10 | identity | how long it is known, in seconds: decimal digits, because a script reads them |
//! | 1 | label | length of the source's name |
//! | | label | the source's name, then the event's type |

use std::sync::Arc;

use crate::message::{Fingerprint, Identity, Label, Message};

const HAS_IDENTITY: u8 = 1;
const HAS_LABEL: u8 = 2;
const WINDOW_DIGITS: usize = 10;
const NONE: Fingerprint = [0; 16];

/// The identity and the label of a message.
pub type Extras = (Option<Arc<Identity>>, Option<Arc<Label>>);

/// The field of a message; empty if it has neither.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    if message.identity.is_none() && message.label.is_none() {
        return bytes;
    }
    bytes.push(0);
    if let Some(identity) = &message.identity {
        bytes[0] |= HAS_IDENTITY;
        for print in [identity.id, identity.tag, identity.body] {
            bytes.extend_from_slice(&print.unwrap_or(NONE));
        }
        let window = format!("{:0width$}", identity.window_s, width = WINDOW_DIGITS);
        bytes.extend_from_slice(window.as_bytes());
    }
    if let Some(label) = &message.label {
        bytes[0] |= HAS_LABEL;
        // A source's name is bounded by 64 bytes.
        bytes.push(label.source().len() as u8);
        bytes.extend_from_slice(label.source().as_bytes());
        bytes.extend_from_slice(label.event().as_bytes());
    }
    bytes
}

/// Reads the field of an entry, or says what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Extras, &'static str> {
    let (&flags, mut rest) = bytes.split_first().ok_or("it has an empty field")?;
    if flags & !(HAS_IDENTITY | HAS_LABEL) != 0 || flags == 0 {
        return Err("it has other parts than a message of this version");
    }
    let mut identity = None;
    if flags & HAS_IDENTITY != 0 {
        let found = decode_identity(&mut rest).ok_or("its identity is not valid")?;
        identity = Some(Arc::new(found));
    }
    if flags & HAS_LABEL == 0 {
        let is_over = rest.is_empty();
        return is_over
            .then_some((identity, None))
            .ok_or("its identity is too long");
    }
    let label = decode_label(rest).ok_or("its label is not valid")?;
    Ok((identity, Some(Arc::new(label))))
}

fn decode_identity(rest: &mut &[u8]) -> Option<Identity> {
    let mut print = || {
        let (print, after) = rest.split_first_chunk::<16>()?;
        *rest = after;
        Some((*print != NONE).then_some(*print))
    };
    let (id, tag, body) = (print()?, print()?, print()?);
    let (window, after) = rest.split_first_chunk::<WINDOW_DIGITS>()?;
    *rest = after;
    // Parsing a number would accept a sign, too.
    if !window.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(Identity {
        id,
        tag,
        body,
        window_s: str::from_utf8(window).ok()?.parse().ok()?,
    })
}

fn decode_label(rest: &[u8]) -> Option<Label> {
    let (&source_bytes, rest) = rest.split_first()?;
    let (source, event) = rest.split_at_checked(source_bytes.into())?;
    Label::new(str::from_utf8(source).ok()?, str::from_utf8(event).ok()?)
}

/// The part of a script that recognises repeats. It needs `now`, the clock in ms.
///
/// KEYS: log, record, probes, and two hashes of identities. Each hash has fingerprints and what is known of them:
/// the message's id (16 bytes), the body's fingerprint (16), the end in ms (14 digits), a space, the message's time.
/// New ones are written to the hash that the record's `ids` names. When it is full, the other one is emptied and
/// takes its place, so the number is bounded and the newest are kept.
///
/// `first_of(extras, own)`: id, body and time of the message that is known by this identity; none if that is `own`.
/// `note(extras, own, time)`: notes an identity, and returns the error if it cannot. `forget(extras)` undoes it.
pub(super) const IDENTITIES: &str = r"
local none = string.rep('\0', 16)
local current
local function prints(extras)
  local all = {}
  if extras ~= '' and string.byte(extras, 1) % 2 == 1 then
    for from = 2, 18, 16 do
      local print = string.sub(extras, from, from + 15)
      if print ~= none then
        all[#all + 1] = {print, from == 2}
      end
    end
  end
  return all
end
local function first_of(extras, own)
  for _, print in ipairs(prints(extras)) do
    for key = 4, 5 do
      local first = redis.pcall('HGET', KEYS[key], print[1])
      if type(first) == 'string' and string.sub(first, 1, 16) ~= own
        and tonumber(string.sub(first, 33, 46)) > now then
        local body = none
        if print[2] then
          body = string.sub(first, 17, 32)
        end
        return {string.sub(first, 1, 16), body, string.sub(first, 48)}
      end
    end
  end
end
local function forget(extras)
  for _, print in ipairs(prints(extras)) do
    redis.pcall('HDEL', KEYS[current or 4], print[1])
  end
end
local function note(extras, own, time)
  local all = prints(extras)
  if #all == 0 then
    return
  end
  if not current then
    current = 4
    if redis.call('HGET', KEYS[2], 'ids') == '1' then
      current = 5
    end
  end
  local known = redis.pcall('HLEN', KEYS[current])
  if type(known) == 'number' and known >= $IDENTITIES then
    current = 9 - current
    redis.call('DEL', KEYS[current])
    redis.call('HSET', KEYS[2], 'ids', current - 4)
  end
  local ends = string.format('%014.0f', now + tonumber(string.sub(extras, 50, 59)) * 1000)
  for _, print in ipairs(all) do
    local value = own .. string.sub(extras, 34, 49) .. ends .. ' ' .. time
    local noted = redis.pcall('HSET', KEYS[current], print[1], value)
    if type(noted) == 'table' and noted.err then
      return noted.err
    end
  end
end
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageId;

    fn message(identity: Option<Identity>, label: Option<Label>) -> Message {
        Message {
            id: MessageId::nil(),
            timestamp_ms: 1,
            session: None,
            content: "x".into(),
            label: label.map(Arc::new),
            identity: identity.map(Arc::new),
        }
    }

    #[test]
    fn what_is_encoded_is_read_again() {
        let identity = Identity {
            id: Some([1; 16]),
            tag: None,
            body: Some([3; 16]),
            window_s: u32::MAX,
        };
        let label = Label::new("github", "pull_request.opened");
        let bare = Label::new("github", "");
        for message in [
            message(Some(identity.clone()), None),
            message(None, label.clone()),
            message(None, bare),
            message(Some(identity), label),
        ] {
            let bytes = encode(&message);
            let extras = (message.identity, message.label);
            assert_eq!(decode(&bytes), Ok(extras));
        }
        assert!(encode(&message(None, None)).is_empty());
    }

    #[test]
    fn odd_bytes_are_no_extras() {
        let identity = Identity {
            id: Some([1; 16]),
            tag: Some([2; 16]),
            body: None,
            window_s: 60,
        };
        let whole = encode(&message(Some(identity), Label::new("github", "push")));
        for bytes in (0..whole.len()).map(|end| &whole[..end]) {
            // The event is the rest, so only its end may be missing.
            assert_eq!(decode(bytes).is_ok(), bytes.len() >= whole.len() - 4);
        }
        for (at, byte) in [
            (0, 0),
            (0, 4),
            (49, b'x'),
            (49, b'+'),
            (59, 0),
            (59, 255),
            (60, 7),
        ] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            assert!(decode(&bytes).is_err(), "{at} {byte}");
        }
        assert!(decode(b"\x01").is_err());
    }
}
