//! The sources that the targets `source` and `sources_file` try: one file of them, and its secrets, which `secrets` holds.
//!
//! Every preset occurs three times: with a secret, with a secret and the operator's own templates, and open.

use std::fmt::Write as _;
use std::path::Path;

use hookcast::sources::{Preset, Sources};

/// The bound of a message's text and session: less than many texts, so that they are cut.
pub const CONTENT_BYTES_MAX: usize = 400;

/// The largest body of a source with its own templates.
pub const OWN_BODY_BYTES_MAX: usize = 1024;

/// The secret of schemes whose secret is a text.
pub const TEXT_SECRET: &str = "swordfish-0f3a9c51e7d24b86";

/// The bytes of the secret of Standard Webhooks, and their base64.
pub const STANDARD_SECRET: &[u8] = b"swordfish-behind-base64!";
pub const STANDARD_SECRET_BASE64: &str = "c3dvcmRmaXNoLWJlaGluZC1iYXNlNjQh";

/// The private half of Discord's key (RFC 8032, section 7.1, test 1).
pub const PRIVATE_KEY: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

/// What an operator may add to a source: loops, filters, faults, and a session of the body.
const OWN_KEYS: &str = r#"gzip = true
max_body = "1KiB"
dedupe = "90s"
events = ["*"]
session = "{{ room }}"
"#;
const OWN_TEMPLATES: &str = r#"default = "{{ source }}/{{ event }}: {{ text|truncate(20) }}{% for k, v in body|items %} {{ k }}={{ v }}{% endfor %}"
"push" = "{{ commits|length }} by {{ pusher.name }}{% for c in commits %}\n{{ c.message|lines|first }}{% endfor %}"
"pay*" = "{{ amount|money(currency) }} {{ ref|branch }} {{ body.a.b.c.d }} {{ body }}"
"fault.*" = "{{ a + b }} {{ list[n] }} {{ n * 3 }} {{ list|join(', ') }} {{ 1 // n }} {{ text|replace(a, b) }}"
"#;

/// The path of a file of sources in the directory of the secrets. The file itself does not exist.
pub fn file() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/secrets/sources.toml"))
}

/// Three sources of each preset, `NAME`, `NAME-own` and `NAME-open`.
pub fn sources() -> Sources {
    let text: String = Preset::all().iter().map(tables).collect();
    let loaded = Sources::parse(&text, file(), CONTENT_BYTES_MAX);
    loaded.unwrap_or_else(|faults| panic!("{faults}")).sources
}

fn tables(preset: &Preset) -> String {
    let name = preset.name;
    let secret = match name {
        "standard" => "standard",
        "discord" => "public",
        _ => "text",
    };
    let settings = match name {
        "hmac" => {
            "header = \"X-Sum\"\nprefix = \"s=\"\nencoding = \"base64\"\nalgorithm = \"sha512\"\nsigned = \"{timestamp}.{id}.{body}\"\ntimestamp_header = \"X-Time\"\nid_header = \"X-Id\"\n"
        }
        "token" => "header = \"Authorization\"\nquery = \"secret\"\n",
        _ => "",
    };
    let mut tables = String::new();
    let closed = format!("preset = \"{name}\"\n{settings}secret_files = [\"{secret}\"]\n");
    let open = format!("preset = \"{name}\"\n{settings}verify = false\n");
    let _ = write!(tables, "[{name}]\n{closed}");
    let _ = write!(
        tables,
        "[{name}-own]\n{closed}{OWN_KEYS}[{name}-own.templates]\n{OWN_TEMPLATES}"
    );
    let _ = write!(tables, "[{name}-open]\n{open}gzip = true\n");
    tables
}
