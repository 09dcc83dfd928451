//! The chat window: the page at `/`, and `hookcast.js` for other pages.
//!
//! The files beside this one are part of the binary. They are hashed and compressed once, by
//! [`prepare`] at start or else by the first request. Shards call [`answer`] with a path and send the
//! result. This module never does I/O and knows no connections.
//!
//! The page refers to its parts below `assets/<hash>/`; the hash covers all files. The content of such a
//! URL never changes, so it is cached without revalidation, and the modules of one version import only
//! each other. `/` and `/hookcast.js` are revalidated on each use, usually with a 304. A URL with the hash
//! of another version gets the files of this version, with revalidation: behind a load balancer, page and
//! parts may come from two versions during an upgrade.

use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::{accepts_gzip, etag};

/// Files that are served without a hash in the URL: the module for other pages with its types, and the
/// icon that browsers request when they display an answer of the API.
const PUBLIC: [(&str, &str); 3] = [
    ("hookcast.js", "hookcast.js"),
    (TYPES, TYPES),
    ("favicon.ico", "favicon.svg"),
];

/// The types of `hookcast.js`, for editors and compilers; no page loads them.
const TYPES: &str = "hookcast.d.ts";

/// The parts of the page, by their names below `assets/<hash>/`.
const PARTS: [(&str, &str, &[u8]); 28] = [
    ("access.js", SCRIPT, include_bytes!("access.js")),
    ("app.js", SCRIPT, include_bytes!("app.js")),
    ("copy.js", SCRIPT, include_bytes!("copy.js")),
    ("elements.js", SCRIPT, include_bytes!("elements.js")),
    ("expiry.js", SCRIPT, include_bytes!("expiry.js")),
    ("export.js", SCRIPT, include_bytes!("export.js")),
    ("favicon.svg", IMAGE, include_bytes!("favicon.svg")),
    ("feed.js", SCRIPT, include_bytes!("feed.js")),
    ("history.js", SCRIPT, include_bytes!("history.js")),
    (TYPES, TEXT, include_bytes!("hookcast.d.ts")),
    ("hookcast.js", SCRIPT, include_bytes!("hookcast.js")),
    ("json.js", SCRIPT, include_bytes!("json.js")),
    ("render.js", SCRIPT, include_bytes!("render.js")),
    ("samples.js", SCRIPT, include_bytes!("samples.js")),
    ("search.js", SCRIPT, include_bytes!("search.js")),
    ("send.js", SCRIPT, include_bytes!("send.js")),
    ("session.js", SCRIPT, include_bytes!("session.js")),
    ("share.js", SCRIPT, include_bytes!("share.js")),
    ("shown.js", SCRIPT, include_bytes!("shown.js")),
    ("simulate.js", SCRIPT, include_bytes!("simulate.js")),
    ("sources.js", SCRIPT, include_bytes!("sources.js")),
    ("status.js", SCRIPT, include_bytes!("status.js")),
    ("style.css", STYLE, include_bytes!("style.css")),
    ("text.js", SCRIPT, include_bytes!("text.js")),
    ("theme.js", SCRIPT, include_bytes!("theme.js")),
    ("timeline.js", SCRIPT, include_bytes!("timeline.js")),
    ("tree.js", SCRIPT, include_bytes!("tree.js")),
    ("worker.js", SCRIPT, include_bytes!("worker.js")),
];
const PAGE: &str = include_str!("index.html");

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The type of the `.d.ts` file. The type that is registered for `.ts` is a video's.
const TEXT: &str = "text/plain; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Stored, but revalidated on each use (RFC 9111 section 5.2.2.4).
const REVALIDATE: &str = "no-cache";
/// For URLs with the hash of the content (RFC 8246).
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// On every answer. The page may load its own files and connect to its own server, nothing else.
/// Trusted Types keep strings from becoming markup or script. Their one policy lets the page start
/// scripts of its own site by URL. The URL of the page may hold a session id, so no referrer is
/// sent to other sites.
const SECURITY: [(&str, &str); 4] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types default",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
];

/// The answer for a path: status, header fields and body.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Whether the client's copy is current: status 304, no body.
    pub not_modified: bool,
    /// The body, encoded as [`headers`](Answer::headers) say; empty for a 304.
    pub body: &'static [u8],
    etag: &'static str,
    cache_control: &'static str,
    content_type: &'static str,
    gzip: bool,
}

