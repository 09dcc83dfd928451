//! What a source takes: the bound of a body, its proof, its encoding.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::sources::Success;
use crate::sources::scheme::hex;

fn tag(body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    hex(ring::hmac::sign(&key, body).as_ref())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_signed_push_becomes_a_message() {
    let sources =
        sources("[hub]\npreset = \"github\"\nsecret_files = [\"good\"]\nsession = \"ops\"\n");
    let body =
        br#"{"commits":[{},{},{}],"head_commit":{"message":"Fix rounding"},"ref":"refs/heads/main",
        "pusher":{"name":"ana"},"repository":{"full_name":"acme/shop","default_branch":"main"}}"#;
    let tag = format!("sha256={}", tag(body));
    let fields = [
        ("X-Hub-Signature-256", tag.as_str()),
        ("X-GitHub-Event", "push"),
        ("X-GitHub-Delivery", "1"),
    ];
    let verdict = received(&sources, &fields, body);
    assert!(matches!(
        verdict,
        Verdict::Publish {
            success: Success::Receipt,
            ..
        }
    ));
    let draft = draft(verdict);
    assert_eq!(
        draft.content,
        "ana pushed 3 commits to acme/shop: Fix rounding"
    );
    assert_eq!(draft.session.unwrap().as_str(), "ops");
    let label = draft.label.unwrap();
    assert_eq!((label.source(), label.event()), ("hub", "push"));
    let identity = draft.identity.unwrap();
    assert!(identity.id.is_some() && identity.tag.is_some() && identity.window_s == 259_200);

    let forged = [b"x".as_slice(), body].concat();
    assert_eq!(refusal(received(&sources, &fields, &forged)).status(), 401);
}

#[test]
fn bodies_are_bounded_before_anything_else() {
    let sources = open("max_body = \"1KiB\"");
    assert_eq!(content(&sources, &"x".repeat(1024)).len(), 1024);
    let refused = refusal(received(&sources, &[], &[b'x'; 1025]));
    assert_eq!((refused.status(), refused.name()), (413, "body_too_large"));
}

#[test]
fn gzip_is_verified_as_received_and_then_inflated() {
    let text = "[hub]\npreset = \"hmac\"\nheader = \"X-Sum\"\nsecret_files = [\"good\"]\nmax_body = \"1KiB\"\n";
    let (plain, packed) = (sources(text), sources(&format!("{text}gzip = true\n")));
    let body = gzip(br#"{"type":"made"}"#);
    let sum = tag(&body);
    let fields = [("X-Sum", sum.as_str()), ("Content-Encoding", "gzip")];
    assert_eq!(
        draft(received(&packed, &fields, &body)).content,
        r#"{"type":"made"}"#
    );
    let refused = refusal(received(&plain, &fields, &body));
    assert_eq!(refused.status(), 415);
    assert!(refused.to_string().contains("gzip = true"), "{refused}");
    // Not signed: refused for that, whatever its encoding is.
    let unsigned = [("X-Sum", "00"), ("Content-Encoding", "br")];
    assert_eq!(refusal(received(&packed, &unsigned, &body)).status(), 401);

    let expect = |body: &[u8], encoding: &str, status: u16| {
        let tag = tag(body);
        let fields = [("X-Sum", tag.as_str()), ("Content-Encoding", encoding)];
        assert_eq!(
            refusal(received(&packed, &fields, body)).status(),
            status,
            "{encoding}"
        );
    };
    expect(&gzip(&[b'x'; 1025]), "gzip", 413);
    expect(&gzip(&vec![b'x'; 1024 * 1024]), "gzip", 413);
    expect(b"{}", "gzip", 400);
    expect(b"{}", "br", 415);
    let tag = tag(b"{}");
    let twice = [
        ("X-Sum", tag.as_str()),
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "identity"),
    ];
    assert_eq!(
        refusal(received(&packed, &twice, b"{}")).name(),
        "repeated_field"
    );
}

