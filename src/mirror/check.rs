//! `hookcast kv-check`: tries the mirror's settings step by step, and reports each step as a sentence.
//!
//! Called by `main`, which prints the result. Never writes to the history: the write is tried on another
//! key, which is then deleted.

use std::time::Duration;

use crate::check::{Check, Verdict};
use crate::config::KvConfig;
use crate::limits::HISTORY_MESSAGES;
use crate::mirror::KEY;
use crate::mirror::cloudflare::Client;
use crate::mirror::merge::join;
use crate::mirror::reply::{Failure, FailureKind, Reply, TokenState};
use crate::mirror::value::{self, Stored};

/// The key on which the write is tried.
const PROBE_KEY: &str = "hookcast:kv-check";

const SETTINGS: &str = "settings";
const CONNECTION: &str = "connection";
const TOKEN: &str = "token";
const ACCOUNT: &str = "account";
const NAMESPACE: &str = "namespace";
const READ: &str = "read";
const HISTORY: &str = "history";
const WRITE: &str = "write";

/// Tries settings, connection, token, account, namespace, reading, the history itself, and writing, in
/// this order. The settings work if no check is [`Verdict::Failed`]. Takes at most three calls.
pub fn kv_check(config: &KvConfig) -> Vec<Check> {
    let client = match Client::new(config) {
        Ok(client) => client,
        Err(error) => {
            let failed = check(SETTINGS, Verdict::Failed, error.to_string());
            return with_skipped(
                vec![failed],
                &[CONNECTION, TOKEN, ACCOUNT, NAMESPACE, READ, HISTORY, WRITE],
            );
        }
    };
    let settings = format!(
        "namespace {} of account {} at {}",
        config.namespace,
        config.account,
        config.endpoint.as_str()
    );
    let mut checks = vec![check(SETTINGS, Verdict::Passed, settings)];
    let reply = client.read(KEY, config.timeout);
    if let Err(failure) = &reply.result {
        let token = || client.token_state(config.timeout);
        return with_skipped(failed_read(checks, failure, token), &[HISTORY, WRITE]);
    }
    checks.extend([
        passed(CONNECTION, "the endpoint answers"),
        passed(TOKEN, "the token is accepted"),
        passed(ACCOUNT, "the account exists"),
        passed(NAMESPACE, "the namespace exists"),
        passed(READ, "the token may read it"),
    ]);
    checks.push(history(&reply));
    drop(reply);
    checks.push(write(&client, config.timeout));
    checks
}

/// The checks for a failed read: the steps before the failed one work. `token` asks the API for the state
/// of the token itself.
fn failed_read(
    mut checks: Vec<Check>,
    failure: &Failure,
    token: impl FnOnce() -> TokenState,
) -> Vec<Check> {
    let steps = [CONNECTION, TOKEN, ACCOUNT, NAMESPACE, READ];
    let culprit = match failure.kind {
        FailureKind::Unreachable | FailureKind::Timeout | FailureKind::Unexpected => CONNECTION,
        FailureKind::Credentials => TOKEN,
        FailureKind::Account => ACCOUNT,
        FailureKind::Namespace => NAMESPACE,
        FailureKind::Server | FailureKind::RateLimited | FailureKind::DailyLimit => READ,
    };
    // A step counts as passed only if the answer proves it: a server error says nothing about token and
    // namespace.
    if culprit != CONNECTION {
        checks.push(passed(CONNECTION, "the endpoint answers"));
    }
    let mut words = format!("{failure}; {}", advice(failure.kind));
    match culprit {
        TOKEN => words = format!("{failure}; {}", token_advice(token())),
        ACCOUNT => checks.push(match token() {
            TokenState::Active => passed(TOKEN, "the token is valid"),
            _ => check(TOKEN, Verdict::Skipped, "not tried".into()),
        }),
        NAMESPACE => checks.extend([
            passed(TOKEN, "the token is accepted"),
            passed(ACCOUNT, "the account exists"),
        ]),
        _ => {}
    }
    let at = steps.iter().position(|step| *step == culprit).unwrap_or(0);
    checks.push(check(culprit, Verdict::Failed, words));
    with_skipped(checks, &steps[at + 1..])
}

