//! placeholder until the chat window lands
use crate::http::Asset;
/// Whether there is a file.
pub fn is_asset(path: &str) -> bool {
    path == "/"
}
/// The file.
pub fn asset(path: &str, _accept_encoding: Option<&[u8]>) -> Option<Asset<'static>> {
    is_asset(path).then_some(Asset {
        content_type: "text/html",
        content_encoding: None,
        cache_control: "no-cache",
        content_security_policy: None,
        etag: "\"0\"",
        body: b"hookcast",
    })
}