impl Answer {
    /// The header fields of the file. `Date`, `Content-Length`, CORS and those of the connection are added
    /// by the HTTP layer. A 304 has the fields that RFC 9110 section 15.4.5 requires.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let always = [
            ("ETag", self.etag),
            ("Cache-Control", self.cache_control),
            ("Vary", "Accept-Encoding"),
        ];
        let content = (!self.not_modified).then_some(("Content-Type", self.content_type));
        let coding = (!self.not_modified && self.gzip).then_some(("Content-Encoding", "gzip"));
        always
            .into_iter()
            .chain(content)
            .chain(coding)
            .chain(SECURITY)
    }
}

/// Hashes and compresses the files, about 5 ms. Without this call, the first [`answer`] does so.
pub fn prepare() {
    LazyLock::force(&FILES);
}

/// Whether there is a file at `path` (without its query).
pub fn exists(path: &str) -> bool {
    FILES.find(path).is_some()
}

/// The answer to a `GET` or `HEAD` of `path` (without its query), or `None` if there is no file.
///
/// `accept_encoding` and `if_none_match` are the request's header fields of these names.
pub fn answer(
    path: &str,
    accept_encoding: Option<&str>,
    if_none_match: Option<&str>,
) -> Option<Answer> {
    let (file, cache_control) = FILES.find(path)?;
    let gzip = accept_encoding.is_some_and(accepts_gzip);
    let (tag, body) = if gzip { &file.gzip } else { &file.plain };
    let not_modified = if_none_match.is_some_and(|tags| etag::any_matches(tags, tag));
    Some(Answer {
        not_modified,
        body: if not_modified { &[] } else { body },
        etag: tag,
        cache_control,
        content_type: file.content_type,
        gzip,
    })
}

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

struct Files {
    version: String,
    page: File,
    parts: Vec<File>,
}

impl Files {
    fn new() -> Files {
        let mut hasher = DefaultHasher::new();
        hasher.write(PAGE.as_bytes());
        for (name, _, content) in PARTS {
            hasher.write(name.as_bytes());
            hasher.write(content);
        }
        let version = format!("{:016x}", hasher.finish());
        // Relative, so that the page works below a path prefix too.
        let page = PAGE.replace("=\"./", &format!("=\"assets/{version}/"));
        Files {
            page: File::new("", HTML, page.into_bytes()),
            parts: PARTS
                .map(|(name, kind, body)| File::new(name, kind, body.to_vec()))
                .into(),
            version,
        }
    }

    fn find(&self, path: &str) -> Option<(&File, &'static str)> {
        let path = path.strip_prefix('/')?;
        if path.is_empty() {
            return Some((&self.page, REVALIDATE));
        }
        if let Some((_, name)) = PUBLIC.iter().find(|(address, _)| *address == path) {
            return Some((self.part(name)?, REVALIDATE));
        }
        let (version, name) = path.strip_prefix("assets/")?.split_once('/')?;
        let cache_control = if version == self.version {
            FOR_GOOD
        } else {
            REVALIDATE
        };
        Some((self.part(name)?, cache_control))
    }

    fn part(&self, name: &str) -> Option<&File> {
        self.parts.iter().find(|file| file.name == name)
    }
}

/// A file, plain and compressed, each with its entity tag (RFC 9110 section 8.8.3).
struct File {
    name: &'static str,
    content_type: &'static str,
    plain: (String, Vec<u8>),
    gzip: (String, Vec<u8>),
}

impl File {
    fn new(name: &'static str, content_type: &'static str, body: Vec<u8>) -> File {
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        let hash = hasher.finish();
        File {
            name,
            content_type,
            gzip: (format!("\"{hash:016x}-gzip\""), compress(&body)),
            plain: (format!("\"{hash:016x}\""), body),
        }
    }
}