/// Gitea signs the decoded `payload` of a form. Nothing else is signed, so nothing else is read: not the
/// other fields, and not the content type.
#[test]
fn only_what_is_signed_is_read() {
    let sources = sources(
        "[hub]\npreset = \"gitea\"\nsecret_files = [\"good\"]\n[hub.templates]\n\
         \"*\" = \"{{ ref }} {{ extra }} {{ body }}\"\n",
    );
    let tag = tag(br#"{"ref":"main"}"#);
    let fields = [
        ("X-Gitea-Signature", tag.as_str()),
        ("X-Gitea-Event", "push"),
    ];
    let body = b"extra=forged&payload=%7B%22ref%22%3A%22main%22%7D";
    assert_eq!(
        draft(received(&sources, &fields, body)).content,
        "main  {'ref': 'main'}"
    );
}

#[test]
fn a_handshake_is_verified_first() {
    let sources = sources("[hub]\npreset = \"zoom\"\nsecret_files = [\"good\"]\n");
    let body = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"P"}}"#;
    let time = (NOW_MS / 1000).to_string();
    let signed = format!("v0={}", tag(format!("v0:{time}:{body}").as_bytes()));
    let fields = |tag| {
        [
            ("x-zm-request-timestamp", time.as_str()),
            ("x-zm-signature", tag),
        ]
    };
    let verdict = received(&sources, &fields(signed.as_str()), body.as_bytes());
    assert_eq!(why(&verdict), Some(Unpublished::Handshake));
    let forged = format!("v0={}", "0".repeat(64));
    assert_eq!(
        refusal(received(
            &sources,
            &fields(forged.as_str()),
            body.as_bytes()
        ))
        .status(),
        401
    );
}

/// The signed bytes are joined by dots. A copy whose dots are taken for others has another id, another time
/// and another body, and fits.
#[test]
fn a_request_that_is_cut_at_other_dots_is_a_repeat() {
    let now_s = NOW_MS / 1000;
    let standard = "[hub]\npreset = \"standard\"\nkey = \"text\"\nsecret_files = [\"good\"]\n";
    let standard_tag = |text: String| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = ring::hmac::sign(&key, text.as_bytes());
        format!(
            "v1,{}",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, tag)
        )
    };
    let (time, earlier) = (now_s.to_string(), (now_s - 9).to_string());
    let id = format!("order.{earlier}");
    let signed = standard_tag(format!("{id}.{time}.{{}}"));
    let fields = |id: &str, time: &str, body: &str| {
        let fields = [
            ("webhook-id", id),
            ("webhook-timestamp", time),
            ("webhook-signature", &signed),
        ];
        draft(received(&sources(standard), &fields, body.as_bytes()))
            .identity
            .unwrap()
    };
    let (first, copy) = (
        fields(&id, &time, "{}"),
        fields("order", &earlier, &format!("{time}.{{}}")),
    );
    assert_ne!(first.id, copy.id);
    assert!(first.tag.is_some() && first.tag == copy.tag);

    let of_file = "[hub]\npreset = \"hmac\"\nheader = \"X-Sum\"\nid_header = \"X-Id\"\n\
                   signed = \"{id}.{body}\"\nsecret_files = [\"good\"]\n";
    let signed = tag(b"7.{\"sum\":1.5}");
    let of = |id, body: &str| {
        let fields = [("X-Sum", signed.as_str()), ("X-Id", id)];
        draft(received(&sources(of_file), &fields, body.as_bytes()))
            .identity
            .unwrap()
    };
    let (first, copy) = (of("7", "{\"sum\":1.5}"), of("7.{\"sum\":1", "5}"));
    assert_ne!(first.id, copy.id);
    assert!(first.tag.is_some() && first.tag == copy.tag);
}

/// As a structured field it is in quotes; GitLab and others write it bare.
#[test]
fn an_idempotency_key_in_quotes_is_the_same_as_a_bare_one() {
    for preset in ["token", "hmac\"\nheader = \"X-Sum", "gitlab"] {
        let sources = sources(&format!("[hub]\npreset = \"{preset}\"\nverify = false\n"));
        let id = |value: &str| {
            let draft = draft(received(&sources, &[("Idempotency-Key", value)], b"{}"));
            draft.identity.and_then(|identity| identity.id)
        };
        assert!(id("a").is_some(), "{preset}");
        assert_eq!(id("\"a\""), id("a"), "{preset}");
        assert_ne!(id("\"a"), id("a"), "{preset}");
        assert_eq!((id("\"\""), id("")), (None, None), "{preset}");
    }
    // Other ids are what stands there.
    let sources = open("id_header = \"X-Id\"");
    let id = |value: &str| {
        draft(received(&sources, &[("X-Id", value)], b"{}"))
            .identity
            .unwrap()
            .id
    };
    assert_ne!(id("\"a\""), id("a"));
}

#[test]
fn a_time_of_linear_that_occurs_twice_is_named_so() {
    let sources = sources("[hub]\npreset = \"linear\"\nsecret_files = [\"good\"]\n");
    let body = format!(r#"{{"webhookTimestamp":1,"webhookTimestamp":{NOW_MS}}}"#);
    let found = refusal(received(
        &sources,
        &[("Linear-Signature", &tag(body.as_bytes()))],
        body.as_bytes(),
    ));
    assert_eq!(
        found.to_string(),
        "the body's webhookTimestamp occurs twice"
    );
    assert_eq!(found.status(), 400);
}
