//! The thread that judges requests to sources: verdicts in any order, at any time, also for connections that
//! have closed.

use std::sync::{Arc, OnceLock};

use hookcast::limits::{JUDGING_REQUESTS_MAX, VERDICT_MS_MAX};
use hookcast::message::{Draft, SessionId};
use hookcast::shard::judging::{Judged, Judgement, SourceRequest, SourceTable};
use hookcast::shard::poller::Command;
use hookcast::sources::{Refusal, Reply, Success, Unpublished, Verdict};
use hookcast::testkit::source_table;

use super::coverage;
use super::model::session_name;
use super::operation::pick;
use super::request::{ANSWERED, REFUSED};
use super::world::World;

/// A request without a verdict.
pub struct Docketed {
    request: SourceRequest,
    since_ms: u64,
}

/// The sources of all runs.
pub fn table() -> Arc<SourceTable> {
    static TABLE: OnceLock<Arc<SourceTable>> = OnceLock::new();
    Arc::clone(TABLE.get_or_init(source_table))
}

impl World {
    /// Takes a request of a shard.
    pub fn take_source_request(&mut self, index: usize, request: SourceRequest, now_ms: u64) {
        coverage::count("requests to sources", 1);
        assert_eq!(&*request.name, "large");
        assert_eq!(request.request.query(), Some("a=b"));
        let judging = &mut self.node.shards[index].judging;
        judging.push(Docketed {
            request,
            since_ms: now_ms,
        });
        assert!(
            judging.len() <= JUDGING_REQUESTS_MAX,
            "the queue has no bound"
        );
    }

    /// Gives one request its verdict, if one waits.
    pub fn judge(&mut self) -> bool {
        let shards = 0..self.node.shards.len();
        let waits = |&index: &usize| !self.node.shards[index].judging.is_empty();
        let waiting: Vec<usize> = shards.filter(waits).collect();
        if waiting.is_empty() {
            return false;
        }
        let index = *pick(&mut self.rng, &waiting);
        let place = self.rng.usize(..self.node.shards[index].judging.len());
        coverage::count("verdicts out of order", u64::from(place > 0));
        let Docketed { request, .. } = self.node.shards[index].judging.remove(place);
        let judged = Judged {
            ticket: request.ticket,
            judgement: Judgement::Verdict(self.verdict(&request)),
            counts: None,
        };
        self.node.shards[index].send(Command::Judged(Box::new(judged)));
        true
    }

    fn verdict(&self, request: &SourceRequest) -> Verdict {
        let body = str::from_utf8(request.request.body()).expect("it arrives as it was sent");
        match body {
            REFUSED => return Verdict::Refuse(Refusal::BodyMalformed("body".into())),
            ANSWERED => {
                return Verdict::Reply {
                    reply: Reply::text(b"yes".to_vec()),
                    why: Unpublished::Handshake,
                };
            }
            _ => {}
        }
        let key = body.strip_prefix('m').and_then(|rest| rest.split_once(':'));
        let key: usize = key.expect("a key").0.parse().expect("a number");
        let offer = &self.model.offers[key];
        assert_eq!(body, offer.content, "the body has changed on its way");
        let session = offer.session.map(session_name);
        let session = session.and_then(|name| SessionId::parse(&name).expect("it is short"));
        Verdict::Publish {
            draft: Draft {
                session,
                content: body.to_owned(),
                label: None,
                identity: None,
            },
            success: Success::Receipt,
        }
    }

    /// Whether a request has no verdict yet, and is not overdue.
    pub fn may_verdicts_publish(&self) -> bool {
        let mut waiting = self.node.shards.iter().flat_map(|shard| &shard.judging);
        waiting.any(|docketed| self.mono_ms < docketed.since_ms + VERDICT_MS_MAX)
    }
}
