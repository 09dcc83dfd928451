//! The checks of an examination, in the order in which they are made and reported.
//!
//! Used by [`doctor`](super). Requests go through [`probe`](super::probe); each result is judged and
//! reported at once. Never omits a check silently: a skipped one is reported with the reason.

use std::time::Instant;

use super::finding::{
    ADDRESS, BUFFERING, COMPRESSION, CUT, DELAY, Finding, HEADERS, HEARTBEAT, HISTORY, HTTP, POST,
    RESUME, SECRET, STREAM,
};
use super::judge::{Context, address, delivery, fields, history, life, post};
use super::probe::{Asked, PATIENCE, Post, Probe};
use super::report::{Report, Start};
use super::watch::Watch;
use crate::check::Verdict;
use crate::config::{DoctorConfig, Secret};
use crate::foreign_text::{Secrets, quote};
use crate::limits::{DOCTOR_MESSAGES, HISTORY_MESSAGES};

/// Examines an address, and reports each check as it begins and ends.
pub(super) fn examine(
    config: &DoctorConfig,
    secret: Option<&Secret>,
    secrets: &Secrets,
    report: Report<'_>,
) -> bool {
    let mut context = Context::new(config.url.as_str(), secrets, secret.is_some());
    context.has_token = config.token.is_some();
    let mut examination = Examination {
        config,
        context,
        report,
    };
    examination.announce();
    if let Some(probe) = examination.find(secret, secrets) {
        examination.check(&probe);
    } else {
        examination.skip_all_but_address();
    }
    examination.report.finish()
}

struct Examination<'a, 'o> {
    config: &'a DoctorConfig,
    context: Context<'a>,
    report: Report<'o>,
}

