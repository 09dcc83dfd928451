//! The type of an event, in its provider's words.
//!
//! Providers name it in a header field, in the body, or in both. Called through a preset.

use serde_json::Value;

use crate::limits::EVENT_TYPE_BYTES_MAX;

use super::Incoming;

/// A type that fits into a label: without control characters, cut at [`EVENT_TYPE_BYTES_MAX`].
pub(super) fn bounded(name: &str) -> String {
    let chars = name.chars().take(EVENT_TYPE_BYTES_MAX);
    let mut text: String = chars.filter(|char| !char.is_control()).collect();
    while text.len() > EVENT_TYPE_BYTES_MAX {
        text.pop();
    }
    text
}

/// The text at a JSON pointer; an empty one is none.
pub(super) fn text<'a>(body: &'a Value, pointer: &str) -> Option<&'a str> {
    let text = body.pointer(pointer)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

/// The first of some fields that is there.
pub(super) fn field<'a>(incoming: &Incoming<'a>, names: &[&str]) -> Option<&'a str> {
    let mut texts = names.iter().filter_map(|name| incoming.fields.text(name));
    texts.find(|text| !text.is_empty())
}

/// `name.detail`, or the name alone.
fn dotted(name: Option<&str>, detail: Option<&str>) -> Option<String> {
    match (name?, detail) {
        (name, Some(detail)) => Some(format!("{name}.{detail}")),
        (name, None) => Some(name.to_owned()),
    }
}

/// A type that the body names.
fn of_body(body: &Value, pointer: &str) -> Option<String> {
    text(body, pointer).map(str::to_owned)
}

/// `push`, `pull_request.opened`.
pub(super) fn github(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    dotted(field(incoming, &["X-GitHub-Event"]), text(body, "/action"))
}

/// `push`, `pull_request.opened`: Gitea, Forgejo and Gogs send GitHub's names beside their own.
pub(super) fn gitea(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let names = [
        "X-Gitea-Event",
        "X-Forgejo-Event",
        "X-Gogs-Event",
        "X-GitHub-Event",
    ];
    dotted(field(incoming, &names), text(body, "/action"))
}

/// `push`, `merge_request.open`, `pipeline.success`, `confidential_issue.open`. Of the body, which is signed;
/// `Push Hook` of the header field becomes `push`.
pub(super) fn gitlab(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let kind = text(body, "/object_kind").or(text(body, "/event_name"));
    let detail = match kind {
        Some("pipeline") => text(body, "/object_attributes/status"),
        Some("build") => text(body, "/build_status"),
        _ => text(body, "/object_attributes/action").or(text(body, "/action")),
    };
    let kind = kind.map(|kind| {
        if is_confidential(incoming, body) && !kind.starts_with("confidential_") {
            format!("confidential_{kind}")
        } else {
            kind.to_owned()
        }
    });
    dotted(kind.as_deref(), detail).or_else(|| {
        let title = field(incoming, &["X-Gitlab-Event"])?;
        let name = title.strip_suffix(" Hook").unwrap_or(title);
        Some(name.to_lowercase().replace(' ', "_"))
    })
}

/// Whether an issue of GitLab, or a comment, is for few readers. One of three places is enough: what hides an
/// issue must not be lost with a header field, which nothing signs.
fn is_confidential(incoming: &Incoming<'_>, body: &Value) -> bool {
    let is_true = |pointer| body.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let hook = field(incoming, &["X-Gitlab-Event"]).unwrap_or("");
    is_true("/object_attributes/confidential")
        || is_true("/object_attributes/internal")
        || is_true("/issue/confidential")
        || text(body, "/event_type").is_some_and(|kind| kind.starts_with("confidential_"))
        || hook.starts_with("Confidential ")
}

/// `repo:push`.
pub(super) fn bitbucket(incoming: &Incoming<'_>, _body: &Value) -> Option<String> {
    field(incoming, &["X-Event-Key"]).map(str::to_owned)
}

/// `invoice.paid`: the member `type`.
pub(super) fn of_type(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    of_body(body, "/type")
}

/// `message`, `app_mention`; of a form `command`, or the type of its payload.
pub(super) fn slack(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let command = text(body, "/command").map(|_| "command".to_owned());
    of_body(body, "/event/type")
        .or_else(|| of_body(body, "/type"))
        .or(command)
}

/// `APPLICATION_AUTHORIZED` of an event; the kind of an interaction.
pub(super) fn discord(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let interaction = match body.pointer("/type").and_then(Value::as_u64) {
        Some(2) => "application_command",
        Some(3) => "message_component",
        Some(4) => "autocomplete",
        Some(5) => "modal_submit",
        _ => "",
    };
    of_body(body, "/event/type").or_else(|| Some(interaction.to_owned()))
}

/// `Issue.create`.
pub(super) fn linear(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let kind = text(body, "/type").or_else(|| field(incoming, &["Linear-Event"]));
    dotted(kind, text(body, "/action"))
}

/// `issue.created`.
pub(super) fn sentry(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let resource = field(incoming, &["Sentry-Hook-Resource"]);
    dotted(resource, text(body, "/action"))
}

/// `incident.triggered`.
pub(super) fn pagerduty(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    of_body(body, "/event/event_type")
}

/// `meeting.started`.
pub(super) fn zoom(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    of_body(body, "/event")
}

/// `firing`, `resolved`: of Grafana and of Alertmanager.
pub(super) fn of_status(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    of_body(body, "/status")
}

/// `message`, `callback_query`: the member beside `update_id`.
pub(super) fn telegram(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let mut members = body.as_object()?.iter();
    let (name, _) = members.find(|(name, value)| *name != "update_id" && value.is_object())?;
    Some(name.clone())
}

/// `http_alert_origin_error.ALERT_STATE_EVENT_START`.
pub(super) fn cloudflare(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    dotted(text(body, "/alert_type"), text(body, "/alert_event"))
}

/// `up`, `down`; `test` of the button that sends one.
pub(super) fn uptime_kuma(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let name = match body.pointer("/heartbeat/status").and_then(Value::as_u64) {
        Some(0) => "down",
        Some(1) => "up",
        Some(2) => "pending",
        Some(3) => "maintenance",
        _ if text(body, "/msg").is_some() => "test",
        _ => return None,
    };
    Some(name.to_owned())
}

/// `Microsoft.Storage.BlobCreated`.
pub(super) fn event_grid(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    of_body(body, "/eventType").or_else(|| cloud_events(incoming, body))
}

/// `com.example.someevent`: a field if the body is the event's data, else a member.
pub(super) fn cloud_events(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let name = field(incoming, &["ce-type"]).map(str::to_owned);
    name.or_else(|| of_body(body, "/type"))
}

/// The events of a body that is an array of them.
pub(super) fn batch(body: &Value) -> &[Value] {
    body.as_array().map_or(&[], Vec::as_slice)
}

/// What unknown senders name most.
pub(super) fn generic(_incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let mut names = ["/event_type", "/event", "/type"].iter();
    names.find_map(|pointer| of_body(body, pointer))
}
