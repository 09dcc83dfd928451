use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = std::fs::read("token.key")?;
    let key = EncodingKey::from_secret(secret.trim_ascii_end())?;
    let exp = get_current_timestamp() + 600;
    let claims = json!({ "exp": exp, "hookcast": { "sessions": ["ana"] } });
    println!("{}", encode(&Header::default(), &claims, &key)?);
    Ok(())
}