/// Compresses with gzip. Brotli would save another eighth (3 of 24 KiB, on the first visit alone), but
/// its crate adds 1.1 MB to the binary and 90 ms to the start.
fn compress(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("memory takes every byte")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn header(answer: &Answer, name: &str) -> Option<&'static str> {
        answer
            .headers()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn get(path: &str) -> Answer {
        answer(path, None, None).unwrap_or_else(|| panic!("nothing at {path}"))
    }

    fn references(text: &str, before: &str) -> Vec<String> {
        let ends = |rest: &str| rest.find(['"', '\'']).map(|end| rest[..end].to_owned());
        text.split(before).skip(1).filter_map(ends).collect()
    }

    #[test]
    fn every_reference_of_the_page_and_its_modules_is_served_and_cached_for_good() {
        let page = String::from_utf8(get("/").body.to_vec()).unwrap();
        let parts = references(&page, "=\"assets/");
        assert!(parts.len() > 3, "{parts:?}");
        for part in &parts {
            let script = get(&format!("/assets/{part}"));
            assert_eq!(header(&script, "Cache-Control"), Some(FOR_GOOD), "{part}");
            let (version, _) = part.split_once('/').unwrap();
            let text = String::from_utf8_lossy(script.body);
            for import in ["from './", "import('./"]
                .map(|before| references(&text, before))
                .concat()
            {
                get(&format!("/assets/{version}/{import}"));
            }
        }
        assert!(!page.contains("\"./"), "a reference without a hash");
    }

    #[test]
    fn the_page_and_urls_without_the_current_hash_are_revalidated() {
        for path in [
            "/",
            "/hookcast.js",
            "/hookcast.d.ts",
            "/favicon.ico",
            "/assets/0123456789abcdef/app.js",
        ] {
            assert_eq!(
                header(&get(path), "Cache-Control"),
                Some(REVALIDATE),
                "{path}"
            );
        }
    }

    #[test]
    fn paths_of_other_files_are_not_served() {
        for path in [
            "",
            "*",
            "/index.html",
            "/app.js",
            "/assets",
            "/assets/",
            "/assets/x",
            "/assets/x/",
            "/assets/x/index.html",
            "/assets/x/../app.js",
            "/assets/x/mod.rs",
            "//hookcast.js",
        ] {
            assert!(answer(path, None, None).is_none(), "{path}");
        }
    }

    #[test]
    fn gzip_is_sent_if_accepted_and_unpacks_to_the_plain_file() {
        let plain = get("/hookcast.js");
        let packed = answer("/hookcast.js", Some("br, gzip;q=0.8"), None).unwrap();
        assert_eq!(header(&packed, "Content-Encoding"), Some("gzip"));
        assert_eq!(header(&plain, "Content-Encoding"), None);
        assert_ne!(header(&packed, "ETag"), header(&plain, "ETag"));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.body)
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain.body);
    }

    #[test]
    fn a_known_tag_is_answered_with_304_and_no_body() {
        let etag = header(&get("/"), "ETag").unwrap();
        for known in [
            etag.to_owned(),
            format!("W/{etag}"),
            format!("\"x\", {etag}"),
            "*".into(),
        ] {
            let answer = answer("/", None, Some(&known)).unwrap();
            assert!(answer.not_modified && answer.body.is_empty(), "{known}");
            assert_eq!(header(&answer, "ETag"), Some(etag));
            assert_eq!(header(&answer, "Content-Type"), None);
        }
        // Neither the tag of the compressed form nor any other text matches.
        for unknown in ["", "\"x\"", etag.trim_matches('"')] {
            assert!(
                !answer("/", None, Some(unknown)).unwrap().not_modified,
                "{unknown}"
            );
        }
        assert!(!answer("/", Some("gzip"), Some(etag)).unwrap().not_modified);
    }

    #[test]
    fn every_answer_has_the_security_headers() {
        for path in ["/", "/hookcast.js", "/assets/x/worker.js"] {
            let policy = header(&get(path), "Content-Security-Policy").unwrap();
            assert!(
                policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert_eq!(
                header(&get(path), "X-Content-Type-Options"),
                Some("nosniff")
            );
        }
        assert!(
            !PAGE.contains("<style") && !PAGE.contains(" style=") && !PAGE.contains(" onclick")
        );
    }

    /// The modules that the page imports only if there is a source to simulate.
    const ON_DEMAND: [&str; 2] = ["samples.js", "simulate.js"];

    /// The size of a first visit: (bytes, bytes on the wire).
    fn weight() -> (usize, usize) {
        let is_loaded = |file: &&File| file.name != TYPES && !ON_DEMAND.contains(&file.name);
        let files = FILES.parts.iter().filter(is_loaded);
        files
            .chain([&FILES.page])
            .fold((0, 0), |(plain, packed), file| {
                (plain + file.plain.1.len(), packed + file.gzip.1.len())
            })
    }

    #[test]
    fn a_first_visit_loads_no_more_than_138_kib_and_52_on_the_wire() {
        let (plain, packed) = weight();
        println!("{plain} bytes, {packed} on the wire");
        assert!(plain < 138 * 1024, "{plain} bytes");
        assert!(packed < 52 * 1024, "{packed} bytes on the wire");
    }

    /// The package that `npm pack` makes of this directory.
    #[test]
    fn the_npm_package_has_the_version_and_licence_of_the_crate() {
        let package: serde_json::Value =
            serde_json::from_str(include_str!("package.json")).unwrap();
        assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(package["license"], env!("CARGO_PKG_LICENSE"));
        assert_eq!(include_str!("LICENSE"), include_str!("../../LICENSE"));
    }
}
