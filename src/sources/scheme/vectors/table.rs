//! The table of vectors.

use super::Vector;

const DOCS_SECRET: &str = "It's a Secret to Everybody";

const BASE: Vector = Vector {
    source: "",
    preset: "github",
    settings: |_| {},
    secret: DOCS_SECRET,
    body: "",
    fields: &[],
    now_s: 1_700_000_000,
    tag: "",
    time: "",
};

const STANDARD: Vector = Vector {
    source: "Standard Webhooks' libraries",
    preset: "standard",
    secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    body: r#"{"test": 2432232314}"#,
    fields: &[
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ],
    now_s: 1_614_265_330,
    tag: "webhook-signature",
    time: "webhook-timestamp",
    ..BASE
};

const STANDARD_PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";

const STRIPE: Vector = Vector {
    source: "input of stripe-python's tests, computed",
    preset: "stripe",
    secret: "whsec_test_secret",
    body: "{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\",\n  \"data\": { \"object\": { \
           \"id\": \"rdr_123\", \"object\": \"terminal.reader\" } }\n}",
    fields: &[(
        "Stripe-Signature",
        "t=1614265330,v1=117f2d4aa1697fc9f837f2feca4e5e23ec790ffa7b6b669073d3677ae48c4b5f",
    )],
    now_s: 1_614_265_330,
    tag: "Stripe-Signature",
    ..BASE
};