/// The advice for a refused token. The API gives the same answer for an invalid token, for one without the
/// permission, and for one of another account.
fn token_advice(state: TokenState) -> String {
    match state {
        TokenState::Active => format!(
            "the token itself is valid: CLOUDFLARE_ACCOUNT_ID is the id of another account, \
             or {}",
            advice(FailureKind::Credentials)
        ),
        TokenState::Inactive => {
            "CLOUDFLARE_API_TOKEN is disabled or has expired; create a new one".into()
        }
        TokenState::Refused => format!(
            "CLOUDFLARE_API_TOKEN is not a valid API token (a global key is not one, either); {}",
            advice(FailureKind::Credentials)
        ),
        TokenState::Unknown => advice(FailureKind::Credentials).into(),
    }
}

fn advice(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Unreachable => {
            "check --kv-endpoint, --kv-ca-file, name resolution, the firewall and the proxy variables"
        }
        FailureKind::Timeout => "check the network's outgoing connections, or raise --kv-timeout",
        FailureKind::Server => {
            "the settings are not the cause; try again later, see www.cloudflarestatus.com"
        }
        FailureKind::RateLimited => {
            "the token's user makes more than 1,200 calls in five minutes; wait five minutes, \
             then run fewer nodes on it or raise --kv-poll"
        }
        FailureKind::DailyLimit => "wait for 00:00 UTC, or use the paid plan",
        FailureKind::Credentials => {
            "CLOUDFLARE_API_TOKEN needs the permission Workers KV Storage: Edit \
             for the account in CLOUDFLARE_ACCOUNT_ID"
        }
        FailureKind::Account => {
            "CLOUDFLARE_ACCOUNT_ID must be the id of your account: npx wrangler whoami shows it"
        }
        FailureKind::Namespace => {
            "WEBHOOK_KV must be the id of a namespace of the account in CLOUDFLARE_ACCOUNT_ID: \
             npx wrangler kv namespace list shows them"
        }
        FailureKind::Unexpected => {
            "check --kv-endpoint: this does not look like the Cloudflare API"
        }
    }
}

fn history(reply: &Reply<Option<Vec<u8>>>) -> Check {
    let bytes = reply.result.as_ref().ok().and_then(Option::as_deref);
    let size = bytes.map_or(0, <[u8]>::len);
    let newest = |entries| join(entries, HISTORY_MESSAGES, u64::MAX);
    match value::parse(bytes, 4 * HISTORY_MESSAGES, &newest) {
        Err(value::Unreadable) => check(
            HISTORY,
            Verdict::Failed,
            format!(
                "the key {KEY} holds {size} bytes that are not a list of messages, and will not be \
                 overwritten; delete the key to start anew"
            ),
        ),
        Ok(Stored {
            foreign: 0, count, ..
        }) => passed(
            HISTORY,
            &format!("the key {KEY} holds {count} messages in {size} bytes"),
        ),
        Ok(Stored {
            foreign,
            count,
            first_fault,
            ..
        }) => {
            let first = first_fault
                .map(|(place, fault)| format!("; the first is at index {place}: {fault}"))
                .unwrap_or_default();
            let words = format!(
                "{foreign} of {count} entries of the key {KEY} are no messages and will not be shown{first}"
            );
            check(HISTORY, Verdict::Noted, words)
        }
    }
}

fn write(client: &Client, timeout: Duration) -> Check {
    if let Err(failure) = client
        .write(PROBE_KEY, b"written by hookcast kv-check", timeout)
        .result
    {
        let words = format!("{failure}; {}", advice(failure.kind));
        return check(WRITE, Verdict::Failed, words);
    }
    match client.delete(PROBE_KEY, timeout).result {
        Ok(()) => passed(
            WRITE,
            &format!("the token may write it (tried on the key {PROBE_KEY})"),
        ),
        Err(failure) => check(
            WRITE,
            Verdict::Noted,
            format!(
                "the token may write it, but the key {PROBE_KEY} could not be deleted: {failure}"
            ),
        ),
    }
}

fn check(subject: &'static str, verdict: Verdict, words: String) -> Check {
    Check {
        subject,
        verdict,
        words,
    }
}

fn passed(subject: &'static str, words: &str) -> Check {
    check(subject, Verdict::Passed, words.to_owned())
}

fn with_skipped(mut checks: Vec<Check>, subjects: &[&'static str]) -> Vec<Check> {
    let skipped = |subject: &&'static str| check(subject, Verdict::Skipped, "not tried".into());
    checks.extend(subjects.iter().map(skipped));
    checks
}