impl<'a> Examination<'a, '_> {
    /// Announces the examination before the first request, because posts are visible and take places in
    /// the history.
    fn announce(&mut self) {
        let url = &quote(self.config.url.as_str(), self.context.secrets);
        let watch = humantime::format_duration(self.config.watch);
        let posts = if self.config.read_only {
            0
        } else {
            DOCTOR_MESSAGES
        };
        let words = if self.config.read_only {
            format!("Examining {url} for {watch}. This posts nothing.")
        } else {
            format!(
                "Examining {url} for {watch}. This posts {posts} messages to a session of its own. They take {posts} of \
                 the {HISTORY_MESSAGES} places in the server's history: in a full one, the {posts} oldest messages are \
                 dropped. Only streams that see everything show them. --read-only posts nothing."
            )
        };
        let start = Start {
            url,
            watch_ms: u64::try_from(self.config.watch.as_millis()).unwrap_or(u64::MAX),
            posts,
            history_places: HISTORY_MESSAGES,
        };
        self.report.announce(&words, &start);
    }

    /// Checks that hookcast answers at the address. Another server gets no further request.
    fn find(&mut self, secret: Option<&'a Secret>, secrets: &'a Secrets) -> Option<Probe<'a>> {
        self.report.begin(ADDRESS, "GET /api/webhook");
        let probe = match Probe::new(self.config, secret, secrets) {
            Ok(probe) => probe,
            Err(fault) => {
                self.report.end(&Finding::failed(ADDRESS, fault));
                return None;
            }
        };
        let status = probe.status();
        if let Ok(answer) = &status {
            self.context.record_hops(answer);
        }
        let found = address::address(&status, &self.context);
        self.report.end(&found);
        let answer = status.ok().filter(|_| found.verdict == Verdict::Passed)?;
        self.report.end(&address::http(&answer.head, &self.context));
        Some(probe)
    }

    fn skip_all_but_address(&mut self) {
        let subjects = [
            HTTP,
            STREAM,
            COMPRESSION,
            HEADERS,
            POST,
            BUFFERING,
            DELAY,
            HEARTBEAT,
            CUT,
            RESUME,
            HISTORY,
        ];
        self.skip(&subjects, "hookcast was not found");
    }

    fn skip(&mut self, subjects: &[&'static str], why: &str) {
        self.report.skip(subjects, why);
    }

    fn check(&mut self, probe: &Probe<'_>) {
        let before = probe.history();
        let mut watch = self.open(probe);
        let posts = if self.config.read_only {
            self.check_without_posts(probe, &watch);
            Vec::new()
        } else {
            self.post(probe, &mut watch)
        };
        let events_come = posts.iter().filter(|post| post.is_accepted());
        let events_come = events_come.map(|post| post.arrived.is_some()).min();
        // If even the first event of the stream is missing, events do not arrive. This is known
        // without a post.
        let events_come = events_come.or(watch.seen.connected.is_none().then_some(false));
        self.watch(&mut watch, events_come);
        self.resume(probe, &posts, &before);
        self.report.begin(HISTORY, "GET /api/webhook/messages");
        let posted = posts.iter().filter(|post| post.is_accepted()).count();
        let found = history::history(&probe.history(), Some(&before), posted, &self.context);
        self.report.end(&found);
    }

    /// Opens the stream that is watched.
    fn open(&mut self, probe: &Probe<'_>) -> Watch {
        self.report.begin(STREAM, "GET /api/webhook/stream");
        let watch = probe.stream(None, self.config.watch + 2 * PATIENCE);
        self.report
            .end(&delivery::stream(&watch.seen, &self.context));
        match &watch.seen.head {
            Some((_, head)) if head.status == 200 => {
                let found = fields::compression(head, &watch.seen, &self.context);
                self.report.end(&found);
                self.report.end(&fields::headers(head, &self.context));
            }
            _ => self.skip(&[COMPRESSION, HEADERS], NO_STREAM),
        }
        watch
    }

    fn check_without_posts(&mut self, probe: &Probe<'_>, watch: &Watch) {
        if self.context.has_secret {
            self.report.begin(
                SECRET,
                "GET /api/webhook/messages with the secret and a wrong one",
            );
            if let Some(real) = probe.history_with_secret() {
                let dummy = probe.history_with_dummy_secret();
                self.report.end(&post::secret(&real, &dummy, &self.context));
            }
        }
        self.skip(&[POST], READ_ONLY);
        self.buffering(watch, &[]);
        self.skip(&[DELAY], READ_ONLY);
    }

    fn post(&mut self, probe: &Probe<'_>, watch: &mut Watch) -> Vec<Post> {
        let doing = format!(
            "posting {DOCTOR_MESSAGES} messages, {DOCTOR_MESSAGES} of the {HISTORY_MESSAGES} that are kept"
        );
        self.report.begin(POST, &doing);
        let posts = probe.posts(watch);
        if let Some(last) = posts.last() {
            let is_unauthorized =
                matches!(&last.answer, Ok((_, answer)) if answer.head.status == 401);
            let dummy = (self.context.has_secret && is_unauthorized)
                .then(|| probe.history_with_dummy_secret());
            self.report
                .end(&post::post(last, dummy.as_ref(), &self.context));
        }
        self.buffering(watch, &posts);
        match delivery::delay(&posts, &self.context) {
            Some(found) => self.report.end(&found),
            None => self.skip(&[DELAY], "no event came"),
        }
        posts
    }

    fn buffering(&mut self, watch: &Watch, posts: &[Post]) {
        let seen = &watch.seen;
        let is_refused = seen.is_refused_for_room()
            || matches!(&seen.head, Some((_, head)) if head.status != 200);
        if is_refused {
            self.skip(&[BUFFERING], NO_STREAM);
        } else {
            self.report
                .end(&delivery::buffering(seen, posts, &self.context));
        }
    }

    fn watch(&mut self, watch: &mut Watch, events_come: Option<bool>) {
        if !matches!(&watch.seen.head, Some((_, head)) if head.status == 200)
            || watch.seen.is_refused_for_room()
        {
            return self.skip(&[HEARTBEAT, CUT], NO_STREAM);
        }
        let until = watch.began() + self.config.watch;
        let rest = until.saturating_duration_since(Instant::now());
        let doing = format!("watching the stream for {} s more", rest.as_secs());
        self.report.begin(HEARTBEAT, &doing);
        watch.until(until, |_| false);
        self.report
            .end(&life::heartbeat(&watch.seen, events_come, &self.context));
        self.report.end(&life::cut(&watch.seen, &self.context));
    }

    /// Resumes after the first post, or with `--read-only` after the last message in the history.
    fn resume(&mut self, probe: &Probe<'_>, posts: &[Post], before: &Asked) {
        self.report
            .begin(RESUME, "a second stream, with Last-Event-ID");
        let resumed = if self.config.read_only {
            history::kept(before).map(|(kept, id)| probe.resume_at(&id, kept))
        } else {
            probe.resume_behind(posts)
        };
        match resumed {
            Some(resumed) => self.report.end(&delivery::resume(resumed, &self.context)),
            None if self.config.read_only => {
                self.skip(&[RESUME], "no message is kept to resume behind");
            }
            None => self.skip(&[RESUME], "no event came to resume behind"),
        }
    }
}

const NO_STREAM: &str = "there is no stream";
const READ_ONLY: &str = "--read-only";