/// All of them.
pub(in crate::sources::scheme) const VECTORS: [Vector; 30] = [
    Vector {
        source: "GitHub's documentation",
        body: "Hello, World!",
        fields: &[(
            "X-Hub-Signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        )],
        tag: "X-Hub-Signature-256",
        ..BASE
    },
    Vector {
        source: "RFC 4231, case 2",
        secret: "Jefe",
        body: "what do ya want for nothing?",
        fields: &[(
            "X-Hub-Signature-256",
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        )],
        tag: "X-Hub-Signature-256",
        ..BASE
    },
    Vector {
        source: "Bitbucket's documentation",
        preset: "bitbucket",
        body: "Hello World!",
        fields: &[(
            "X-Hub-Signature",
            "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
        )],
        tag: "X-Hub-Signature",
        ..BASE
    },
    STANDARD,
    Vector {
        source: "Standard Webhooks' libraries, secret without its prefix",
        secret: "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ..STANDARD
    },
    Vector {
        source: "the same, with the version of the tag before the secret",
        secret: "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ..STANDARD
    },
    Vector {
        source: "Svix' libraries",
        fields: &[
            ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("svix-timestamp", "1614265330"),
            (
                "svix-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ],
        tag: "svix-signature",
        time: "svix-timestamp",
        ..STANDARD
    },
    Vector {
        source: "Standard Webhooks' libraries, several tags",
        fields: &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            (
                "webhook-signature",
                "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= \
                 v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= \
                 v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= \
                 v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
            ),
        ],
        tag: "",
        ..STANDARD
    },
    Vector {
        source: "Standard Webhooks' library for Rust",
        secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        body: r#"{"email":"test@example.com","username":"test_user"}"#,
        fields: &[
            ("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
            ("webhook-timestamp", "1649367553"),
            (
                "webhook-signature",
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ],
        now_s: 1_649_367_553,
        ..STANDARD
    },
    Vector {
        source: "svix-server's tests",
        secret: STANDARD_PUBLIC,
        fields: &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            (
                "webhook-signature",
                "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM\
                 +m7TBAg==",
            ),
        ],
        ..STANDARD
    },
    Vector {
        source: "the same, after a tag of the other version",
        secret: STANDARD_PUBLIC,
        fields: &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            (
                "webhook-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= \
                 v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM\
                 +m7TBAg==",
            ),
        ],
        tag: "",
        ..STANDARD
    },
    Vector {
        source: "computed, with the key of GitLab's merge request 231325",
        preset: "gitlab",
        secret: "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=",
        body: r#"{"object_kind":"push"}"#,
        fields: &[
            ("Idempotency-Key", "c2a4f7f0-5d3e-4f0a-9a52-3c1d9b1c6f11"),
            ("webhook-id", "c2a4f7f0-5d3e-4f0a-9a52-3c1d9b1c6f11"),
            ("webhook-timestamp", "1776000000"),
            (
                "webhook-signature",
                "v1,JFfqwEyOaVEsEy2lHkIJJZ5rWz6IsehoS3yENnz+/8I=",
            ),
            ("X-Gitlab-Event", "Push Hook"),
        ],
        now_s: 1_776_000_000,
        ..STANDARD
    },
    Vector {
        source: "Slack's documentation",
        preset: "slack",
        secret: "8f742231b10e8888abcd99yyyzzz85a5",
        body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
               &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
               &command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com\
               %2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
               &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        fields: &[
            ("X-Slack-Request-Timestamp", "1531420618"),
            (
                "X-Slack-Signature",
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
        ],
        now_s: 1_531_420_618,
        tag: "X-Slack-Signature",
        time: "X-Slack-Request-Timestamp",
        ..BASE
    },
    STRIPE,
    Vector {
        source: "the same, with another v1 and v0",
        fields: &[(
            "Stripe-Signature",
            "t=1614265330,v1=0000000000000000000000000000000000000000000000000000000000000000,\
             v1=117f2d4aa1697fc9f837f2feca4e5e23ec790ffa7b6b669073d3677ae48c4b5f,\
             v0=1111111111111111111111111111111111111111111111111111111111111111",
        )],
        tag: "",
        ..STRIPE
    },
    Vector {
        source: "Convoy's test",
        preset: "shopify",
        secret: "Convoy",
        body: "Test Payload Body",
        fields: &[(
            "X-Shopify-Hmac-Sha256",
            "16FUVH58NeMcTIIOICN2UJOcPTTa4TbjCndXymGrtM8=",
        )],
        tag: "X-Shopify-Hmac-Sha256",
        ..BASE
    },
    Vector {
        source: "the same, under the new name",
        preset: "shopify",
        secret: "Convoy",
        body: "Test Payload Body",
        fields: &[(
            "Shopify-Hmac-Sha256",
            "16FUVH58NeMcTIIOICN2UJOcPTTa4TbjCndXymGrtM8=",
        )],
        tag: "Shopify-Hmac-Sha256",
        ..BASE
    },
    Vector {
        source: "computed",
        preset: "pagerduty",
        body: r#"{"event":{"event_type":"incident.triggered"}}"#,
        fields: &[(
            "X-PagerDuty-Signature",
            "v1=1960c74f17f22b74d3b89f07e5a18c66ae4582821b642c5b592f1f6a85d34a72",
        )],
        tag: "X-PagerDuty-Signature",
        ..BASE
    },
    Vector {
        source: "computed, after the tag of another secret",
        preset: "pagerduty",
        body: r#"{"event":{"event_type":"incident.triggered"}}"#,
        fields: &[(
            "X-PagerDuty-Signature",
            "v1=7020c8a7ec668a9b7012bc3dd82e483394b038f4230acc6785efbf2a7d8bcaf5,\
             v1=1960c74f17f22b74d3b89f07e5a18c66ae4582821b642c5b592f1f6a85d34a72",
        )],
        ..BASE
    },
    Vector {
        source: "Grafana's layout, computed",
        preset: "grafana",
        secret: "secret",
        body: "test message",
        fields: &[(
            "X-Grafana-Alerting-Signature",
            "3bcebf43c85d20bba6e3b6ba278af1d2ba3ab0d57de271b0ad30b833e851c5a6",
        )],
        tag: "X-Grafana-Alerting-Signature",
        ..BASE
    },
    Vector {
        source: "the same with a time, computed",
        preset: "grafana",
        settings: |settings| settings.timestamp_header = Some("X-Timestamp".to_owned()),
        secret: "secret",
        body: "test message",
        fields: &[
            (
                "X-Grafana-Alerting-Signature",
                "ac18a483a582b60a883e974541afe25aa1026136163e94665649743324183ef1",
            ),
            ("X-Timestamp", "0"),
        ],
        now_s: 0,
        tag: "X-Grafana-Alerting-Signature",
        time: "X-Timestamp",
    },
    Vector {
        source: "Linear's layout, computed",
        preset: "linear",
        body: r#"{"action":"create","type":"Issue","webhookTimestamp":1700000000000}"#,
        fields: &[(
            "Linear-Signature",
            "aa09a535b296cde476520ad3e21d1698183766f2baa5e642767d4302251298e7",
        )],
        tag: "Linear-Signature",
        ..BASE
    },
    Vector {
        source: "computed; Sentry's body may be empty",
        preset: "sentry",
        fields: &[(
            "Sentry-Hook-Signature",
            "66a0c074deaa0f489ead6537e0d32f9a344b90bbeda705b6ed45ecd3b413fb40",
        )],
        tag: "Sentry-Hook-Signature",
        ..BASE
    },
    Vector {
        source: "computed; Sentry's old name",
        preset: "sentry",
        body: r#"{"action":"created"}"#,
        fields: &[(
            "Sentry-App-Signature",
            "c9eb5a266404fc8f84b3246ca16036e9e9cae53aa293dee447012040fe078fe9",
        )],
        tag: "Sentry-App-Signature",
        ..BASE
    },
    Vector {
        source: "computed with the key of RFC 8032, test 1",
        preset: "discord",
        secret: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        body: r#"{"type":1}"#,
        fields: &[
            ("X-Signature-Timestamp", "1700000000"),
            (
                "X-Signature-Ed25519",
                "1695961a47c91a1ec033b819b7e87e3dbc583dd0cee6d1fd0216f58ac87b6228ae531ddbf91fb7bc28d7\
                 edf7f08604da16f54624f38a6bc0614e4dc13cd47f0f",
            ),
        ],
        tag: "X-Signature-Ed25519",
        time: "X-Signature-Timestamp",
        ..BASE
    },
    Vector {
        source: "computed",
        preset: "zoom",
        secret: "secret",
        body: r#"{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,"event":"endpoint.url_validation"}"#,
        fields: &[
            ("x-zm-request-timestamp", "1654503849"),
            (
                "x-zm-signature",
                "v0=7e641e5ab35df7be26b939d68bf5f867c8a54ef81ffeb536216748f78c295ef5",
            ),
        ],
        now_s: 1_654_503_849,
        tag: "x-zm-signature",
        time: "x-zm-request-timestamp",
        ..BASE
    },
    Vector {
        source: "computed over the JSON in the form",
        preset: "gitea",
        body: "payload=%7B%22zen%22%3A%22a+b%22%7D",
        fields: &[(
            "X-Gitea-Signature",
            "eee2e0f16aac4c0e51cce7ae291eb5ec26e3eaabc117064787e83ee6d388463a",
        )],
        tag: "X-Gitea-Signature",
        ..BASE
    },
    Vector {
        source: "RFC 2202, case 2",
        preset: "hmac",
        settings: |settings| {
            settings.header = Some("X-Sum".to_owned());
            settings.algorithm = Some("sha1".to_owned());
            settings.encoding = Some("base64".to_owned());
        },
        secret: "Jefe",
        body: "what do ya want for nothing?",
        fields: &[("X-Sum", "7/zfauXrL6LSdBbV8YTfnCWafHk=")],
        tag: "X-Sum",
        ..BASE
    },
    Vector {
        source: "RFC 4231, case 2, SHA-384, secret in hexadecimal digits",
        preset: "hmac",
        settings: |settings| {
            settings.header = Some("X-Sum".to_owned());
            settings.algorithm = Some("sha384".to_owned());
            settings.prefix = Some("sha384=".to_owned());
            settings.key = Some("hex".to_owned());
        },
        secret: "4a656665",
        body: "what do ya want for nothing?",
        fields: &[(
            "X-Sum",
            "sha384=af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78\
             b3239ecfab21649",
        )],
        tag: "X-Sum",
        ..BASE
    },
    Vector {
        source: "computed: all parts of a layout of our own, SHA-512",
        preset: "hmac",
        settings: |settings| {
            settings.header = Some("X-Sum".to_owned());
            settings.algorithm = Some("sha512".to_owned());
            settings.encoding = Some("base64".to_owned());
            settings.signed = Some("{id}.{timestamp}.{body}".to_owned());
            settings.timestamp_header = Some("X-Time".to_owned());
            settings.id_header = Some("X-Id".to_owned());
        },
        body: "{}",
        fields: &[
            ("X-Id", "evt-1"),
            ("X-Time", "1700000000"),
            (
                "X-Sum",
                "quUJQsNGzdIwZocc/hVkx/PbEIqrWbbulMycUZcIXYzUimNuysL5JtKPb6iS/SEqmzPmwTGsaby0XT4OAl/6\
                 Xw==",
            ),
        ],
        tag: "X-Sum",
        time: "X-Time",
        ..BASE
    },
];
