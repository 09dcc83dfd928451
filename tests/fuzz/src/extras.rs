//! The field of a bus entry with its identity and its label: what is written is read back, and nothing is read
//! that would be written differently.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use hookcast::bus::redis::extras::{Extras, decode, encode};
use hookcast::message::{Fingerprint, Identity, Label, Message, MessageId};

/// Stands for no fingerprint in the field.
const NONE: Fingerprint = [0; 16];

pub fn run(bytes: &[u8]) {
    if let Ok(extras) = decode(bytes) {
        assert_eq!(encode(&message(extras)), bytes, "two fields for one entry");
    }
    if let Ok(extras) = draw(&mut Unstructured::new(bytes)) {
        let message = message(extras);
        let field = encode(&message);
        let extras = (message.identity, message.label);
        match extras {
            (None, None) => assert!(field.is_empty()),
            extras => assert_eq!(decode(&field), Ok(extras), "{}", field.escape_ascii()),
        }
    }
}

fn draw(input: &mut Unstructured<'_>) -> Result<Extras> {
    let kind = input.arbitrary::<u8>()?;
    let mut print = |bit: u8| {
        let print = input.arbitrary::<Fingerprint>()?;
        Ok((kind & bit != 0 && print != NONE).then_some(print))
    };
    let (id, tag, body) = (print(1)?, print(2)?, print(4)?);
    let identity = Identity {
        id,
        tag,
        body,
        window_s: input.arbitrary()?,
    };
    let source_bytes = usize::from(input.arbitrary::<u8>()?);
    let text = str::from_utf8(input.bytes(input.len())?).unwrap_or_default();
    let label = text
        .split_at_checked(source_bytes)
        .and_then(|(source, event)| Label::new(source, event));
    let has_identity = kind & 8 != 0;
    Ok((
        has_identity.then(|| Arc::new(identity)),
        label.map(Arc::new),
    ))
}

fn message((identity, label): Extras) -> Message {
    Message {
        id: MessageId::nil(),
        timestamp_ms: 1,
        session: None,
        content: "x".to_owned(),
        label,
        identity,
    }
}
