//! The filters that templates have beside minijinja's own.
//!
//! Used by templates. Each takes any value, also a missing one, which prints nothing.

use std::fmt::{self, Write};

use minijinja::value::Value;
use minijinja::{Environment, Error, State};

use super::{CUT, boundary_below, slack};
use crate::limits::TEMPLATE_BYTES_MAX;

/// Bytes of text for one unit of fuel, as minijinja counts.
const FUEL_BYTES: u64 = 64;

/// Currencies whose smallest unit is the whole one (ISO 4217), as Stripe lists them.
const WITHOUT_CENTS: [&str; 16] = [
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv",
    "xaf", "xof", "xpf",
];

/// Currencies whose smallest unit is a thousandth.
const WITH_MILLS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

/// Adds the filters.
pub fn add(environment: &mut Environment<'_>) {
    environment.add_filter("truncate", truncate);
    environment.add_filter("lines", lines);
    environment.add_filter("money", money);
    environment.add_filter("branch", branch);
    environment.add_filter("slack", slack_text);
}

/// `truncate(n)`: at most `n` characters. `…` stands for the rest.
fn truncate(state: &State, value: &Value, characters_max: usize) -> Result<String, Error> {
    let text = text_of(state, value)?;
    match text.char_indices().nth(characters_max) {
        None => Ok(text),
        Some(_) => {
            let kept: String = text
                .chars()
                .take(characters_max.saturating_sub(1))
                .collect();
            Ok(kept.trim_end().to_owned() + CUT.encode_utf8(&mut [0; 4]))
        }
    }
}

/// `lines`: the lines of a text. Like minijinja's, but a missing text has none.
fn lines(state: &State, value: &Value) -> Result<Vec<Value>, Error> {
    let text = text_of(state, value)?;
    Ok(text.lines().map(Value::from).collect())
}

/// `money(currency)`: an amount in the currency's smallest unit, such as cents. `2000|money("usd")` is
/// `20.00 USD`.
fn money(state: &State, value: &Value, currency: &Value) -> Result<String, Error> {
    let (currency, amount) = (text_of(state, currency)?, value.as_i64());
    let Some(amount) = amount else {
        return Ok(String::new());
    };
    let digits = match currency.to_ascii_lowercase() {
        name if WITHOUT_CENTS.contains(&name.as_str()) => 0,
        name if WITH_MILLS.contains(&name.as_str()) => 3,
        _ => 2,
    };
    let sign = if amount < 0 { "-" } else { "" };
    let scale = 10_u64.pow(digits);
    let (whole, rest) = (amount.unsigned_abs() / scale, amount.unsigned_abs() % scale);
    let fraction = match digits {
        0 => String::new(),
        digits => format!(".{rest:0width$}", width = digits as usize),
    };
    Ok(
        format!("{sign}{whole}{fraction} {}", currency.to_uppercase())
            .trim_end()
            .to_owned(),
    )
}

/// `branch`: the name in a Git reference. `refs/heads/main` is `main`.
fn branch(state: &State, value: &Value) -> Result<String, Error> {
    let name = text_of(state, value)?;
    let short = ["refs/heads/", "refs/tags/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix));
    Ok(short.unwrap_or(&name).to_owned())
}

/// `slack`: Slack's markup as plain text. `<https://a.example|link>` is `link (https://a.example)`.
fn slack_text(state: &State, value: &Value) -> Result<String, Error> {
    Ok(slack::plain(&text_of(state, value)?))
}

/// The text of a value, paid for: a large one must not be copied often.
fn text_of(state: &State, value: &Value) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(String::new());
    }
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64 / FUEL_BYTES)?;
        return Ok(text.to_owned());
    }
    if let Some(values) = value.len() {
        state.consume_fuel(TEMPLATE_BYTES_MAX as u64 / FUEL_BYTES + values as u64)?;
    }
    let mut text = ShortText(String::new());
    // The text of a list or a map may be long. What does not fit is left out.
    let _ = write!(text, "{value}");
    Ok(text.0)
}

/// A text that ends at [`TEMPLATE_BYTES_MAX`].
struct ShortText(String);

impl fmt::Write for ShortText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = TEMPLATE_BYTES_MAX - self.0.len();
        self.0.push_str(&part[..boundary_below(part, room)]);
        if part.len() > room {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
