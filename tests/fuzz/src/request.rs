//! Requests in pieces: the result does not depend on how the bytes of a connection are cut. Every request has
//! a route, and every refusal an answer.

use arbitrary::Unstructured;
use hookcast::http::{
    Access, AllowOrigin, Phase, Progress, Refusal, RequestReader, Responder, route,
};
use hookcast::limits::READ_BYTES;

const BODY_BYTES_MAX: usize = 512;

/// The requests and the refusal in some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The requests and their routes, as text.
    requests: Vec<String>,
    refusal: Option<Refusal>,
    phase: Phase,
    is_between: bool,
}

pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(cuts) = input.arbitrary::<[u8; 4]>() else {
        return;
    };
    let bytes = input.take_rest();
    let whole = read(bytes.chunks(READ_BYTES));
    let mut sizes = cuts.iter().cycle().map(|size| usize::from(*size).max(1));
    let mut rest = bytes;
    let pieces = std::iter::from_fn(|| {
        let size = sizes.next()?.min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        (size > 0).then_some(piece)
    });
    assert_eq!(read(pieces), whole, "cut by {cuts:?}");
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let access = Access::new(Some(b"open sesame"));
    let responder = Responder::new(AllowOrigin::Any, std::time::UNIX_EPOCH);
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    let mut requests = Vec::new();
    let mut refusal = None;
    let mut answer = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            let progress = reader.poll();
            assert!(
                refusal.is_none() || progress.err() == refusal,
                "a refusal is final"
            );
            match progress {
                Ok(Progress::Complete) => {
                    let request = reader.request().expect("it is complete");
                    let route = route(&request, &access, 0, |path| path == "/");
                    responder.status_ok(responder.reply_to(&request), &mut answer);
                    requests.push(format!(
                        "{:?} {:?} {:?} {route:?} {:?}",
                        request, request.query, request.last_event_id, request.body,
                    ));
                    reader.consume();
                }
                Ok(Progress::WantsContinue | Progress::Incomplete) => break,
                Err(error) => {
                    responder.refusal(reader.head().as_ref(), error, &mut answer);
                    refusal = Some(error);
                    break;
                }
            }
        }
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "));
        answer.clear();
    }
    Outcome {
        requests,
        refusal,
        phase: reader.phase(),
        is_between: refusal.is_none() && reader.is_between_requests(),
    }
}
