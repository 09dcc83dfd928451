use serde_json::json;

use super::check;

#[test]
fn grafana() {
    let alert = |instance: &str| {
        json!({"labels": {"instance": instance, "alertname": "CPU"},
        "annotations": {"summary": "CPU is high"}})
    };
    let seven: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"]
        .iter()
        .map(|name| alert(name))
        .collect();
    check(
        "alertmanager",
        &[
            (
                "firing",
                json!({"status": "firing", "groupLabels": {"alertname": "CPU"}, "alerts": [alert("s1")]}),
                "FIRING CPU\ns1: CPU is high",
            ),
            (
                "resolved",
                json!({"status": "resolved", "groupLabels": {}, "receiver": "ops", "alerts": seven}),
                "RESOLVED (7 alerts) ops\na: CPU is high\nb: CPU is high\nc: CPU is high\nd: CPU is high\n\
             e: CPU is high\nand 2 more",
            ),
            (
                "firing",
                json!({"status": "firing", "commonLabels": {"alertname": "CPU"}}),
                "FIRING CPU",
            ),
        ],
    );
    check(
        "grafana",
        &[
            (
                "firing",
                json!({"status": "firing", "title": "[FIRING:1] CPU", "alerts": [alert("s1")]}),
                "[FIRING:1] CPU\nCPU is high (s1)",
            ),
            (
                "resolved",
                json!({"status": "resolved", "commonLabels": {"alertname": "CPU"}}),
                "[RESOLVED] CPU",
            ),
        ],
    );
}

#[test]
fn cloudflare() {
    let incident = json!({"event": {"data": {"number": 2, "title": "A bump", "urgency": "high",
        "service": {"summary": "API"}, "html_url": "https://p/2"}}});
    check(
        "pagerduty",
        &[
            (
                "incident.priority_updated",
                incident,
                "Incident #2 priority updated: A bump (API, high urgency)\nhttps://p/2",
            ),
            (
                "service.created",
                json!({"event": {"data": {"summary": "API"}}}),
                "hub service.created: API",
            ),
            (
                "pagey.ping",
                json!({"event": {"data": {"message": "Hello"}}}),
                "hub pagey.ping",
            ),
        ],
    );
    let issue =
        json!({"shortId": "IPE-1", "level": "error", "title": "Boom", "web_url": "https://s/1"});
    check(
        "sentry",
        &[
            (
                "issue.created",
                json!({"action": "created", "data": {"issue": issue}}),
                "Issue IPE-1 created (error): Boom\nhttps://s/1",
            ),
            (
                "event_alert.triggered",
                json!({"data": {"triggered_rule": "Many", "event":
            {"title": "Boom", "web_url": "https://s/e"}}}),
                "Alert Many: Boom\nhttps://s/e",
            ),
            (
                "metric_alert.critical",
                json!({"action": "critical", "data": {"description_title": "Critical: Load",
            "description_text": "5 errors", "web_url": "https://s/m"}}),
                "Alert critical: Critical: Load, 5 errors\nhttps://s/m",
            ),
            (
                "installation.created",
                json!({"actor": {"name": "Ana"}}),
                "hub installation.created by Ana",
            ),
        ],
    );
    check(
        "cloudflare",
        &[(
            "a.b",
            json!({"name": "Origin", "text": "is down"}),
            "Origin: is down",
        )],
    );
}

#[test]
fn uptime_kuma() {
    check(
        "uptime-kuma",
        &[
            (
                "down",
                json!({"msg": "[shop] down", "monitor": {"url": "https://shop"}}),
                "[shop] down\nhttps://shop",
            ),
            (
                "test",
                json!({"msg": "shop Testing", "monitor": null}),
                "shop Testing",
            ),
        ],
    );
}

#[test]
fn eventgrid() {
    check(
        "eventgrid",
        &[
            (
                "made",
                json!([{"eventType": "made", "subject": "/a"}]),
                "made: /a",
            ),
            (
                "made",
                json!([{"eventType": "made", "subject": "/a"}, {"eventType": "gone"}]),
                "made: /a\ngone",
            ),
            (
                "made",
                many("eventType", 6),
                "made\nmade\nmade\nmade\nmade\nand 1 more event",
            ),
            (
                "made",
                many("type", 7),
                "made\nmade\nmade\nmade\nmade\nand 2 more events",
            ),
            (
                "made",
                json!({"specversion": "1.0", "subject": "/a"}),
                "made: /a",
            ),
            ("made", json!({}), "made"),
        ],
    );
}

fn many(member: &str, count: usize) -> serde_json::Value {
    json!(vec![json!({member: "made", "specversion": "1.0"}); count])
}

#[test]
fn cloudevents() {
    check(
        "cloudevents",
        &[
            (
                "com.example.made",
                json!({"specversion": "1.0", "source": "/shop", "subject": "hat"}),
                "com.example.made from /shop: hat",
            ),
            (
                "com.example.made",
                json!({"anything": 1}),
                "com.example.made",
            ),
            (
                "a",
                json!([
                    {"specversion": "1.0", "type": "a", "source": "/shop", "subject": "hat"},
                    {"specversion": "1.0", "type": "b", "source": "/shop"},
                ]),
                "a from /shop: hat\nb from /shop",
            ),
            (
                "made",
                many("type", 6),
                "made\nmade\nmade\nmade\nmade\nand 1 more event",
            ),
            // The body of an event whose type is in a field is its data.
            ("made", json!([1, 2]), "made"),
        ],
    );
}
